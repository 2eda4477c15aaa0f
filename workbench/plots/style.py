"""One look for all figures: the style sheet `workbench.mplstyle`, and what every figure is made with.

matplotlib reads part of a style when a figure is drawn, not when it is made (whether text stays text, for
one). A figure made here is therefore drawn and saved in the style too, wherever that happens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHEET = Path(__file__).with_name("workbench.mplstyle")
KEPT, LOST, LAM, MARK = "#0173b2", "#c3c8cd", "#c1440e", "0.35"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LAM_LABEL = "λ / Tr Σ (share of the trace)"
WIDTH_LABEL = "width (units kept)"
PARAMETERS_LABEL = "parameters (number)"
MACS_LABEL = "MACs (multiply–accumulates an example)"
SHARES = {
    "accuracy": "share of examples",
    "token accuracy": "share of tokens",
    "pixel accuracy": "share of pixels",
    "label accuracy": "share of labels",
    "R²": "share of variance",
}
LOSSES = ("input loss", "output loss", "combined loss")  # relative, and the only ones that are to be small

# Of a notebook around its figures, in the lab and in what nbconvert renders: 12 pt at the least.
READABLE = """<style>
:root { --jp-content-font-size1: 16px; --jp-code-font-size: 16px; --jp-code-line-height: 1.4; }
.jp-RenderedHTMLCommon table, .jp-RenderedText pre { font-size: 16px; }
.jp-InputPrompt, .jp-OutputPrompt { font-size: 13px; }
</style>"""

P = ParamSpec("P")
R = TypeVar("R")

# rcParams are the process's: two threads that change and restore them in turn would leave them changed.
_one_at_a_time = threading.RLock()


@contextmanager
def style() -> Iterator[None]:
    """The style sheet for the figures that are made, drawn or saved inside a `with plots.style():`."""
    from matplotlib import style as styles

    with _one_at_a_time, styles.context(_sheet()):
        yield


def use_style() -> None:
    """The style sheet from now on, for a notebook's first cell; figures stand in the notebook as SVG.

    Prose, code and tables of the notebook are then large enough for a projector as well.
    """
    from IPython.core.getipython import get_ipython
    from IPython.display import display
    from matplotlib import style as styles
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    styles.use(_sheet())
    if get_ipython() is not None:
        set_matplotlib_formats("svg")
        display({"text/html": READABLE, "text/plain": ""}, raw=True)


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """`draw` in the style."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return draw(*args, **kwargs)

    return inside


@cache
def _sheet() -> dict[str, Any]:
    from matplotlib import rc_params_from_file

    sheet: Any = rc_params_from_file(SHEET, use_default_template=False)
    return dict(sheet)


@cache
def figure_class() -> type:
    """The class of figures that are made, drawn and saved in the style.

    Returns:
        A subclass of matplotlib's Figure, also for `pyplot.figure(FigureClass=…)`.
    """
    from matplotlib.figure import Figure

    class WorkbenchFigure(Figure):
        """A figure that is made, drawn and saved in the style, wherever that happens."""

        def __init__(self, *args: Any, **kwargs: Any):
            with style():
                super().__init__(*args, **kwargs)

        def add_subplot(self, *args: Any, **kwargs: Any) -> Any:
            with style():
                return super().add_subplot(*args, **kwargs)

        def draw(self, renderer: Any) -> None:
            with style():
                super().draw(renderer)

        def savefig(self, *args: Any, **kwargs: Any) -> None:
            with style():
                super().savefig(*args, **kwargs)

    return WorkbenchFigure


def axes(ax: Axes | None, height: float | None = None) -> Axes:
    """`ax`, or new axes in a figure of their own.

    Args:
        ax: None for new ones.
        height: of the new figure, in inches; None: the style's.

    Returns:
        The axes.
    """
    if ax is not None:
        return ax
    from matplotlib import pyplot

    width, usual = _sheet()["figure.figsize"]
    figure = pyplot.figure(FigureClass=figure_class(), figsize=(width, height or usual))
    return figure.subplots()


def looks(count: int) -> list[dict[str, Any]]:
    """How to draw `count` lines that differ in colour, and without it in dashes and markers.

    Args:
        count: how many.

    Returns:
        Keywords for `ax.plot`, `count` of them.
    """
    cycle = list(_sheet()["axes.prop_cycle"])
    return [{**cycle[i % len(cycle)], "marker": MARKERS[i % len(MARKERS)]} for i in range(count)]


def with_unit(metric: str) -> str:
    """The label of an axis of scores, or of losses.

    Args:
        metric: what the score is, or one of `LOSSES`.

    Returns:
        Its name, and its unit where it is one of the package's own.
    """
    if metric in LOSSES:
        return f"{metric} (share; lower is better)"
    return f"{metric} ({SHARES.get(metric, 'higher is better')})"


def curves_of(
    x: Sequence[float] | np.ndarray, curves: Mapping[Any, Sequence[float]], what: str, along: str
) -> dict[Any, np.ndarray]:
    """The curves as arrays, once each is as long as `x`.

    Args:
        x: (n,).
        curves: by name, (n,).
        what: a curve is, for the error.
        along: what x is, for the error.

    Returns:
        By name, (n,) float64.

    Raises:
        ValueError: one has another length than x.
    """
    arrays = {name: np.asarray(given, dtype=float) for name, given in curves.items()}
    for name, values in arrays.items():
        if values.shape != (len(x),):
            raise ValueError(f"the {name} {what} has shape {values.shape}, the {along} ({len(x)},)")
    return arrays


def checked(eigenvalues: Any, lam: float | None = None) -> np.ndarray:
    """The eigenvalues as an array.

    Args:
        eigenvalues: μ, (m,).
        lam: λ, absolute, or None.

    Returns:
        (m,) float64.

    Raises:
        ValueError: eigenvalues that are not (m,), finite and >= 0 with a positive sum, or a λ <= 0.
    """
    values = np.asarray(eigenvalues, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.sum() > 0:
        raise ValueError(
            f"eigenvalues must be (m,) finite numbers ≥ 0, not all 0; got an array of shape {values.shape}"
        )
    if lam is not None and not (np.isfinite(lam) and lam > 0):
        raise ValueError(f"λ must be a positive finite number, got {lam!r}")
    return values
