"""The page that the project shows of itself: written by the command, with the numbers of today."""

import re

import numpy as np
import pytest
from reading_pages import paths_of, values_of

from workbench.page.packing import unpacked
from workbench.page.writing import page_text, session_values
from workbench.session.session import Session

LIMIT = 1_500_000


def test_the_committed_page_has_the_numbers_of_the_example(repository):
    file = repository / "notebooks" / "digits-cnn.html"
    assert file.stat().st_size < LIMIT
    shown = values_of(file.read_text(encoding="utf-8"))
    session = Session.example("digits-cnn")
    session.measure()
    today = session_values(session)
    assert shown["budget"] == today["budget"]
    assert [one["parameters"] for one in shown["history"]] == [one["parameters"] for one in today["history"]]
    assert unpacked(shown["spectra"]) == pytest.approx(unpacked(today["spectra"]), rel=1e-4, abs=1e-7)
    for mine, its in zip(shown["layers"], today["layers"], strict=True):
        assert {**mine, "paths": None} == {**its, "paths": None}
        if mine["prunable"]:
            for (lam, _, *losses), (other, _, *others) in zip(paths_of(mine), paths_of(its), strict=True):
                assert lam == pytest.approx(other, rel=1e-3)
                assert np.allclose(losses, others, rtol=0.02, atol=1e-6)


def test_it_opens_with_the_page_of_this_version(repository):
    session = Session.example("digits-cnn")
    session.measure()
    today = page_text(session)
    text = (repository / "notebooks" / "digits-cnn.html").read_text(encoding="utf-8")
    assert "showPage(JSON.parse(" in text
    assert "Content-Security-Policy" in text
    committed, now = (without_numbers(page) for page in (text, today))
    assert committed == now, (
        "write it again: workbench page digits-cnn -o notebooks/digits-cnn.html --replace"
    )


def without_numbers(page):
    """The page's words, style and code: all but the values of the session, and what hangs on them."""
    page = re.sub(r'<script id="values".*?</script>', "", page, flags=re.S)
    return re.sub(r"sha256-[^']*", "", page)
