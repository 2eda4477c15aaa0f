"""When a page has painted: within the frame after a change, or later; and what work that took, by frames."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

# Resolves once the frame after a change is drawn.
PAINTED = """
  const painted = () => new Promise(done => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now());
    channel.port2.postMessage(0);
  }));
"""

WORK = ("UpdateLayoutTree", "Layout")
CATEGORIES = (
    "devtools.timeline",
    "disabled-by-default-devtools.timeline",
    "disabled-by-default-devtools.timeline.stack",
)


def script_seconds(page: Page, act: Callable[[], None]) -> float:
    """Seconds that the page's scripts run while `act` runs, by the browser's own counter."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def spent() -> float:
        found = session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in found if one["name"] == "ScriptDuration")

    before = spent()
    act()
    after = spent()
    session.detach()
    return after - before


def traced(page: Page, act: Callable[[], None]) -> list[dict[str, Any]]:
    """What the browser did in each frame while `act` ran.

    Each frame has the events of style and layout that its drawing took, by name, and `forced`: the addresses
    of the scripts that asked for a style or a layout before the frame was drawn; `all`: these and those.
    """
    events: list[dict[str, Any]] = []
    ended: list[bool] = []
    session = page.context.new_cdp_session(page)
    session.on("Tracing.dataCollected", lambda sent: events.extend(sent["value"]))
    session.on("Tracing.tracingComplete", lambda sent: ended.append(True))
    session.send("Tracing.start", {"traceConfig": {"includedCategories": list(CATEGORIES)}})
    act()
    session.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(50)
    session.detach()
    return _by_frame(sorted((one for one in events if "ts" in one), key=lambda one: one["ts"]))


def _threads_of(events: list[dict[str, Any]], name: str) -> set[tuple[int, int]]:
    return {(one["pid"], one["tid"]) for one in events if one["name"] == name}


def _by_frame(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    threads = set().union(*(_threads_of(events, name) for name in ("FireAnimationFrame", *WORK)))
    frames: list[dict[str, Any]] = []
    frame: dict[str, Any] = {"forced": [], "all": [], **{name: [] for name in WORK}}
    for event in events:
        if (event["pid"], event["tid"]) not in threads or event["ph"] not in ("X", "B"):
            continue
        if event["name"] == "Commit":
            frames.append(frame)
            frame = {"forced": [], "all": [], **{name: [] for name in WORK}}
        elif event["name"] in WORK:
            frame["all"].append(event)
            stack = event["args"].get("beginData", {}).get("stackTrace")
            if stack:
                frame["forced"].append(
                    " ".join(f"{one['url']}:{one['functionName']}:{one['lineNumber']}" for one in stack)
                )
            else:
                frame[event["name"]].append(event)
    return [*frames, frame] if frame["all"] else frames


def amount(frames: list[dict[str, Any]]) -> tuple[int, int]:
    """How many elements got a style in `frames`, asked for or not, and how many boxes were laid out."""
    done = [event["args"] for frame in frames for event in frame["all"]]
    styled = sum(args.get("elementCount", 0) for args in done)
    return styled, sum(args["beginData"].get("dirtyObjects", 0) for args in done if "beginData" in args)


def whole(frame: dict[str, Any]) -> bool:
    """Whether the whole page was laid out in this frame."""
    return any(not one["args"]["beginData"]["partialLayout"] for one in frame["Layout"])
