"""What was there before: sessions that kept themselves, one left for another session, one in a folder."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import traitlets as t

from workbench.data.claims import in_use
from workbench.session import store
from workbench.session.autosave import Autosave, autosave_of
from workbench.session.kept_in import root_folder
from workbench.session.of_what import examples_of, key_of
from workbench.session.recipe import RecipeError
from workbench.session.runs import Run, discard, in_words, made_beside, run_in, runs, taken_up
from workbench.session.session import GIVEN, Session
from workbench.widgets.beside import FOUND, PLANNED, SET, brought_back, place_of, screen_of
from workbench.widgets.commands import BUSY
from workbench.widgets.folders import folder_for
from workbench.widgets.jobs import Delivery, Reporter, Worker
from workbench.widgets.load_form import own_session
from workbench.widgets.traits import synced

PATIENCE = 10.0  # seconds that the last writing of a session may take that is thrown away
OFFERED = 3  # earlier sessions, at most
RECENT = 86400.0  # seconds in which one of another model is offered
LEFT = "left"  # what the session is called that was left for another session; those before it have a number
LOSING = (  # commands whose step is lost where the process ends before they do
    "measure", "commit", "commit_plan", "finetune", "refit", "undo", "redo", "reset", "goto", "fork",
    "switch", "drop", "plan", "compare", "sweep_groups",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Left:
    """A session that was left for another session, with what was beside it; it is kept as before."""

    session: Session
    how: dict[str, Any]
    screen: dict[str, Any]
    saves: Autosave | None

    @property
    def comes_back(self) -> bool:
        """Whether it would be offered again from the disk, with whatever model."""
        return self.saves is not None and self.saves.is_whole and bool(self.how)


class Recovery(t.HasTraits):
    """The part of the shared state that keeps the session by itself, and brings back what was there.

    `offers`: earlier sessions, each with `run`, under which it is taken up, its `words`, in `lost` what
    ended with it, in `held` why it cannot be thrown away now, and `measured`: whether it spares measuring and
    has nothing else. `kept`: empty, or why the session is not kept by itself.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "take_up": ("run",),
        "put_off": (),
        "discard": ("run",),
        "open_saved": ("folder", "take_over", "read_only"),
    }
    PLACES: ClassVar[dict[str, str]] = {"open_saved": "export"}
    AT_ONCE: ClassVar[tuple[str, ...]] = ("put_off", "take_up")

    offers = synced(t.List)
    kept = synced(t.Unicode)

    session: Session | None
    revision: Any
    procedure: Any
    own: Any
    branch: Any
    position: Any
    measured: Any
    cancel: Callable[[], None]
    _current: Any
    _commands: list[str]
    _jobs: Worker
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
        self._behind: list[_Left] = []  # the newest first
        self._at: tuple[Any, str] = None, ""
        self._looks = Worker("workbench-recovery", newest_only=True)
        me = weakref.ref(self)
        self._trouble = lambda words: _say_kept(me, words)
        self.observe(lambda change: self._keep_screen(), [*SET, *PLANNED, *FOUND, "revision"])
        self.observe(lambda change: self._spared(), "measured")

    # Keeping

    def _keep(
        self,
        session: Session,
        how: Mapping[str, Any],
        after: Run | None = None,
        screen: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep `session`, which is shown from now on; the one before stays as it was kept."""
        self._keep_no_more()
        self._how = dict(how)
        self._set({"kept": ""})
        if self._root is not None:
            self._saves = autosave_of(session, self._root, how, self._trouble, after, screen)

    def _keep_no_more(self) -> None:
        saves, self._saves = self._saves, None
        if saves is not None and all(saves is not left.saves for left in self._behind):
            saves.close(self._trouble)

    def _let_go(self, left: Sequence[_Left]) -> None:
        """Have `left` no longer; what was kept of it stays on the disk."""
        self._behind = [one for one in self._behind if one not in left]
        for one in left:
            if one.saves is not None:
                one.saves.close(self._trouble)

    def _keep_screen(self) -> None:
        if self._saves is not None and self.session is not None:
            self._saves.keep(self._screen(self.session), id(self))

    def _screen(self, session: Session) -> dict[str, Any]:
        if self._at[0] != (session, self.revision):
            self._at = (session, self.revision), place_of(session)
        return screen_of(lambda name: getattr(self, name), self._at[1])

    def _bring_back(self, screen: Mapping[str, Any]) -> None:
        """Set and show again what was beside a session that is shown."""
        with suppress(t.TraitError):  # not as this version writes it
            self._set(brought_back(screen, self._current, self.revision))

    def _doing(self, command: str, what: str) -> None:
        if self._saves is not None and command in LOSING:
            self._saves.doing(what)

    # Offering

    def _look_back(self, session: Session) -> None:
        """Look for what may be taken up in the place of `session`, which has no steps yet."""
        self._looks.submit(lambda: self._find_offers(session))

    def _find_offers(self, session: Session) -> None:
        left = list(self._behind)
        offers = [
            _offered(_called(index), f"{_brief(one)}, left for another session")
            for index, one in enumerate(left)
        ]
        found: dict[str, Run] = {}
        if self._root is not None and not has_steps(session):
            saving = [self._saves, *(one.saves for one in left)]
            mine = {saves.folder for saves in saving if saves is not None}
            key, now = key_of(session), time.time()
            there = [run for run in runs(self._root) if run.folder not in mine]
            fits = _not_spared([run for run in there if run.about.key == key], session.measured)
            others = [run for run in there if run.about.key != key and _comes_back(run, now)]
            for run in [*fits, *others][:OFFERED]:
                found[run.folder.name] = run
                offers.append(_offer(run, now, key, examples_of(session)))
        self._deliver(lambda: self._show_offers(session, offers, found))

    def _show_offers(self, session: Session, offers: list, found: dict[str, Run]) -> None:
        if session is self.session:
            self._offered = found
            self._set({"offers": offers})
            self._spared()

    def _spared(self) -> None:
        """Once the session is measured, nothing that only spares that is offered."""
        left = [offer for offer in self.offers if not offer["measured"]]
        if self.measured and left != self.offers:
            self._set({"offers": left})

    def put_off(self) -> None:
        """Offer nothing more now; what is kept on the disk stays there, and anything else stays here."""
        self._let_go([one for one in self._behind if one.comes_back])
        self._set({"offers": []})

    def discard(self, run: str) -> None:
        """Throw an earlier session of `offers` away for good; the others, and the next, are offered then."""
        left = self._left_as(run)
        if left is None and run not in self._offered:
            raise ValueError(f"no earlier session {run!r} is offered")
        if left is not None:
            self._let_go([left])

        def work(progress: Reporter, cancel: Event) -> None:
            try:
                found = self._offered.get(run) if left is None else _kept_of(left)
                if found is not None:
                    discard(found)
                words = found.words(time.time()) if found else _brief(left) if left else ""
                self._note(f"Thrown away: {words}")
            finally:
                if self.session is not None:
                    self._look_back(self.session)

        self._start("discard", "throwing away what was kept", work)

    def _left_as(self, run: str) -> _Left | None:
        return next((one for index, one in enumerate(self._behind) if run == _called(index)), None)

    # Bringing back

    def take_up(self, run: str) -> None:
        """Go on with an earlier session of `offers`, in the place of the present one, whose first measuring
        or scoring is cancelled for it. Raises RuntimeError where anything else runs."""
        if self._jobs.busy:
            if self.session is None or not _makes_way({*self._commands}, self.session.measured):
                raise RuntimeError(BUSY)
            self.cancel()
        left = self._left_as(run)
        if left is not None:

            def back(progress: Reporter, cancel: Event) -> None:
                self._take(left.session, left.how, None, left.screen)

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
            now = run_in(found.folder) or found  # which somebody may have gone on with
            session = taken_up(now, ground, progress, cancel)
            self._take(session, about.how, now, now.about.screen)
            lost = f"; lost: {now.about.doing}" if now.about.doing else ""
            others = "; measured on other examples" if examples_of(ground) != now.about.examples else ""
            self._note(f"Taken up: {now.words(time.time())}{lost}{others}")

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
            told = session.claim(where, take_over)
            self._take(session, how)
            self._note(told or f"Opened {where}")

        self._start("open_saved", "opening the session", work)

    def _saved_in(self, folder: Path, progress: Reporter, cancel: Event) -> tuple[Session, dict[str, Any]]:
        saved = store.read(folder)
        recipe, session = saved.recipe, self.session
        if session is not None and _is_of(recipe, session):
            return session.as_saved(saved, progress, cancel), self._how
        example = recipe["model"].get("example")
        if example and not recipe.get("data"):  # of an early version
            return Session.open(folder, progress=progress, cancel=cancel), {"example": example}
        if example and recipe["data"] != GIVEN:
            ground = Session.example(str(example), progress=progress, cancel=cancel)
            return ground.as_saved(saved, progress, cancel), {"example": example}
        name, data = recipe["model"].get("name") or "a model", recipe.get("data") or "data without a name"
        raise RecipeError(
            f"{folder} holds a session of {name} on {data}: load these first (Load…), then open it"
        )

    # Leaving

    def _set_aside(self, session: Session) -> None:
        """Keep what is left for `session` one click away, where it has steps."""
        before, saves = self.session, self._saves
        back = [one for one in self._behind if one.session is session]
        self._behind = [one for one in self._behind if one not in back]
        if before is None or before is session:
            return
        screen = self._screen(before)
        if has_steps(before) or made_beside(screen):
            # Of those before it, only what nothing but this memory has.
            self._let_go([one for one in self._behind if one.comes_back])
            self._behind.insert(0, _Left(before, self._how, screen, saves))


def _say_kept(state: weakref.ref[Recovery], words: str) -> None:
    found = state()
    if found is not None:
        found._deliver(lambda: found._set({"kept": words}))


def _called(index: int) -> str:
    """What is offered as the `index`-th of those that were left."""
    return f"{LEFT}{index or ''}"


def has_steps(session: Session) -> bool:
    """Whether anything was done that would be lost."""
    return any(len(steps) > 1 for steps in session.branches.values())


def _is_of(recipe: Mapping[str, Any], session: Session) -> bool:
    mine = session.recipe
    same = recipe["model"]["fingerprint"] == mine["model"]["fingerprint"]
    return bool(same and recipe.get("data", "") == session.data_name)


def _brief(left: _Left) -> str:
    branches = left.session.branches
    steps = max(len(steps) for steps in branches.values()) - 1
    return in_words(left.session.name, steps, len(branches), left.screen)


def _kept_of(left: _Left) -> Run | None:
    """What is on the disk of a session that was let go of, once that is written."""
    if left.saves is None or not left.saves.folder.name:
        return None
    left.saves.wait(PATIENCE)
    return run_in(left.saves.folder)


def _not_spared(fits: Sequence[Run], measured: bool) -> list[Run]:
    """What to offer of the runs of one model and data: of those that are only measured the newest, and none
    where that is `measured` already."""
    only = [run for run in fits if run.only_measured]
    return [run for run in fits if run not in only or (not measured and run is only[0])]


def _comes_back(run: Run, now: float) -> bool:
    """Whether to offer a run of another model: one of these that is only measured where a form filled in by
    hand brings it back; an example is measured again with one click."""
    how = "form" in run.about.how if run.only_measured else run.about.how
    return bool(how) and now - run.when < RECENT


def _makes_way(commands: set[str], measured: bool) -> bool:
    """Whether what runs is a first measuring, and the scoring that follows it, alone."""
    return commands == {"score"} if measured else "measure" in commands <= {"measure", "score"}


def _offered(run: str, words: str, lost: str = "", held: str = "", measured: bool = False) -> dict[str, Any]:
    return {"run": run, "words": words, "lost": lost, "held": held, "measured": measured}


def _offer(run: Run, now: float, key: str, examples: str) -> dict[str, Any]:
    """As the page shows `run` beside a session of that key and these examples."""
    words = run.words(now)
    mine = run.about.key == key
    words += ", on other examples" if mine and run.about.examples != examples else ""
    elsewhere = in_use(run.folder) is not None  # where what is being done is not lost
    words += ", open elsewhere" if elsewhere else ""
    held = "It is open elsewhere: close it there first" if run.open else ""
    lost = "" if elsewhere else run.about.doing
    return _offered(run.folder.name, words, lost, held, mine and run.only_measured)
