"""Heads of attention, however code tells them apart: found, removed one by one, saved, or why they stay."""

import copy

import pytest
import torch
from attention_kinds import HEAD, HEADS, KINDS, WIDTH, Fused, NanoGpt, Network, build, inputs
from mentions import unmentioned
from silencing import difference, each_alone, lively, silenced_outputs, tensors, worst_together
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.finding.proof import find_groups
from workbench.network.rebuilt.explicit import explicit
from workbench.network.rebuilt.fallen_sizes import fallen_of
from workbench.network.surgery import remove_units

RESIZED = (
    "nanoGPT",
    "nanoGPT without flash",
    "fused, C // heads",
    "fused, a bias of parts",
    "separate, own // heads, then C",
)
SHARED = [kind for kind in KINDS if "1 for 4" in kind or kind in ("GPT-BigCode", "Falcon")]


def found(kind):
    """(network in float64, its groups, the one of the heads)."""
    model = explicit(lively(build(kind)))
    groups = find_groups(model, inputs().double())
    out = [name for name, module in model.attn.named_modules() if isinstance(module, nn.Linear)][-1]
    return model, groups, next(g for g in groups if f"attn.{out}" in [r.module for r in g.readers])


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_units_and_removing_some_is_silencing_them(kind):
    model, groups, heads = found(kind)
    assert heads.prunable
    assert heads.width == KINDS[kind][1]
    assert heads.readers[-1].positions == WIDTH // heads.width
    for count in (4, 7):
        x = inputs(count).double()
        for name, (off, effect) in each_alone(model, groups, x, times=3).items():
            assert off < 1e-12, name
            assert effect > 1e-4, name
        assert worst_together(model, groups, x, times=3) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_an_attention_is_spoken_of(kind):
    assert unmentioned(wb.Session(build(kind), [inputs()])) == set()


@pytest.mark.parametrize("kind", RESIZED)
def test_smaller_code_takes_other_batches_and_lengths(kind):
    model, groups, heads = found(kind)
    kept = [0, 3]
    small, left = remove_units(model, groups, heads.name, kept)
    smaller, _ = remove_units(small, left, heads.name, [1])
    for count, tokens in ((1, 5), (3, 9), (8, 2)):
        x = inputs(count, tokens).double()
        for pruned, lost in ((small, [1, 2]), (smaller, [0, 1, 2])):
            silent = silenced_outputs(model, {heads.name: lost}, groups, x)
            assert difference(tensors(pruned(x)), silent) < 1e-12


@pytest.mark.parametrize("kind", SHARED)
def test_a_key_that_all_heads_share_stays_and_says_so(kind):
    _, groups, _ = found(kind)
    reasons = [g.why_not for g in groups if not g.prunable and "head" not in g.name]
    assert sum("shared by all heads" in reason for reason in reasons) == 2  # the key, the value


@pytest.mark.parametrize("kind", [*RESIZED, "GPT-BigCode", "separate, attribute"])
def test_what_was_pruned_is_saved_opened_exported_and_undone(kind, tmp_path):
    model, x = build(kind), inputs()
    session = wb.Session(model, [x])
    session.measure()
    name = next(g.name for g in session.groups if g.prunable and g.width == HEADS)
    session.commit(session.preview(name, width=HEADS - 1))
    session.commit(session.preview(name, width=2))
    session.export(tmp_path / "export")
    session.save(tmp_path / "session")
    given = {"pruned": wb.load_pruned(build(kind), tmp_path / "export")}
    given["opened"] = wb.Session.open(tmp_path / "session", copy.deepcopy(model), [x]).model
    for what in (x, inputs(7, 9)):
        wanted = session.model(what)
        assert all(torch.equal(other(what), wanted) for other in given.values())
    session.undo()
    session.undo()
    assert torch.equal(session.model(x), explicit(copy.deepcopy(model))(x))
    assert not any(fallen_of(module) for module in session.model.modules())


def test_a_program_of_smaller_code_takes_other_batches(tmp_path):
    session = wb.Session(build("nanoGPT without flash"), [inputs()])
    session.measure()
    session.commit(session.preview("attn.c_attn", width=3))
    session.export(tmp_path, formats=["pt2"])
    program = torch.export.load(tmp_path / "model.pt2").module()
    x = inputs(6)
    assert torch.allclose(program(x), session.model(x), atol=1e-6)


def test_gradients_of_smaller_code_are_those_of_silenced_units():
    model, groups, heads = found("fused, C // heads")
    small, _ = remove_units(model, groups, heads.name, [1, 2])
    x = inputs().double()
    small.train()(x).square().sum().backward()
    silent = copy.deepcopy(model).train()
    with torch.no_grad():
        silent.attn.proj.weight[:, [*range(HEAD), *range(3 * HEAD, 4 * HEAD)]] = 0
    silent(x).square().sum().backward()
    assert torch.allclose(small.stem.weight.grad, silent.stem.weight.grad)
    assert torch.allclose(
        small.attn.proj.weight.grad, silent.attn.proj.weight.grad[:, HEAD : 3 * HEAD], atol=1e-12
    )


def test_code_that_is_not_the_pruned_one_says_so(tmp_path):
    session = wb.Session(build("nanoGPT"), [inputs()])
    session.measure()
    session.commit(session.preview("attn.c_attn", width=3))
    session.export(tmp_path)

    class Other(nn.Module):
        def forward(self, x):
            return functional.linear(x, torch.eye(WIDTH))

    model = wb.load_pruned(build("nanoGPT"), tmp_path)
    model.attn.__class__ = type("NanoGpt", (NanoGpt,), {"forward": Other.forward})
    with pytest.raises(RuntimeError, match="is not the one that was pruned"):
        model(inputs())


class Lying(Fused):
    """Counts its heads once by the width of its input and once by that of what is left."""

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x)
        scale = qkv.shape[-1] ** 0.5  # falls with the units: not the silenced network
        q, k, v = qkv.reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = (q @ k.transpose(-2, -1) / scale).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(B, N, C))


def test_heads_whose_number_changes_the_result_are_refused():
    torch.manual_seed(0)
    groups = find_groups(Network(Lying("C // heads")).eval(), inputs())
    group = next(g for g in groups if g.name == "attn.qkv")
    assert not group.prunable
    assert group.why_not


def test_passes_of_repeated_layers_grow_with_no_layer():
    class Deep(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.stem, self.head = nn.Linear(7, WIDTH), nn.Linear(WIDTH, 3)
            self.layers = nn.ModuleList([Network(NanoGpt(True)) for _ in range(depth)])

        def forward(self, x):
            x = self.stem(x)
            for layer in self.layers:
                x = x + layer.attn(layer.norm(x))
            return self.head(x.mean(1))

    counts = []
    for depth in (2, 7):
        torch.manual_seed(0)
        model, calls = Deep(depth).eval(), []
        for layer in model.layers:
            del layer.stem, layer.head
        handle = model.register_forward_pre_hook(lambda *_args, calls=calls: calls.append(1))
        groups = find_groups(model, inputs())
        handle.remove()
        assert sum(g.prunable for g in groups) == depth
        counts.append(len(calls))
    assert counts[1] <= counts[0] + 2
