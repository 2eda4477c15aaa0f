"""What was there before: sessions that kept themselves, one left for another model, one in a folder."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import traitlets as t

from workbench.data.claims import in_use
from workbench.session import store
from workbench.session.autosave import Autosave, Run, examples_of, key_of, runs, taken_up
from workbench.session.kept_in import root_folder
from workbench.session.recipe import RecipeError
from workbench.session.session import GIVEN, Session
from workbench.widgets.folders import folder_for
from workbench.widgets.jobs import Delivery, Reporter, Worker
from workbench.widgets.load_form import own_session
from workbench.widgets.traits import synced

OFFERED = 3  # earlier sessions, at most
LEFT = "left"  # what the session is called that was left for another model
# What is set and shown beside the session, and comes back with it.
SET = ("selected", "theta", "selection", "reconstruction", "reestimate", "follow", "lam", "width")
PLANNED = ("widths", "locks", "budget_lam", "goal", "ways")
FOUND = ("comparison", "sweep")  # each with the revision that it is of
LOSING = (  # commands whose step is lost where the process ends before they do
    "measure", "commit", "commit_plan", "finetune", "refit", "undo", "redo", "reset", "goto", "fork",
    "switch", "drop", "plan", "compare", "sweep_groups",
)  # fmt: skip


@dataclass(frozen=True)
class _Left:
    """A session that was left for another model, with what was beside it, and its run."""

    session: Session
    how: dict[str, Any]
    screen: dict[str, Any]
    folder: Path | None


class Recovery(t.HasTraits):
    """The part of the shared state that keeps the session by itself, and brings back what was there.

    `offers`: earlier sessions, each with `run`, under which it is taken up, its `words`, and in `lost` what
    ended with it. `kept`: empty, or why the session is not kept by itself.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "take_up": ("run",),
        "put_off": (),
        "open_saved": ("folder", "take_over", "read_only"),
    }
    PLACES: ClassVar[dict[str, str]] = {"open_saved": "export"}
    AT_ONCE: ClassVar[tuple[str, ...]] = ("put_off",)

    offers = synced(t.List)
    kept = synced(t.Unicode)

    session: Session | None
    revision: Any
    procedure: Any
    own: Any
    branch: Any
    position: Any
    _current: Any
    _deliver: Delivery
    _set: Callable[[dict], None]
    _start: Callable[..., None]
    _note: Callable[[str], None]
    _take: Callable[..., None]

    def _begin_recovery(self, autosave: bool | str | Path) -> None:
        self._root = root_folder(autosave)
        self._saves: Autosave | None = None
        self._how: dict[str, Any] = {}
        self._offered: dict[str, Run] = {}
        self._left_one: _Left | None = None
        self._looks = Worker("workbench-recovery", newest_only=True)
        self.observe(lambda change: self._keep_screen(), [*SET, *PLANNED, *FOUND])

    # Keeping

    def _keep(self, session: Session, how: Mapping[str, Any], after: Path | None = None) -> None:
        """Keep `session`, which is shown from now on; the one before stays as it was kept."""
        self._keep_no_more()
        self._how = dict(how)
        self._set({"kept": ""})
        if self._root is not None:
            self._saves = Autosave(session, self._root, how, self._say_kept, after)

    def _keep_no_more(self) -> None:
        saves, self._saves = self._saves, None
        if saves is not None:
            saves.close()

    def _say_kept(self, words: str) -> None:
        self._deliver(lambda: self._set({"kept": words}))

    def _keep_screen(self) -> None:
        if self._saves is not None and self.session is not None:
            self._saves.keep(self._screen())

    def _screen(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in (*SET, *PLANNED)}
        found = {name: getattr(self, name) for name in FOUND}
        now = {name: value for name, value in found.items() if value.get("revision") == self.revision}
        return values | {"at": [self.branch, self.position], "found": now}

    def _bring_back(self, screen: Mapping[str, Any]) -> None:
        """Set and show again what was beside a session that is shown."""
        session = self._current
        names = {group.name for group in session.groups}
        values = {name: screen[name] for name in (*SET, *PLANNED) if name in screen}
        if screen.get("at") == [session.branch, session.position]:
            found = {name: value for name, value in dict(screen.get("found", {})).items() if name in FOUND}
            values |= {name: {**value, "revision": self.revision} for name, value in found.items()}
        if values.get("selected") not in names or not names.issuperset(values.get("widths", ())):
            return  # written beside another state
        try:
            self._set(values)
        except t.TraitError:
            return  # not as this version writes it

    def _doing(self, command: str, what: str) -> None:
        if self._saves is not None and command in LOSING:
            self._saves.doing(what)

    # Offering

    def _look_back(self, session: Session) -> None:
        """Look for what may be taken up in the place of `session`, which has no steps yet."""
        self._looks.submit(lambda: self._find_offers(session))

    def _find_offers(self, session: Session) -> None:
        found: dict[str, Run] = {}
        offers: list[dict[str, str]] = []
        mine = {None if self._saves is None else self._saves.folder}
        left = self._left_one
        if left is not None:
            offers.append(
                {"run": LEFT, "words": f"{_brief(left.session)}, left for another model", "lost": ""}
            )
            mine.add(left.folder)
        if self._root is not None and not has_steps(session):
            key, now = key_of(session), time.time()
            for run in runs(self._root):
                fits = run.about.key == key
                if run.folder not in mine and (fits or run.about.how) and len(found) < OFFERED:
                    found[run.folder.name] = run
                    offers.append(_offer(run, now, fits and run.about.examples != examples_of(session)))
        self._deliver(lambda: self._show_offers(session, offers, found))

    def _show_offers(self, session: Session, offers: list, found: dict[str, Run]) -> None:
        if session is self.session:
            self._offered = found
            self._set({"offers": offers})

    def put_off(self) -> None:
        """Offer nothing more; what was kept stays where it is."""
        self._left_one = None
        self._set({"offers": []})

    # Bringing back

    def take_up(self, run: str) -> None:
        """Go on with an earlier session of `offers`, in the place of the present one."""
        if run == LEFT and self._left_one is not None:
            left = self._left_one

            def back(progress: Reporter, cancel: Event) -> None:
                self._take(left.session, left.how, left.folder, left.screen)

            self._start("take_up", f"back to {left.session.name}", back)
            return
        if run not in self._offered:
            raise ValueError(f"no earlier session {run!r} is offered")
        found = self._offered[run]

        def work(progress: Reporter, cancel: Event) -> None:
            about = found.about
            ground = self.session
            if ground is None or key_of(ground) != about.key:
                ground = self._ground_of(about.how, progress, cancel)
            session = taken_up(found, ground)
            self._take(session, about.how, None if found.open else found.folder, about.screen)
            lost = f"; lost: {about.doing}" if about.doing else ""
            self._note(f"Taken up: {found.words(time.time())}{lost}")

        self._start("take_up", f"taking up {found.about.name}", work)

    def _ground_of(self, how: Mapping[str, Any], progress: Reporter, cancel: Event) -> Session:
        if "example" in how:
            return Session.example(str(how["example"]), progress=progress, cancel=cancel)
        if "form" in how:
            return own_session(how["form"], self.procedure, progress)
        raise ValueError("load the model and the data of this session first, then take it up")

    def open_saved(self, folder: str | Path, take_over: bool = False, read_only: bool = False) -> None:
        """The session saved in `folder` in place of the present one; asks where it is open elsewhere."""

        def work(progress: Reporter, cancel: Event) -> None:
            where = folder_for("" if self.session is None else self.session.name, folder)
            other = in_use(where)
            if other is not None and not take_over and not read_only:
                words = f"{where} is open in another notebook or program ({other})."
                question = {
                    "command": "open_saved",
                    "words": words,
                    "yes": "Take over",
                    "no": "Open read-only",
                }
                self._deliver(lambda: self._set({"question": question}))
                return
            session, how = self._saved_in(where, progress, cancel)
            with warnings.catch_warnings(record=True):  # said below
                session.claim(where, take_over)
            self._take(session, how)
            self._note(session.read_only or f"Opened {where}")

        self._start("open_saved", "opening the session", work)

    def _saved_in(self, folder: Path, progress: Reporter, cancel: Event) -> tuple[Session, dict[str, Any]]:
        saved = store.read(folder)
        recipe, session = saved.recipe, self.session
        if session is not None and _is_of(recipe, session):
            return session.as_saved(saved), self._how
        example = recipe["model"].get("example")
        if example:
            found = Session.open(folder, progress=progress, cancel=cancel)
            return found, {"example": example}
        name, data = recipe["model"].get("name") or "a model", recipe.get("data") or "data without a name"
        raise RecipeError(
            f"{folder} holds a session of {name} on {data}: load these first (Load…), then open it"
        )

    # Leaving

    def _set_aside(self, session: Session) -> None:
        """Keep what is left for `session` one click away, where it has steps."""
        before, left = self.session, self._left_one
        if left is not None and left.session is session:
            self._left_one = None
        if before is not None and before is not session and has_steps(before):
            folder = None if self._saves is None else self._saves.folder
            self._left_one = _Left(before, self._how, self._screen(), folder)


def way_of(session: Session) -> dict[str, Any]:
    """How the network and the data of a session that was given come back by themselves, if they do."""
    own_data = session.example_name and session.data_name not in ("", GIVEN)
    return {"example": session.example_name} if own_data else {}


def has_steps(session: Session) -> bool:
    """Whether anything was done that would be lost."""
    return any(len(steps) > 1 for steps in session.branches.values())


def _is_of(recipe: Mapping[str, Any], session: Session) -> bool:
    mine = session.recipe
    same = recipe["model"]["fingerprint"] == mine["model"]["fingerprint"]
    return bool(same and recipe.get("data", "") == session.data_name)


def _brief(session: Session) -> str:
    steps = max(len(steps) for steps in session.branches.values()) - 1
    branches = len(session.branches)
    words = f"{session.name}, {steps} step{'s' * (steps != 1)}"
    return words + (f", {branches} branches" if branches > 1 else "")


def _offer(run: Run, now: float, other_examples: bool) -> dict[str, str]:
    words = run.words(now)
    words += ", on other examples" if other_examples else ""
    words += ", open elsewhere" if in_use(run.folder) else ""
    return {"run": run.folder.name, "words": words, "lost": run.about.doing}
