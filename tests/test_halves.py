"""Half-split error bars: the spectrum of each half of the data is what numpy finds on it."""

import numpy as np
import pytest
import torch
from labelled import TARGETS
from networks import conv_net, images

import workbench as wb
from workbench.plots import plot_degrees_of_freedom


def session_on(data, **options):
    session = wb.Session(conv_net(), data, **options)
    session.measure()
    return session


def freedom(phi, lam):
    """N(λ), relative to the trace, of activations (n, m), by numpy alone."""
    mu = np.linalg.eigvalsh(phi.T @ phi / len(phi))
    return float((mu / (mu + lam * mu.sum())).sum())


def activations(session, x):
    seen = []
    handle = session.model.fc2.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].double().numpy())
    )
    with torch.no_grad():
        session.model(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("form", ["batches", "whole tensors"])
def test_they_are_those_of_even_and_odd_batches(form):
    x = images(64)
    parts = list(x.split(16))
    data = [(part, TARGETS[:16]) for part in parts] if form == "batches" else x
    session = session_on(data)
    found = session.half_spectra()
    assert set(found) == {group.name for group in session.groups if group.prunable}
    even, odd = (
        (x[:32], x[32:]) if form == "whole tensors" else (torch.cat(parts[::2]), torch.cat(parts[1::2]))
    )
    for spectrum, half in zip(found["fc1"], (even, odd), strict=True):
        for lam in (1e-4, 1e-2):
            own = spectrum.degrees_of_freedom(lam * spectrum.trace)
            assert own == pytest.approx(freedom(activations(session, half), lam), rel=1e-5)


def test_after_a_commit_they_are_of_the_units_that_are_left():
    session = session_on([images(32), images(32, seed=1)])
    before = session.half_spectra()["fc1"]
    session.commit(session.preview("fc1", width=7))
    after = session.half_spectra()["fc1"]
    assert [one.width for one in before] == [13, 13]
    assert [one.width for one in after] == [7, 7]
    session.undo()
    assert np.allclose(session.half_spectra()["fc1"][0].eigenvalues, before[0].eigenvalues)


def test_a_single_batch_has_no_halves():
    session = session_on([images(8)])
    with pytest.raises(ValueError, match="no two halves"):
        session.half_spectra()


def test_the_plot_shades_between_them():
    session = session_on([images(32), images(32, seed=1)])
    halves = [one.eigenvalues for one in session.half_spectra()["conv1"]]
    ax = plot_degrees_of_freedom(session.spectrum("conv1").eigenvalues, halves=halves)
    (band,) = ax.collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(7, abs=0.1)
    assert "halves" in ax.get_legend().get_texts()[0].get_text()
    with pytest.raises(ValueError, match="two halves"):
        plot_degrees_of_freedom(session.spectrum("conv1").eigenvalues, halves=halves[:1])
