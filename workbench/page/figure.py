"""A figure of a notebook that moves without a kernel: in JupyterLab, in Voilà, in nbconvert's HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.page.document import document
from workbench.page.picture import picture, spectra_of
from workbench.page.values import group_values, spectra_values
from workbench.session.session import Session
from workbench.widgets.constants import LAM_MAX, LAM_MIN, START_LAM
from workbench.widgets.picture import freedom_of

VIEWS = ("spectrum", "freedom", "losses", "units")
OF_SPECTRA = ("spectrum", "freedom")  # what eigenvalues alone can show
HEIGHTS = {"title": 40, "spectrum": 350, "pair": 250, "units": 120, "numbers": 118, "key": 30}  # pixels
FRAME = """<style>
.wbw-figure {{ display: block; width: 100%; border: 0; color-scheme: light; }}
[data-jp-theme-light="false"] .wbw-figure, .theme-dark .wbw-figure {{ color-scheme: dark; }}
</style>
<iframe class="wbw-figure" title="{title}" sandbox="allow-scripts" height="{height}"
 srcdoc="{page}"></iframe>"""


class Figure:
    """An interactive figure: the spectrum of a group, or several spectra, with the λ line to drag.

    It displays itself. All arithmetic is in the figure's own page, in a frame that can reach nothing around
    it, so it moves in a notebook, in a rendered one without a kernel, and offline; where no script runs, a
    picture of its first state stands for it.

    Args:
        session: which has measured; None: see `eigenvalues`.
        group: the group's name; None: the first that can be pruned.
        show: the views, in any order: "spectrum" (each eigenvalue filled by its share μ/(μ+λ)), "freedom"
            (N(λ) over λ), "losses" (against the width), "units" (which stay). Units and losses are known at
            some λ of a grid, and the figure says at which.
        height: in pixels; None: as high as its views need.
        eigenvalues: in place of a session: (m,) >= 0, or a mapping of names to such, to compare several under
            one λ. These have the views "spectrum" and "freedom".
        title: over the figure; None: what is shown.
        lam: λ/Tr Σ that it opens with, in (0, 1].

    Raises:
        ValueError: both or neither of session and eigenvalues; an unknown group or view; a group that cannot
            be pruned; numbers that are no spectrum; λ out of range.
        TypeError: a session that is none.
        NotMeasuredError, StaleMomentsError: as `Session.preview`.

    Example:
        >>> Figure(eigenvalues=[3.0, 1.0, 0.1], title="three directions")
        Figure: three directions
    """

    def __init__(
        self,
        session: Session | None = None,
        group: str | None = None,
        show: Sequence[str] | str | None = None,
        height: int | None = None,
        *,
        eigenvalues: Any = None,
        title: str | None = None,
        lam: float = START_LAM,
    ):
        if (session is None) == (eigenvalues is None):
            raise ValueError("give a session, or eigenvalues=, and not both")
        if not LAM_MIN <= lam <= LAM_MAX:
            raise ValueError(f"lam is λ over the trace, from {LAM_MIN:g} to {LAM_MAX:g}; got {lam!r}")
        if session is not None:
            if not isinstance(session, Session):
                raise TypeError(f"give a Session, or eigenvalues=; got a {type(session).__name__}")
            self.views = _views(show or ("spectrum", "losses"), VIEWS)
            name = group or _first(session)
            values = group_values(session, name, lam)
            self.title = f"{session.name}: {name}" if title is None else title
        else:
            if group is not None:
                raise ValueError("a group belongs to a session; eigenvalues have the name of their mapping")
            self.views = _views(show or ("spectrum",), OF_SPECTRA)
            spectra = eigenvalues if isinstance(eigenvalues, Mapping) else {title or "": eigenvalues}
            values = spectra_values(spectra, lam)
            self.title = (" and ".join(map(str, spectra)) if title is None else title) or "spectrum"
        self._values = values | {"views": list(self.views), "title": self.title}
        self.height = self._fitting_height() if height is None else int(height)

    @property
    def page(self) -> str:
        """The figure's own HTML page, which a file may hold as well."""
        return document(self.title, self._values, "figure.js", "showFigure")

    def __repr__(self) -> str:
        return f"Figure: {self.title}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        frame = FRAME.format(
            title=html.escape(self.title), height=self.height, page=html.escape(self.page, quote=True)
        )
        image = base64.b64encode(picture(self.title, self._values, self.views)).decode("ascii")
        return {"text/html": frame, "image/png": image, "text/plain": self._line()}

    def _line(self) -> str:
        lam = self._values["lam"]
        freedom = [
            f"N(λ) = {freedom_of(mu, lam):.2f} of {len(mu)}{f' ({name})' if name else ''}"
            for name, mu in spectra_of(self._values).items()
        ]
        return f"{self!r}; at λ = {lam:.3g} Tr Σ, {', '.join(freedom)}"

    # Inside

    def _fitting_height(self) -> int:
        several = len(self._values["layers"]) > 1
        parts = ["title", *(view for view in self.views if view in ("spectrum", "units"))]
        parts += ["pair"] * any(view in self.views for view in ("freedom", "losses"))
        parts += ["key"] * len(self._values["layers"]) if several else ["numbers"]
        return sum(HEIGHTS[part] for part in parts)


def _views(show: Sequence[str] | str, known: Sequence[str]) -> tuple[str, ...]:
    """The views in their own order, each once. Raises ValueError for one that there is not."""
    wanted = [show] if isinstance(show, str) else list(show)
    for view in wanted:
        if view not in known:
            raise ValueError(f"there is no view {view!r} of this; the views are {', '.join(known)}")
    return tuple(view for view in VIEWS if view in wanted)


def _first(session: Session) -> str:
    names = [group.name for group in session.groups if group.prunable]
    if not names:
        raise ValueError("no group of this network can be pruned, so there is no spectrum to show")
    return names[0]
