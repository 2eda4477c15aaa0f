"""Moments at readers: of one tensor for several, of numbers that float32 cannot square, of few samples."""

import pytest
import torch
from networks import mlp
from test_measuring import inputs_of
from torch import nn

from workbench.measure.moments import measure_moments
from workbench.network.finding.proof import find_groups


class Shared(nn.Module):
    """One tensor for several readers, in the ways that tell it from another."""

    def __init__(self, how):
        super().__init__()
        self.how, self.stem = how, nn.Linear(5, 19)
        self.q, self.k, self.v, self.w = (nn.Linear(19, 3) for _ in range(4))

    def forward(self, x):
        hidden = self.stem(x).tanh()
        if self.how == "a copy between":
            return self.q(hidden) + self.k(hidden.clone()) + self.v(hidden) + self.w(hidden)
        if self.how == "changed in place between":
            out = self.q(hidden) + self.k(hidden)
            hidden.mul_(2.0)
            return out + self.v(hidden) + self.w(hidden)
        if self.how in ("written as data", "written by NumPy", "other data"):
            out = self.q(hidden) + self.k(hidden)
            if self.how == "written as data":
                hidden.data.mul_(2.0)
            elif self.how == "written by NumPy":
                hidden.detach().numpy()[:] *= 2.0
            else:
                hidden.data = 2.0 * hidden.data
            return out + self.v(hidden) + self.w(hidden)
        if self.how == "another in later batches" and x.shape[0] == 13:
            return self.q(hidden) + self.k(3 * hidden) + self.v(hidden) + self.w(hidden)
        if self.how == "one reader twice":
            return self.q(hidden) + self.q(hidden) + self.k(hidden) + self.v(-hidden) + self.w(hidden)
        if self.how == "tensors that come and go":
            return self.q(hidden * 1) + self.k(hidden * 2) + self.v(hidden * 3) + self.w(hidden * 4)
        return self.q(hidden) + self.k(hidden) + self.v(hidden) + self.w(hidden)


WAYS = [
    "the same", "a copy between", "changed in place between", "another in later batches", "one reader twice",
    "tensors that come and go", "written as data", "written by NumPy", "other data",
]  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
def test_readers_of_one_tensor_have_the_moment_of_what_each_received(how):
    torch.manual_seed(3)
    model, batches = Shared(how), [torch.randn(17, 5), torch.randn(13, 5), torch.randn(11, 7, 5)]
    seen = {name: [] for name in "qkvw"}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _m, args, name=name: seen[name].append(args[0].double().flatten(0, -2).clone())
        )
        for name in seen
    ]
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    (group,) = (group for group in find_groups(model, batches[0]) if group.prunable)
    statistics = measure_moments(model, [group], batches)[group.name]
    for reader, moment in zip(group.readers, statistics.moments, strict=True):
        samples = torch.cat(seen[reader.module])
        expected = samples.T @ samples / len(samples)
        assert moment.count == len(samples)
        assert (moment.matrix - expected).abs().max() <= 1e-7 * expected.trace()
    first = torch.cat(seen[group.readers[0].module])
    torch.testing.assert_close(statistics.magnitude, first.abs().mean(0), rtol=1e-6, atol=0)
    assert torch.equal(statistics.active, (first != 0).double().mean(0))
    assert (len({id(moment) for moment in statistics.moments}) == 1) == (how == "the same")


def test_products_keep_their_digits_where_the_network_works_in_fewer():
    class Short(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm, self.head = nn.Linear(5, 24), nn.BatchNorm1d(24), nn.Linear(24, 3)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.head(self.norm(self.stem(x)).float().tanh()).float()

    torch.manual_seed(3)
    model, x = Short().eval(), torch.randn(211, 5)
    caught = inputs_of(model, "head", x).double()
    groups = find_groups(model, x)
    (found,) = (measure_moments(model, groups, x)[g.name].moments[0] for g in groups if g.prunable)
    expected = caught.T @ caught / len(caught)
    assert (found.matrix - expected).abs().max() <= 1e-7 * expected.trace()


@pytest.mark.parametrize("scale", [1e25, 1e-30])
def test_activations_whose_squares_leave_float32_are_no_fault(scale):
    model, x = mlp(5, 17, 3), torch.randn(101, 5)
    with torch.no_grad():
        model[0].weight *= scale
        model[0].bias *= scale
    layer = next(
        name for name, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == 3
    )
    caught = inputs_of(model, layer, x).double()
    groups = [group for group in find_groups(mlp(5, 17, 3), x) if group.prunable]
    found = measure_moments(model, groups, x)[groups[0].name].moments[0]
    torch.testing.assert_close(found.matrix, caught.T @ caught / 101, rtol=1e-12, atol=0)


@pytest.mark.parametrize("cuts", [(11,), (3, 3, 5)])
def test_fewer_samples_than_units_leave_their_rank_to_be_seen(cuts):
    model, x = mlp(5, 67, 3), torch.randn(11, 5)
    groups = [group for group in find_groups(model, x) if group.prunable]
    found = measure_moments(model, groups, list(x.split(cuts)))[groups[0].name].moments[0]
    values = torch.linalg.eigvalsh(found.matrix)
    assert int((values > 1e-12 * values[-1]).sum()) <= 11
