"""A session as one file: what it holds, how large it is, what it refuses; the command that writes it."""

import datetime
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from networks import conv_net, images
from reading_pages import paths_of, values_of
from sessions import conv_session

from workbench.cli import main
from workbench.page.document import POLICY
from workbench.page.packing import unpacked
from workbench.page.writing import page_text, write_page
from workbench.session.session import Session

HOSTILE = "</script><img src=x onerror=alert(1)><!--"


class Elements(HTMLParser):
    """Counts elements, and collects what they point to outside of the page."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses = Counter(), []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        at = [value for name, value in attributes if name in ("src", "href", "action", "data", "srcset")]
        self.addresses += [value for value in at if not (value or "").startswith("#")]


@pytest.fixture(scope="module")
def session():
    return conv_session(name=HOSTILE, data_name="<b>data</b>")


@pytest.fixture(scope="module")
def page(session):
    return page_text(session, datetime.date(2026, 1, 2))


def test_it_holds_every_group_as_the_session_has_it(session, page):
    values = values_of(page)
    spectra = unpacked(values["spectra"])
    for group, layer in zip(session.groups, values["layers"], strict=True):
        assert (layer["name"], layer["width"], layer["prunable"]) == (group.name, group.width, group.prunable)
        if not group.prunable:
            continue
        assert np.array_equal(
            spectra[layer["offset"] :][: layer["count"]], session.spectrum(group.name).eigenvalues.numpy()
        )
        for lam, order, _, outputs in paths_of(layer):
            choice = session.preview(group.name, lam=lam * session.spectrum(group.name).trace)
            assert sorted(order[: choice.width].tolist()) == list(choice.kept)
            assert outputs[choice.width] == pytest.approx(choice.output_loss, rel=1e-6)


def test_it_asks_for_nothing_and_no_name_is_code(page):
    assert POLICY in page
    assert "default-src 'none'" in POLICY
    found = Elements()
    found.feed(page)
    assert found.tags["script"] == 2
    assert not {"img", "b", "link", "iframe", "object", "base", "form"} & found.tags.keys()
    assert found.addresses == []
    assert not re.search(r"@import|url\((?!#)", page)
    assert not re.search(r"\b(eval|Function|fetch|XMLHttpRequest|WebSocket|import)\(", page)


def test_its_words_say_what_it_is(session, page):
    values = values_of(page)
    assert values["title"] == HOSTILE
    assert "64 examples of <b>data</b>" in values["about"]
    assert "2026-01-02" in values["about"]
    assert "pip install" in values["how"]


def test_a_committed_session_keeps_its_history_and_the_units_numbers():
    session = conv_session()
    name = next(group.name for group in session.groups if group.prunable)
    choice = session.preview(name, width=session.group(name).width // 2)
    session.commit(choice)
    values = values_of(page_text(session))
    layer = next(one for one in values["layers"] if one["name"] == name)
    assert layer["units"] == list(choice.units)
    assert (layer["width"], layer["original"]) == (choice.width, choice.of)
    assert [step["parameters"] for step in values["history"]] == [step.parameters for step in session.history]
    assert values["position"] == 1


def test_a_stale_group_has_no_losses_that_are_anothers():
    session = conv_session(procedure="sequential")
    first = next(group.name for group in session.groups if group.prunable)
    session.commit(session.preview(first, width=2))
    stale = set(session.stale)
    assert stale
    values = values_of(page_text(session))
    assert {one["name"] for one in values["layers"] if one["prunable"] and "paths" not in one} == stale
    assert values["selected"] not in stale


class TestRefusals:
    def test_nothing_measured(self, tmp_path):
        with pytest.raises(RuntimeError, match="measure"):
            write_page(Session(conv_net(), images(64)), tmp_path / "a.html")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("name", "words"),
        [("", "is a folder"), ("a.txt", "HTML file"), ("a", "HTML file"), ("no/a.html", "no folder")],
    )
    def test_a_place_that_is_none(self, session, tmp_path, name, words):
        with pytest.raises(ValueError, match=words):
            write_page(session, tmp_path / name)
        assert not list(tmp_path.iterdir())

    def test_a_file_that_is_there(self, session, tmp_path):
        file = tmp_path / "a.html"
        file.write_text("mine")
        with pytest.raises(FileExistsError, match="already"):
            write_page(session, file)
        assert file.read_text() == "mine"
        assert write_page(session, file, replace=True) == file
        assert file.read_text().startswith("<!doctype html>")


class TestCommand:
    def test_a_saved_session_of_an_example(self, tmp_path, capsys, monkeypatch):
        session = Session.example("digits-cnn")
        session.measure()
        session.save(tmp_path / "saved")
        monkeypatch.chdir(tmp_path)
        assert main(["page", "saved"]) == 0
        assert "saved.html: 0." in capsys.readouterr().out
        values = values_of((tmp_path / "saved.html").read_text(encoding="utf-8"))
        assert [one["name"] for one in values["layers"]] == [group.name for group in session.groups]

    @pytest.mark.parametrize(
        ("make", "arguments", "words"),
        [
            (
                lambda place: None,
                ["gone"],
                "no folder gone, and no example of that name",
            ),
            (lambda place: (place / "empty").mkdir(), ["empty"], "empty is no saved session"),
            (lambda place: None, ["digits-mlp", "-o", "no/page.html"], "no folder no"),
            (lambda place: None, ["digits-mlp", "-o", "page.txt"], "page.txt.html"),
            (lambda place: (place / "page.html").touch(), ["digits-mlp", "-o", "page.html"], "--replace"),
        ],
    )
    def test_what_is_wrong_is_told_in_a_line(self, tmp_path, monkeypatch, capsys, make, arguments, words):
        monkeypatch.chdir(tmp_path)
        make(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        assert main(["page", *arguments]) == 2
        told = capsys.readouterr().err
        assert words in told
        assert told.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before

    def test_an_export_is_not_taken_for_a_session(self, tmp_path, capsys):
        session = conv_session()
        session.export(tmp_path / "out")
        assert main(["page", str(tmp_path / "out"), "-o", str(tmp_path / "a.html")]) == 2
        assert "holds an export" in capsys.readouterr().err
