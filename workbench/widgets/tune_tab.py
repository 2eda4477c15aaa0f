"""The fine-tune tab's half in the kernel: settings from texts, a run that can pause and stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import traitlets as t

from workbench.data.progress import Cancelled
from workbench.tuning.finetuning import TuningReport
from workbench.tuning.settings import Tuning
from workbench.widgets.budget_tab import whole
from workbench.widgets.constants import AMOUNTS, SETTINGS
from workbench.widgets.jobs import Delivery, Reporter
from workbench.widgets.traits import synced
from workbench.widgets.wording import of_settings


class Tunings(t.HasTraits):
    """The part of the shared state that fine-tunes the network as it stands.

    `tuning` is what the form has, as texts and one tick; `tuned` the course of the last run: "reports", each
    (step, total, loss, score or None), the score before under "start", and "how" it stands: running, paused,
    done, stopped (with a step), cancelled (before there was one), failed.
    """

    COMMANDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "finetune": ("tuning",),
        "refit": (),
        "pause_tuning": (),
        "go_on_tuning": (),
    }
    PLACES: ClassVar[dict[str, str]] = dict.fromkeys(COMMANDS, "tune")
    AT_ONCE: ClassVar[tuple[str, ...]] = ("pause_tuning", "go_on_tuning")

    tuning = synced(t.Dict, SETTINGS).tag(echo_update=False)
    tuned = synced(t.Dict)

    learns: Any
    _current: Any
    _deliver: Delivery
    _set: Callable[[dict], None]
    _start: Callable[..., None]

    def _begin_tunings(self) -> None:
        self._pause = threading.Event()

    def finetune(self, tuning: Mapping[str, Any] | None = None) -> None:
        """Fine-tune the present network on the training data; the best by score becomes a step.

        Cancelled, it ends early, and the best so far becomes the step.
        """
        form = SETTINGS | dict(self.tuning if tuning is None else tuning)

        def work(progress: Reporter, cancel: Any) -> None:
            self._pause = pause = threading.Event()
            session = self._current
            settings = tuning_of(form if self.learns["images"] else form | {"flips": False, "shifts": "0"})
            if settings.labels > 0 and not self.learns["targets"]:
                raise ValueError(
                    "the training data has no labels: follow the original alone, by outputs or activations"
                )
            reports: list[list] = []
            start = session.history[session.position].score

            def show(how: str) -> None:
                values = {"reports": list(reports), "start": start, "metric": session.metric}

                def apply() -> None:
                    # Looked at where Pause is heard, so that a report on its way does not overrule it.
                    paused = how == "running" and pause.is_set()
                    self._set({"tuned": values | {"how": "paused" if paused else how}})

                self._deliver(apply)

            def report(one: TuningReport) -> None:
                reports.append([one.step, one.total, one.loss, one.score])
                with suppress(Cancelled):  # the run looks for it itself, and keeps what it has
                    progress(one.step, one.total, "fine-tuning")
                show("running")

            show("running")
            try:
                done = session.finetune(tuning=settings, report=report, cancel=cancel, pause=pause)
            except BaseException as error:
                show("cancelled" if isinstance(error, Cancelled) else "failed")
                raise
            show("stopped" if done.stopped else "done")

        self._start("finetune", "fine-tuning", work)

    def refit(self) -> None:
        """Fit all layers around pruned groups once more to the original's outputs, by least squares."""
        self._start("refit", "refitting", lambda progress, cancel: self._current.refit(progress, cancel))

    def pause_tuning(self) -> None:
        """Nothing goes on until `go_on_tuning`."""
        if self.tuned.get("how") == "running":
            self._pause.set()
            self._set({"tuned": self.tuned | {"how": "paused"}})

    def go_on_tuning(self) -> None:
        if self.tuned.get("how") == "paused":
            self._pause.clear()
            self._set({"tuned": self.tuned | {"how": "running"}})

    def _go_on_to_the_end(self) -> None:
        """What is cancelled must not wait for ever in a pause."""
        self._pause.clear()


@contextmanager
def _about_fields() -> Iterator[None]:
    """Errors within that begin with a setting begin with its field."""
    try:
        yield
    except ValueError as error:
        raise ValueError(of_settings(str(error))) from error


@_about_fields()
def tuning_of(form: Mapping[str, Any]) -> Tuning:
    """The settings that the form's texts mean. Raises ValueError, in words."""
    amount = str(form["amount"])
    if form["unit"] not in AMOUNTS:
        raise ValueError(f"fine-tuning goes for epochs or steps, not {form['unit']!r}")
    counted: dict[str, Any] = (
        {"steps": whole(amount, "number of steps")}
        if form["unit"] == "steps"
        else {"epochs": number(amount, "number of epochs")}
    )
    return Tuning(
        **counted,
        rate=number(form["rate"], "rate"),
        batch=whole(form["batch"], "batch"),
        distill=number(form["distill"], "share of the outputs"),
        match=number(form["match"], "share of the activations"),
        flips=bool(form["flips"]),
        shifts=whole(form["shifts"], "number of pixels", least=0),
    )


def number(value: Any, what: str) -> float:
    """Raises ValueError for anything but a number."""
    try:
        return float(str(value).strip())
    except ValueError:
        raise ValueError(f"the {what} must be a number; got {value!r}") from None
