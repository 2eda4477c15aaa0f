"""What the theory says of a session's choices, against naive formulas, hooks and dense operators."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from networks import Residual, conv_net, images, mlp
from torch import nn

from workbench.network.chain import chain_of
from workbench.network.lipschitz import operator_norm, spectral_norm
from workbench.pruning.problem import NotMeasuredError
from workbench.session.session import Session
from workbench.spectral.bounds import guaranteed_width
from workbench.spectral.guarantee import sampled_losses


def linear_session(**options) -> Session:
    """Three hidden layers on inputs that vary in some directions more than in others."""
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    x = torch.randn(211, 7, generator=generator) * torch.logspace(0, -2, 7)
    session = Session(mlp(7, 23, 19, 17, 5), x, **options)
    session.measure()
    return session


@pytest.fixture(scope="module")
def linear() -> Session:
    return linear_session()


def naive_residual(session: Session, name: str, kept, lam: float, width: int) -> np.ndarray:
    """C_J with an inverse, and leverage scores with another."""
    sigma = session.moment(name).matrix.numpy()
    m = len(sigma)
    smooth = sigma @ np.linalg.inv(sigma + lam * np.eye(m))
    tau = lam * width * np.diag(smooth) / np.trace(smooth)
    chosen = list(kept)
    inner = np.linalg.inv(sigma[np.ix_(chosen, chosen)] + np.diag(tau[chosen]))
    return sigma - sigma[:, chosen] @ inner @ sigma[chosen]


def rms_between(first, second, inputs, *, module="") -> float:
    """Root mean square over examples of what two networks give, at a layer or at the output."""
    found = []
    for model in (first, second):
        outputs = []
        layer = model.get_submodule(module)
        handle = layer.register_forward_hook(lambda _m, _a, out, kept=outputs: kept.append(out.detach()))
        with torch.no_grad():
            model(inputs)
        handle.remove()
        found.append(outputs[-1].double())
    change = (found[0] - found[1]).flatten(1)
    return float(change.square().sum(1).mean().sqrt())


def test_largest_loss_is_the_largest_eigenvalue_of_a_naive_residual(linear):
    lam = 1e-2 * linear.spectrum("2").trace
    theory = linear.theory("2", lam=lam)
    naive = naive_residual(linear, "2", theory.kept, lam, theory.width)
    assert theory.largest_loss == pytest.approx(np.linalg.eigvalsh(naive)[-1], rel=1e-9)
    assert theory.width == math.ceil(theory.degrees_of_freedom)
    assert theory.read_out_bound == 4 * lam
    assert theory.guaranteed_width == guaranteed_width(theory.degrees_of_freedom)
    assert theory.promises == (theory.guaranteed_width <= 19)


def test_the_worst_read_out_errs_by_the_largest_loss(linear):
    """The unit-norm w of the top eigenvector: min over a of E(wᵀφ − aᵀφ_J)² + aᵀI_τa, by least squares."""
    lam = 1e-2 * linear.spectrum("4").trace
    theory = linear.theory("4", lam=lam)
    _, vectors = np.linalg.eigh(naive_residual(linear, "4", theory.kept, lam, theory.width))
    sigma = linear.moment("4").matrix.numpy()
    tau = (lam * theory.width * linear.spectrum("4").leverage(lam)).numpy()
    w, kept = vectors[:, -1], list(theory.kept)
    a = np.linalg.solve(sigma[np.ix_(kept, kept)] + np.diag(tau[kept]), sigma[kept] @ w)
    error = w @ sigma @ w - 2 * a @ sigma[kept] @ w + a @ sigma[np.ix_(kept, kept)] @ a
    assert theory.largest_loss == pytest.approx(error + a @ np.diag(tau[kept]) @ a, rel=1e-9)
    assert theory.largest_loss >= error


def test_local_error_is_what_hooks_see_and_below_its_bound(linear):
    inputs = next(iter(linear.calibration))[0]
    theory = linear.theory("2", width=9)
    pruned = Session(linear.original, inputs)
    pruned.measure()
    pruned.commit(pruned.preview("2", width=9))
    seen = rms_between(linear.original, pruned.model, inputs, module="4")
    assert [one.reader for one in theory.readers] == ["4"]
    assert theory.local_measured == pytest.approx(seen, rel=1e-6)
    assert theory.readers[0].exact
    assert theory.local_measured <= theory.local_bound < 3 * theory.local_measured
    output = rms_between(linear.original, pruned.model, inputs)
    assert theory.output_change == pytest.approx(output, rel=1e-6)
    with torch.no_grad():
        size = float(linear.original(inputs).double().square().sum(1).mean().sqrt())
    assert theory.output_error == pytest.approx(output / size, rel=1e-6)


@pytest.mark.parametrize("reconstruction", ["channel", "none", "original"])
def test_the_propagated_error_bounds_the_measured_one(linear, reconstruction):
    theory = linear.theory("0", width=6, reconstruction=reconstruction)
    assert theory.output_change <= theory.propagated_from_measured
    norms = [
        float(torch.linalg.matrix_norm(linear.original.get_submodule(n).weight.detach(), 2)) for n in "46"
    ]
    expected = theory.local_measured * math.prod(norms)
    assert theory.propagated_from_measured == pytest.approx(expected, rel=1e-5)
    if reconstruction != "original":  # whose readers have another bias
        assert theory.propagated_exact
        assert theory.local_measured <= theory.local_bound
        assert theory.output_change <= theory.propagated_bound


def test_the_whole_network_at_one_lam_is_bounded_by_the_sum_over_layers(linear):
    theory = linear.network_theory(1e-2)
    freedom = [linear.spectrum(name).degrees_of_freedom(1e-2 * linear.spectrum(name).trace) for name in "024"]
    assert [one.width for one in theory.layers] == [math.ceil(n) for n in freedom]
    assert theory.output_change <= theory.propagated_from_measured <= theory.propagated_bound
    committed = linear_session()
    committed.commit_plan({one.group: one.width for one in theory.layers}, lam=1e-2)
    same = committed.network_theory()
    assert same.propagated_bound == pytest.approx(theory.propagated_bound, rel=1e-6)
    assert same.output_change == pytest.approx(theory.output_change, rel=1e-6)
    inputs = next(iter(linear.calibration))[0]
    assert same.output_change == pytest.approx(
        rms_between(committed.original, committed.model, inputs), rel=1e-6
    )
    error = 0.0  # the recursion e ← ‖W♯‖e + local, by hand
    for one in theory.readers:
        weight = committed.model.get_submodule(one.reader).weight.detach()
        error = error * float(torch.linalg.matrix_norm(weight, 2)) + one.local_bound
    assert theory.propagated_bound == pytest.approx(error, rel=1e-5)


def test_local_errors_hold_where_the_commits_come_in_any_order():
    session = linear_session()
    for name in ("4", "0", "2", "0"):
        session.commit(session.preview(name, width=session.group(name).width // 2))
    theory = session.network_theory()
    assert all(one.exact for one in theory.readers)
    assert all(one.local_measured <= one.local_bound * (1 + 1e-6) + 1e-7 for one in theory.readers)
    assert theory.output_change <= theory.propagated_from_measured


def test_a_convolution_s_local_error_is_measured_and_called_an_estimate():
    model, x = conv_net(), images(64)
    session = Session(model, x)
    session.measure()
    theory = session.theory("conv1", width=4)
    reader = theory.readers[0]
    assert (reader.reader, reader.exact, reader.positions) == ("conv2", False, 16.0)
    session.commit(session.preview("conv1", width=4))
    seen = rms_between(session.original, session.model, x, module="conv2")
    assert reader.local_measured * math.sqrt(reader.positions) == pytest.approx(seen, rel=1e-5)
    assert theory.output_change <= theory.propagated_from_measured


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 1}, {"padding": 2, "dilation": 2}])
def test_a_convolution_s_norm_is_that_of_its_dense_operator(options):
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 5, 3, **options).double()
    inputs = torch.zeros(1, 3, 7, 7, dtype=torch.float64)
    basis = torch.eye(inputs.numel(), dtype=torch.float64).reshape(-1, *inputs.shape[1:])
    with torch.no_grad():
        dense = (layer(basis) - layer(inputs)).flatten(1)
    expected = float(torch.linalg.matrix_norm(dense, 2))
    assert spectral_norm(layer, inputs) == pytest.approx(expected, rel=1e-3)


def test_operator_norm_of_a_pooling_is_that_of_its_matrix():
    pool = nn.AvgPool2d(3, stride=2, padding=1)
    basis = torch.eye(25).reshape(25, 1, 5, 5)
    expected = float(torch.linalg.matrix_norm(pool(basis).flatten(1), 2))
    assert operator_norm(pool, basis[:1]) == pytest.approx(expected, rel=1e-3)


def test_a_convolution_and_its_batch_norm_count_as_one_operator():
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 25, 3)
    ).eval()
    model[1].running_var.uniform_(0.01, 4)
    nn.init.uniform_(model[1].weight, -2, 2)
    chain = chain_of(model, images(4, size=5))
    basis = torch.eye(50).reshape(50, 2, 5, 5)
    with torch.no_grad():
        dense = (model[:2](basis) - model[:2](torch.zeros(1, 2, 5, 5))).flatten(1)
        linear = float(torch.linalg.matrix_norm(model[4].weight, 2))
        scale = (model[1].weight.abs() / (model[1].running_var + model[1].eps).sqrt()).max()
    together = float(torch.linalg.matrix_norm(dense, 2))
    assert chain.from_input_of("0") == pytest.approx(together * linear, rel=1e-3)
    assert chain.above("0") == pytest.approx(float(scale) * linear, rel=1e-4)
    assert chain.above("0", "1") == pytest.approx(linear, rel=1e-4)


def test_an_error_goes_on_upwards_as_it_is_behind_the_norm():
    model, x = conv_net(), images(64)
    session = Session(model, x)
    session.measure()
    reader = session.theory("conv1", width=4).readers[0]
    session.commit(session.preview("conv1", width=4))
    seen = rms_between(session.original, session.model, x, module="bn2")
    assert reader.norm == "bn2"
    assert reader.behind_measured * math.sqrt(reader.positions) == pytest.approx(seen, rel=1e-5)


def test_the_factor_above_a_layer_bounds_every_change_there():
    """Not a tight bound, but one: changes at a layer's output, and what they come to."""
    model, x = conv_net(), images(8)
    chain = chain_of(model, x)
    generator = torch.Generator().manual_seed(3)
    for module in ("conv1", "conv2", "fc1"):
        for size in (1e-3, 1.0, 100.0):
            noise = {}

            def moved(_module, _args, out, noise=noise, size=size):
                noise["it"] = size * torch.randn(out.shape, generator=generator)
                return out + noise["it"]

            with torch.no_grad():
                before = model(x)
                handle = model.get_submodule(module).register_forward_hook(moved)
                after = model(x)
                handle.remove()
            stretched = (after - before).norm(dim=1) / noise["it"].flatten(1).norm(dim=1)
            assert float(stretched.max()) <= chain.above(module) * (1 + 1e-3)


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [
        (Residual(), images(32), "two paths meet"),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(32, 5, 8), "not a chain"),
    ],
)
def test_where_there_is_no_chain_there_is_no_propagated_bound(model, x, words):
    session = Session(model.eval(), x)
    session.measure()
    name = next(group.name for group in session.groups if group.prunable)
    theory = session.theory(name, width=session.group(name).width // 2)
    assert theory.propagated_bound is None
    assert theory.propagated_from_measured is None
    assert words in theory.why_not
    assert theory.output_error > 0
    swept = session.bias_variance([1e-3, 1e-2])
    assert swept.stretch.why_not
    assert set(swept.stretch.factors) == {1.0}


def test_after_training_there_is_no_propagated_bound():
    session = linear_session()
    session.commit(session.preview("2", width=9))
    session.refit()
    theory = session.network_theory()
    assert theory.propagated_bound is None
    assert "more than the readers" in theory.why_not
    assert theory.output_error > 0


def test_bias_and_variance_by_hand_on_three_layers(linear):
    swept = linear.bias_variance([1e-3, 1e-1], samples=500)
    norms = {
        n: float(torch.linalg.matrix_norm(linear.original.get_submodule(n).weight.detach(), 2)) for n in "246"
    }
    factors = [norms["2"] * norms["4"] * norms["6"], norms["4"] * norms["6"], norms["6"]]
    for row, relative in enumerate((1e-3, 1e-1)):
        spectra = [linear.spectrum(name) for name in "024"]
        lams = [relative * s.trace for s in spectra]
        kept = [
            math.ceil(float((s.eigenvalues / (s.eigenvalues + lam)).sum()))
            for s, lam in zip(spectra, lams, strict=True)
        ]
        widths = [7, *kept, 5]
        assert swept.widths[row].tolist() == kept
        bias = sum(f * math.sqrt(lam) for f, lam in zip(factors, lams, strict=True))
        assert swept.bias[row] == pytest.approx(bias, rel=1e-5)
        products = sum(a * b for a, b in pairwise(widths))
        assert swept.variance[row] == pytest.approx(math.sqrt(products * math.log(500) / 500), rel=1e-12)
    assert swept.best == swept.lams[int(np.argmin(swept.bias + swept.variance))]


def test_samples_are_the_calibration_examples_by_default(linear):
    assert linear.bias_variance([1e-2]).samples == 211


@pytest.mark.parametrize("example", ["digits-cnn", "digits-mlp"])
def test_at_least_half_of_the_samples_keep_the_guarantee(example):
    session = Session.example(example)
    session.measure()
    for group in session.groups:
        if group.prunable and group.width <= 300:
            swept = session.theory_sweep(group.name, [1e-4, 1e-2, 1e-1], draws=4)
            shares = (swept.sampled <= swept.read_out_bound[:, None]).mean(1)
            assert (shares >= 0.5).all(), group.name
            assert (swept.sampled > 0).all()


def test_the_dimension_is_no_guarantee_but_the_guaranteed_width_is():
    """With far fewer samples than guaranteed, λ_max(C_J) does go above 4λ: the test above is no empty one."""
    session = linear_session()
    spectrum = session.spectrum("2")
    theory = session.theory("2", lam=1e-4 * spectrum.trace, width=1, draws=30)
    assert theory.largest_loss > theory.read_out_bound
    assert theory.sampled_share >= 0.5
    assert theory.sampled_losses.shape == theory.sampled_units.shape == (30,)


def test_a_sampled_unit_that_comes_c_times_is_c_features(linear):
    """C_J of c copies of a unit, each with ridge τ, written out as a matrix with repeated columns."""
    lam, width = 1e-1 * linear.spectrum("0").trace, 40
    spectrum, sigma = linear.spectrum("0"), linear.moment("0").matrix.numpy()
    found, distinct = sampled_losses(linear.moment("0"), spectrum, lam, width, 3, seed=4)
    generator = torch.Generator().manual_seed(4)
    for loss, units in zip(found, distinct, strict=True):
        sampled = torch.multinomial(spectrum.leverage(lam), width, replacement=True, generator=generator)
        chosen = sampled.tolist()
        tau = lam * width * spectrum.leverage(lam).numpy()[chosen]
        inner = np.linalg.inv(sigma[np.ix_(chosen, chosen)] + np.diag(tau))
        naive = sigma - sigma[:, chosen] @ inner @ sigma[chosen]
        assert float(loss) == pytest.approx(np.linalg.eigvalsh(naive)[-1], rel=1e-8)
        assert int(units) == len(set(chosen))


def test_errors_say_what_to_do(linear):
    with pytest.raises(ValueError, match="nothing is committed"):
        linear.network_theory()
    with pytest.raises(ValueError, match="positive finite"):
        linear.network_theory(0)
    with pytest.raises(ValueError, match="positive finite"):
        linear.bias_variance([-1.0])
    with pytest.raises(ValueError, match="positive finite"):
        linear.theory_sweep("0", [0.0])
    with pytest.raises(ValueError, match="at least 1"):
        linear.theory("0", width=3, draws=0)
    fresh = Session(mlp(7, 11, 5), torch.randn(20, 7))
    for asked in (lambda: fresh.theory("0", width=3), lambda: fresh.network_theory(0.1), fresh.bias_variance):
        with pytest.raises(NotMeasuredError):
            asked()


def test_a_choice_of_all_units_changes_its_reader_by_the_ridge(linear):
    """Â at full width is not the identity where λ > 0: the output does change, and the bound says so."""
    theory = linear.theory("2", lam=1e-1 * linear.spectrum("2").trace, width=19)
    assert theory.width == theory.of
    assert 0 < theory.local_measured <= theory.local_bound
    assert 0 < theory.output_change <= theory.propagated_from_measured <= theory.propagated_bound


def test_nothing_is_kept(linear):
    before = {name: tensor.clone() for name, tensor in linear.model.state_dict().items()}
    linear.theory("2", width=3)
    linear.network_theory(1e-1)
    assert linear.position == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in linear.model.state_dict().items())
