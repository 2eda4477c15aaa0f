"""The network tab in the kernel: boxes and lines of the network, and what lays them out in the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import traitlets as t

from workbench.network.flow import ADD, INPUT, JOINTS, LAYER, Flow, flow_of
from workbench.network.groups import UnitGroup
from workbench.session.looking import running_network
from workbench.session.session import Session
from workbench.widgets.jobs import Delivery, Worker
from workbench.widgets.traits import synced

TAB = "network"
VENDOR = Path(__file__).parent / "vendor"
GROUP, WRITER, PLAIN = "group", "writer", "plain"  # boxes
READ, STREAM = "read", "stream"  # lines, beside the kinds of joints


class Networks(t.HasTraits):
    """The part of the shared state that draws the network.

    `network`: "nodes" and "edges" as `picture_of_flow` gives them, with the "revision" at which the network
    was looked at; its widths are in `layers`. `layouter` is the text of a module that finds places for them,
    sent when a tab is opened for the first time: the page starts without it.
    """

    PLACES: ClassVar[dict[str, str]] = {"network": "network"}

    network = synced(t.Dict)
    layouter = synced(t.Unicode)

    session: Session | None
    revision: Any
    _looks_at: Callable[[str], bool]
    _deliver: Delivery
    _set: Callable[[dict], None]
    _fail: Callable[[str, BaseException], None]

    def _begin_networks(self) -> None:
        self._networks = Worker("workbench-network", newest_only=True)
        self._drawn: tuple[Any, ...] = ()

    def _no_network(self) -> dict:
        """Values for another session."""
        self._drawn = ()
        return {"network": {}}

    @t.observe("tab", "tabs", "revision")
    def _on_network(self, change: dict) -> None:
        self._ask_network()

    def _ask_network(self) -> None:
        """The picture of the network that is there, in the background, while it is looked at."""
        session = self.session
        if session is None or not self._looks_at(TAB):
            return
        groups = tuple(group.name for group in session.groups)
        if self._drawn == (session, groups):  # a commit changes widths, and no line
            return
        self._drawn = (session, groups)
        revision = self.revision
        self._networks.submit(lambda: self._draw(session, revision))

    def _draw(self, session: Session, revision: int) -> None:
        try:
            values = network_values(session) | {"revision": revision}
        except BaseException as error:
            self._drawn = ()
            self._fail("network", error)
            return
        self._deliver(lambda: self._show_network(session, values))

    def _show_network(self, session: Session, values: dict) -> None:
        if session is self.session:
            self._set({"network": values, "layouter": layouter()})


@cache
def layouter() -> str:
    """The module that lays boxes out in layers: dagre, as its makers publish it, with its licence."""
    licence = (VENDOR / "dagre.esm.js.LEGAL.txt").read_text(encoding="utf-8")
    code = (VENDOR / "dagre.esm.js").read_text(encoding="utf-8")
    return licence + "\n".join(line for line in code.split("\n") if not line.startswith("//# sourceMapping"))


def network_values(session: Session) -> dict[str, Any]:
    """The session's present network as a picture; one pass on its example input. See `picture_of_flow`."""
    groups = session.groups
    layers = {writer.module for group in groups for writer in group.writers}
    layers |= {reader.module for group in groups for reader in group.readers}
    flow = flow_of(running_network(session), layers, session.example_input)
    return picture_of_flow(flow, groups)


def picture_of_flow(flow: Flow, groups: Sequence[UnitGroup]) -> dict[str, Any]:
    """What the page draws.

    Args:
        flow: the graph of all writers and readers.
        groups: of the same network.

    Returns:
        "nodes", [kind, module, group] each: a "group" stands where its first writer is, a "writer" where
        another layer writes into it, "plain" is a layer of no group; else the kinds of `network.flow`.
        "edges", [from, to, kind] by places in "nodes": "read" into a layer, "stream" where a group of several
        writers is added up, else the kind of the joint that it leads into.
    """
    writes: dict[str, list[UnitGroup]] = {}
    for group in groups:
        for writer in group.writers:
            writes.setdefault(writer.module, []).append(group)
    nodes: list[list[str]] = []
    places: list[list[int]] = []  # of each node of the flow; a layer that begins several groups has several
    for node in flow.nodes:
        boxes = (
            _boxes(node.module, writes.get(node.module, [])) if node.kind == LAYER else [[node.kind, "", ""]]
        )
        places.append(list(range(len(nodes), len(nodes) + len(boxes))))
        nodes += boxes
    carried = _carried(flow, writes)
    several = {group.name for group in groups if len(group.writers) > 1}
    read = {(group.name, reader.module) for group in groups for reader in group.readers}
    edges: list[list[Any]] = []
    for start, end in flow.edges:
        kind, module = flow.nodes[end].kind, flow.nodes[end].module
        if kind == ADD and carried[start] & carried[end] & several:
            kind = STREAM
        elif kind not in JOINTS:
            kind = READ
        mine = [one for one in places[start] if (nodes[one][2], module) in read]
        edges += [[a, b, kind] for a in mine or places[start] for b in places[end]]
    return {"nodes": nodes, "edges": edges}


def _boxes(module: str, groups: Sequence[UnitGroup]) -> list[list[str]]:
    begun = [group.name for group in groups if group.writers[0].module == module]
    if begun:
        return [[GROUP, module, name] for name in begun]
    return [[WRITER, module, groups[0].name] if groups else [PLAIN, module, ""]]


def _carried(flow: Flow, writes: dict[str, list[UnitGroup]]) -> list[frozenset[str]]:
    """The groups whose units stand in what each node gives on, a joint what comes into it."""
    found = [frozenset(group.name for group in writes.get(node.module, [])) for node in flow.nodes]
    while True:
        before = list(found)
        for start, end in flow.edges:
            if flow.nodes[end].kind in JOINTS and flow.nodes[start].kind != INPUT:
                found[end] |= found[start]
        if found == before:
            return found
