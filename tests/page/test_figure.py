"""A notebook's figure: what it holds is the session's own, whatever it is called, however shown."""

import html
import re

import numpy as np
import pytest
import torch
from networks import conv_net, images
from reading_pages import paths_of, values_of
from sessions import conv_session

import workbench
from workbench.page.document import POLICY
from workbench.page.figure import Figure
from workbench.page.packing import packed, unpacked
from workbench.page.paths import lam_grid
from workbench.session.session import Session
from workbench.spectral.spectrum import Spectrum

HOSTILE = '</script><script>alert(1)</script><!-- <b title="x">&amp;\u2028'


@pytest.fixture(scope="module")
def session():
    return conv_session(name="small")


def test_the_paths_are_those_of_previews(session):
    name = next(group.name for group in session.groups if group.prunable)
    values = values_of(Figure(session, name).page)
    (layer,) = values["layers"]
    trace = session.spectrum(name).trace
    assert np.array_equal(unpacked(values["spectra"]), session.spectrum(name).eigenvalues.numpy())
    found = list(paths_of(layer))
    assert len(found) >= 10
    assert 1e-3 in [lam for lam, *_ in found]
    for (lam, order, inputs, outputs), width in zip(found, layer["paths"]["widths"], strict=True):
        choice = session.preview(name, lam=lam * trace)
        assert width == choice.width
        assert sorted(order[:width].tolist()) == list(choice.kept)
        assert inputs[width] == pytest.approx(choice.input_loss, rel=1e-6)
        assert outputs[width] == pytest.approx(choice.output_loss, rel=1e-6)
        assert inputs == pytest.approx(choice.curve.input.numpy(), rel=1e-6, abs=1e-12)


def test_the_predicted_error_is_the_root_of_the_output_loss(session):
    """So the page shows it without a number of its own."""
    for group in session.groups:
        if group.prunable:
            choice = session.preview(group.name, width=max(1, group.width // 2))
            assert choice.predicted_error == pytest.approx(choice.output_loss**0.5, rel=1e-6)


@pytest.mark.parametrize("planted", [[1.0], [5.0, 3.0, 1e-3], [2.0, 0.0, 0.0], [1.0] * 7, [0.0, 0.0]])
def test_the_grid_of_any_spectrum_is_ascending_within_the_sliders(planted):
    spectrum = Spectrum.of(torch.diag(torch.tensor(planted, dtype=torch.float64)))
    grid = lam_grid(spectrum)
    assert (np.diff(grid) > 0).all()
    assert 1e-3 in grid
    assert grid.min() >= 1e-10
    assert grid.max() <= 1.0


def test_a_bundle_has_a_frame_a_picture_and_a_line(session):
    figure = Figure(session, show=("spectrum", "freedom", "losses", "units"))
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert bundle["image/png"].startswith("iVBOR")
    assert "N(λ) =" in bundle["text/plain"]
    frame = bundle["text/html"]
    assert 'sandbox="allow-scripts"' in frame
    assert f'height="{figure.height}"' in frame
    (inside,) = re.findall(r'srcdoc="([^"]*)"', frame)
    assert html.unescape(inside) == figure.page
    assert POLICY in figure.page


@pytest.mark.parametrize("name", [HOSTILE, "]]>", "${1}`", "\\u003c/script>", "λ é 中"])
def test_any_name_stays_text(name):
    figure = Figure(eigenvalues={name: [3.0, 1.0], "other": [1.0, 0.5]}, title=name)
    page = figure.page
    assert values_of(page)["layers"][0]["name"] == name
    assert values_of(page)["title"] == name
    assert page.lower().count("</script") == 2
    assert "<b title" not in page
    assert name not in figure._repr_mimebundle_()["text/html"] or not set(name) & set('<>&"')


def test_eigenvalues_come_in_any_order_and_kind():
    tensor = torch.tensor([0.1, 3.0, 1.0])
    for given in (tensor, tensor.numpy(), tensor.tolist(), tuple(tensor.tolist())):
        values = values_of(Figure(eigenvalues=given, title="three").page)
        assert unpacked(values["spectra"]) == pytest.approx([3.0, 1.0, 0.1], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "a session, or eigenvalues="),
        ({"eigenvalues": [1.0], "group": "fc"}, "belongs to a session"),
        ({"eigenvalues": []}, "finite numbers"),
        ({"eigenvalues": [[1.0, 2.0]]}, r"shape \(1, 2\)"),
        ({"eigenvalues": [1.0, float("nan")]}, "finite"),
        ({"eigenvalues": {"a": [1.0], "b": [-1.0, 2.0]}}, "of b must be 0 or more"),
        ({"eigenvalues": [0.0, 0.0]}, "positive sum"),
        ({"eigenvalues": {}}, "at least one"),
        ({"eigenvalues": [1.0], "show": ("losses",)}, "no view 'losses'.*spectrum, freedom"),
        ({"eigenvalues": [1.0], "show": "spectra"}, "no view 'spectra'"),
        ({"eigenvalues": [1.0], "lam": 0.0}, "λ over the trace"),
        ({"eigenvalues": [1.0], "lam": 2.0}, "λ over the trace"),
    ],
)
def test_what_is_wrong_is_said(arguments, words):
    with pytest.raises(ValueError, match=words):
        Figure(**arguments)


def test_what_is_wrong_with_a_session_is_said(session):
    with pytest.raises(ValueError, match="no view 'histogram'"):
        Figure(session, show="histogram")
    with pytest.raises(ValueError, match="gone"):
        Figure(session, "gone")
    with pytest.raises(TypeError, match="got a str"):
        Figure("digits-cnn")
    with pytest.raises(RuntimeError, match="measure"):
        Figure(Session(conv_net(), images(64)))


def test_packed_numbers_come_back():
    assert unpacked(packed([0, 1, 65_535], "u2")).tolist() == [0, 1, 65_535]
    assert unpacked(packed(np.array([1e-300, 0.1]), "f8")).tolist() == [1e-300, 0.1]
    assert unpacked(packed([], "f4")).size == 0
    with pytest.raises(ValueError, match="65,536"):
        packed([70_000], "u2")


def test_it_is_public():
    assert workbench.Figure is Figure
