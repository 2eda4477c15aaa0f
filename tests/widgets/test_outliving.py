"""What is left of a workbench without its kernel: a line, a picture, and a page made of the notebook."""

import base64
import copy
import io
import re

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image
from states import idle, small_session

from workbench.serve.saving import keep_picture
from workbench.session.session import Session
from workbench.widgets import app, audience
from workbench.widgets.app import Workbench
from workbench.widgets.picture import VIEW, picture_of

CELL_SECONDS = 300
STATE = "application/vnd.jupyter.widget-state+json"


@pytest.fixture(scope="module")
def executed(tmp_path_factory, repository):
    """The notebook of one cell, run as nbconvert runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository), prepend=":")
        cell = nbformat.v4.new_code_cell('import workbench as wb\n\nwb.Workbench("digits-cnn")')
        notebook = nbformat.v4.new_notebook(cells=[cell])
        folder = str(tmp_path_factory.mktemp("executed"))
        NotebookClient(
            notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
        ).execute()
    return notebook


def result(notebook):
    return next(one for one in notebook.cells[0].outputs if one.output_type == "execute_result").data


def shown_state(notebook):
    """The stored state of the widget that all panels share."""
    states = notebook.metadata.widgets[STATE]["state"].values()
    return next(one for one in states if "spectra" in (one["state"] or {}) or "revision" in one["state"])


def is_blank(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("L")).std() < 5


class TestRunByAProgram:
    def test_the_line_is_of_the_measured_network(self, executed):
        session = Session.example("digits-cnn")
        session.measure()
        line = result(executed)["text/plain"]
        assert f"{session.parameters:,} parameters, {session.macs:,} MACs" in line
        assert f"{session.history[0].score:.4f}" in line
        spectrum = session.spectrum("conv1")
        freedom = spectrum.degrees_of_freedom(1e-3 * spectrum.trace)
        assert float(re.search(r"N\(λ\) = ([\d.]+) of 32", line)[1]) == pytest.approx(freedom, abs=0.02)

    def test_the_picture_is_not_empty(self, executed):
        png = base64.b64decode(result(executed)["image/png"])
        width, height = Image.open(io.BytesIO(png)).size
        assert (width, height) == (1100, 620)
        assert not is_blank(png)

    def test_the_stored_state_is_measured_and_previewed(self, executed):
        stored = shown_state(executed)["state"]
        assert stored["measured"]
        assert stored["progress"] == {}
        assert stored["preview"]["output_loss"] > 0

    def test_a_page_without_widgets_shows_the_picture(self, executed):
        plain = nbformat.from_dict({**executed, "metadata": {**executed.metadata, "widgets": {}}})
        del plain.metadata["widgets"]
        page, _ = HTMLExporter().from_notebook_node(plain)
        assert f'src="data:image/png;base64,{result(executed)["image/png"][:60]}' in page
        assert f'<script type="{VIEW}">' not in page


class TestBeforeAPerson:
    def test_nobody_waits(self, monkeypatch):
        monkeypatch.setattr(app, "is_attended", lambda: True)
        bench = Workbench(small_session())
        monkeypatch.setattr(bench.state, "settle", lambda timeout: pytest.fail("waited"))
        bundle = bench._repr_mimebundle_()[0]
        assert VIEW in bundle
        assert bundle["text/plain"].startswith("Workbench on small")
        idle(bench.state)

    def test_what_is_measured_has_a_picture_from_the_start(self, session):
        bench = Workbench(session)
        idle(bench.state)
        before = dict(mpl.rcParams)
        png = base64.b64decode(bench._repr_mimebundle_()[0]["image/png"])
        assert not is_blank(png)
        assert dict(mpl.rcParams) == before
        bench.state.lam = 0.1
        assert base64.b64decode(bench._repr_mimebundle_()[0]["image/png"]) != png

    def test_wait_is_for_whoever_asks(self, monkeypatch):
        bench = Workbench(small_session(), wait=60)
        assert "image/png" in bench._repr_mimebundle_()[0]
        assert bench.state.measured

    def test_no_wait_for_a_program_that_asks_for_none(self, monkeypatch):
        monkeypatch.setattr(app, "is_attended", lambda: False)
        bench = Workbench(small_session(), wait=0)
        monkeypatch.setattr(bench.state, "settle", lambda timeout: pytest.fail("waited"))
        assert bench._repr_mimebundle_()[0]["text/plain"].startswith("Workbench on small")
        idle(bench.state)

    def test_nothing_loaded_is_said_and_not_drawn(self):
        bench = Workbench("no-such-example")
        idle(bench.state)
        bundle = bench._repr_mimebundle_()[0]
        assert bundle["text/plain"] == "Workbench (no model loaded)"
        assert "image/png" not in bundle


class Asked:
    """A kernel whose running cell came with this request."""

    def __init__(self, **content):
        self.kernel = self
        self.content = content

    def get_parent(self, channel):
        return {"content": self.content} if channel == "shell" else {}


class TestWhoLooksOn:
    @pytest.mark.parametrize(
        ("shell", "server", "attended"),
        [
            (None, "", True),  # a script
            (Asked(allow_stdin=True), "", True),  # JupyterLab, Notebook, VS Code, a console
            (Asked(allow_stdin=False), "", False),  # nbclient and what is made of it
            (Asked(allow_stdin=False), "voila/0.5.8", True),
            (Asked(), "", True),  # one that says nothing
        ],
    )
    def test_the_request_says_so(self, monkeypatch, shell, server, attended):
        monkeypatch.setattr(audience, "get_ipython", lambda: shell)
        monkeypatch.setenv("SERVER_SOFTWARE", server)
        assert audience.is_attended() is attended


def test_a_group_without_eigenvalues_has_no_picture(session):
    bench = Workbench(session)
    idle(bench.state)
    values = bench._pictured()
    assert picture_of(values | {"selected": "none of them"}) is None
    assert picture_of(values | {"curve": b"", "history": []}) is not None


class TestAtASave:
    def saved(self, executed):
        """The notebook as a page saves it, before anything was measured when its cell ran."""
        notebook = copy.deepcopy(executed)
        notebook.cells[0].outputs = [one for one in notebook.cells[0].outputs if VIEW in one.get("data", {})]
        data = notebook.cells[0].outputs[0].data
        del data["image/png"]
        data["text/plain"] = "Workbench (no model loaded)"
        return {"type": "notebook", "content": notebook}, data

    def test_line_and_picture_are_those_of_the_stored_state(self, executed):
        model, data = self.saved(executed)
        keep_picture(model=model, path="x.ipynb", contents_manager=None)
        assert data["text/plain"] == result(executed)["text/plain"]
        ours, theirs = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(one["image/png"]))).convert("L"), dtype=float)
            for one in (data, result(executed))
        )
        assert np.abs(ours - theirs).mean() < 1

    @pytest.mark.parametrize("drop", ["widgets", "state", "spectra"])
    def test_what_holds_no_state_is_saved_as_it_is(self, executed, drop):
        model, data = self.saved(executed)
        states = model["content"].metadata.widgets[STATE]["state"]
        if drop == "widgets":
            del model["content"].metadata["widgets"]
        elif drop == "state":
            states.clear()
        else:  # another widget has not what is drawn
            states[data[VIEW]["model_id"]]["buffers"] = []
            states[data[VIEW]["model_id"]]["state"].pop("spectra", None)
        before = copy.deepcopy(model)
        keep_picture(model=model, path="x.ipynb", contents_manager=None)
        assert model == before

    @pytest.mark.parametrize("model", [{}, {"type": "file", "content": "x"}, {"type": "notebook"}])
    def test_what_is_no_notebook_is_saved_as_it_is(self, model):
        before = dict(model)
        keep_picture(model=model, path="x", contents_manager=None)
        assert model == before
