"""Where sizes in code stand: two calls in a line, helpers, equal numbers, other ways to run, edited files."""

import copy
import importlib.util
import sys

import pytest
import torch
from attention_kinds import HEAD, HEADS, WIDTH, NanoGpt, Network
from silencing import difference, each_alone, lively, silenced_outputs, tensors, worst_together
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import workbench as wb
from workbench.network.cost import count_cost
from workbench.network.finding.proof import find_groups
from workbench.network.rebuilt.fallen_sizes import Fallen, Resized, fallen_of
from workbench.network.rebuilt.given_sizes import given_sizes
from workbench.network.surgery import remove_units

SHAPES = ((1, 5), (HEADS, HEADS), (3, 9), (HEADS, HEAD), (2, WIDTH), (WIDTH, HEAD), (2, 1))


def attended(q, k, v):
    return (q @ k.mT / HEAD**0.5).softmax(-1) @ v


def heads_of(x, heads, size):
    return x.view(*x.shape[:2], heads, size).transpose(1, 2)


def parted(x, parts):
    return x.reshape(*x.shape[:2], parts, -1)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = HEADS
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))


class OneLine(Layers):
    """Two calls in a line; in one of them the number of examples stands where heads stand in the other."""

    def forward(self, x):
        B, N, C = x.shape
        d = C // self.h
        q, k, v = (
            y(x).view(B, N, self.h, d).transpose(1, 2).reshape(B * self.h, N, d)
            for y in (self.q, self.k, self.v)
        )
        y = attended(q, k, v)
        return self.o(y.view(B, self.h, N, d).transpose(1, 2).reshape(B, N, C))


class Crossed(Layers):
    def forward(self, x):
        B, N, C = x.shape
        q, k, v = (t(x).view(B, N, self.h, C // self.h).transpose(1, 2) for t in (self.q, self.k, self.v))
        a, b = (q @ k.mT).softmax(-1).view(B * self.h, N, N), v.reshape(B * self.h, N, C // self.h)
        return self.o((a @ b).view(B, self.h, N, C // self.h).transpose(1, 2).reshape(B, N, C))


class Windows(Layers):
    """Windows of positions beside heads: many sizes may be equal."""

    def forward(self, x):
        B, N, C = x.shape
        w = 1 if N % 2 else 2
        x = x.view(B, N // w, w, C).reshape(-1, w, C)
        b = len(x)
        q, k, v = (y(x).reshape(b, w, self.h, C // self.h).transpose(1, 2) for y in (self.q, self.k, self.v))
        y = self.o(attended(q, k, v).transpose(1, 2).reshape(b, w, C))
        return y.view(B, N // w, w, C).reshape(B, N, C)


class Sliced(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        B, N, C = x.shape
        t = self.qkv(x)
        q, k, v = (heads_of(a, HEADS, C // HEADS) for a in (t[..., :C], t[..., C : 2 * C], t[..., -C:]))
        return self.o(attended(q, k, v).transpose(1, 2).reshape(B, N, C))


class Helped(Layers):
    """Passes its work over where there is one position, or by chance."""

    def forward(self, x):
        B, N, C = x.shape
        if N == 1:
            return x
        q, k, v = (heads_of(y(x), self.h, C // self.h) for y in (self.q, self.k, self.v))
        return self.o(attended(q, k, v).transpose(1, 2).reshape(B, N, C))


class Around(nn.Module):
    """One that runs the forward of another itself, and a third that has heads of its own."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Helped(), OneLine(), Helped()

    def forward(self, x):
        return self.c(self.b(x + self.a.forward(x)))


class Loop(nn.Module):
    """Layers that one line runs in turn."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layers() for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            B, N, C = x.shape
            q, k, v = (heads_of(y(x), HEADS, C // HEADS) for y in (layer.q, layer.k, layer.v))
            x = x + layer.o(attended(q, k, v).transpose(1, 2).reshape(B, N, C))
        return x


class Length(Layers):
    """One line takes heads apart and, of other numbers, positions: these may be as many as heads."""

    def forward(self, x):
        B, N, C = x.shape
        given = ((self.q(x), self.h), (self.k(x), self.h), (self.v(x), self.h), (x.mT, N))
        q, k, v, same = [parted(t, n) for t, n in given]
        y = attended(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2).reshape(B, N, C)
        return self.o(y) + same.reshape(B, C, N).mT


def network(kind, count=4, tokens=5):
    """(network in float64, its groups, proved with so many examples and positions)."""
    torch.manual_seed(0)
    model = lively(Network(kind()))
    return model, find_groups(model, torch.randn(count, tokens, 7).double())


def lessened(kind=Helped, kept=(0, 3)):
    """(network, its groups, that of heads, the network with `kept` of these, its groups)."""
    model, groups = network(kind)
    heads = next(g for g in groups if g.prunable and g.width == HEADS)
    return model, groups, heads, *remove_units(model, groups, heads.name, list(kept))


@pytest.mark.parametrize("proved", [(4, 5), (HEADS, HEADS), (1, HEAD), (2, WIDTH)])
@pytest.mark.parametrize("kind", [OneLine, Crossed, Windows, Sliced, Helped, Around, Loop])
def test_sizes_that_are_equal_by_chance_are_not_taken_for_others(kind, proved):
    model, groups = network(kind, *proved)
    assert any(g.sizes for g in groups if g.prunable)
    for shape in SHAPES:
        x = torch.randn(*shape, 7).double()
        assert all(off < 1e-12 for off, _ in each_alone(model, groups, x, times=2).values())
        assert worst_together(model, groups, x, times=2) < 1e-12


def test_heads_that_may_be_taken_for_positions_are_refused():
    for proved in ((4, 5), (2, WIDTH), (1, HEAD)):
        assert not any(g.sizes for g in network(Length, *proved)[1] if g.prunable)


@pytest.mark.parametrize("kind", [OneLine, Crossed, Sliced, Windows])
def test_a_pruned_network_is_taken_apart_anew_and_pruned_further(kind):
    model, groups, heads, small, _ = lessened(kind, (0, 2, 3))
    x = torch.randn(4, 5, 7).double()
    kept = [0, 2, 3]
    for units in ([0, 2], [1]):
        anew = find_groups(small, x)
        assert next(g for g in anew if g.name == heads.name).prunable
        small, _ = remove_units(small, anew, heads.name, units)
        kept = [kept[unit] for unit in units]
        gone = {heads.name: sorted(set(range(HEADS)) - set(kept))}
        for shape in SHAPES:
            x = torch.randn(*shape, 7).double()
            with torch.no_grad():
                assert difference(tensors(small(x)), silenced_outputs(model, gone, groups, x)) < 1e-12
    assert all(one.now < one.was for one in fallen_of(small.attn) if one.units)


class Trained(nn.Module):
    """Training mode alone runs code that counts units."""

    def __init__(self):
        super().__init__()
        self.a, self.o, self.aux = nn.Linear(7, 11), nn.Linear(11, 3), nn.Linear(11, 2)

    def forward(self, x):
        h = self.a(x).relu()
        return (self.o(h), self.aux(h.reshape(-1, 11))) if self.training else self.o(h)


def test_sizes_that_training_mode_alone_gives_fall_as_well():
    torch.manual_seed(0)
    model, x = lively(Trained()), torch.randn(6, 7).double()
    groups = find_groups(model, x)
    small, _ = remove_units(model, groups, "a", [0, 2, 7])
    gone = {"a": [1, 3, 4, 5, 6, 8, 9, 10]}
    assert difference(tensors(small(x)), silenced_outputs(model, gone, groups, x)) < 1e-12
    with torch.no_grad():
        for layer in (model.o, model.aux):
            layer.weight[:, gone["a"]] = 0
        assert difference(tensors(small.train()(x)), tensors(model.train()(x))) < 1e-12


class Passing(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class WithinMode(Helped):
    def forward(self, x):
        with Passing():
            return super().forward(x)


class WithinWrapper(Helped):
    forward = torch.no_grad()(Helped.forward)


@pytest.mark.parametrize("kind", [WithinMode, WithinWrapper])
def test_modes_and_wrappers_in_the_code_are_no_places(kind):
    model, groups = network(kind)
    x = torch.randn(3, 9, 7).double()
    assert any(g.sizes for g in groups if g.prunable)
    assert worst_together(model, groups, x, times=2) < 1e-12


def nano():
    return NanoGpt(True)


@pytest.mark.parametrize("kind", [nano, OneLine, Crossed, Sliced, Helped])
def test_places_stay_however_python_runs_the_code(kind):
    """Cold, warm, under a debugger, and with a compiler's frames: calls are not at one instruction in all."""
    small, x = lessened(kind)[3], torch.randn(4, 5, 7).double()
    code = type(small.attn).forward.__code__
    type(small.attn).forward.__code__ = code.replace()  # as it is before it ever ran
    before = sys.gettrace()
    try:
        first = small(x)
        assert all(torch.equal(small(x), first) for _ in range(40))
        sys.settrace(lambda *_args: None)
        assert torch.equal(small(x), first)
    finally:
        sys.settrace(before)
        type(small.attn).forward.__code__ = code
    torch.compiler.reset()
    with pytest.raises(Exception, match="disable"):
        torch.compile(small, backend="eager", fullgraph=True)(x)
    assert torch.equal(small(x), first)


def test_forward_runs_by_itself_compiled_and_counted():
    _, _, _, small, _ = lessened()
    x = torch.randn(4, 5, 7).double()
    wanted, inner = small(x), small.norm(small.stem(x))
    assert torch.equal(small.attn.forward(x=inner), small.attn(inner))
    assert torch.allclose(torch.compile(small, backend="eager")(x), wanted, atol=1e-12)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        small(x[:1])
    assert count_cost(small, x[:1]).macs == counter.get_total_flops() // 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_older_tracer_of_torch_is_refused_in_words():
    _, _, _, small, _ = lessened()
    with pytest.raises(RuntimeError, match="cannot follow sizes in code"):
        torch.jit.trace(small, torch.randn(4, 5, 7).double())


TEXT = '''import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.qkv, self.o = 24, nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x):
        """What it does."""
        B, N, C = x.shape
        if N == 1: return x
        q, k, v = self.qkv(x).split(self.n, dim=2)
        q = q.view(B, N, 4, C // 4).transpose(1, 2)
        k = k.view(B, N, 4, C // 4).transpose(1, 2)
        v = v.view(B, N, 4, C // 4).transpose(1, 2)
        y = (q @ k.mT).softmax(-1) @ v
        return self.o(y.transpose(1, 2).reshape(B, N, C))
'''


@pytest.fixture
def exported(tmp_path):
    """(the folder, (network from other code) → what it is with the weights of the pruned one, the latter)."""

    def written(text):
        path = tmp_path / "code.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("code_in_a_file", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.manual_seed(0)
        return Network(module.Attention()).eval()

    session = wb.Session(written(TEXT), [torch.randn(4, 5, 7)])
    session.measure()
    session.commit(session.preview("attn.qkv", width=2))
    session.export(tmp_path / "export")
    return lambda text: wb.load_pruned(written(text), tmp_path / "export"), session.model


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("        q = q", "        # a comment\n\n        q = q"),
        lambda text: text.replace('What it does."""', 'What it does.\n\n        And why.\n        """'),
        lambda text: text.replace('        """What it does."""\n', ""),
        lambda text: text.replace(", ", ",").replace(" // ", "//"),
        lambda text: text.replace("    def forward", "    @torch.no_grad()\n    def forward"),
        lambda text: text.replace("class", "import math\n\n\nclass"),
    ],
)
def test_comments_spaces_and_what_wraps_a_function_may_change(exported, change):
    loaded, pruned = exported
    x = torch.randn(3, 8, 7)
    assert torch.equal(loaded(change(TEXT))(x), pruned(x))


@pytest.mark.parametrize(
    "new", ["        C = int(C)\n        q = q", "        q, k, v = v, q, k\n        q = q"]
)
def test_other_code_is_told_from_the_pruned_one(exported, new):
    loaded, _ = exported
    with pytest.raises(RuntimeError, match="the code of Attention is not the one that was pruned"):
        loaded(TEXT.replace("        q = q", new))(torch.randn(3, 8, 7))


def test_a_forward_that_passes_its_work_over_is_the_pruned_code_all_the_same(exported):
    loaded, pruned = exported
    one = torch.randn(3, 1, 7)
    network = loaded(TEXT)
    network(torch.randn(3, 8, 7))
    for other in (network, pruned, network.train()):
        assert torch.equal(other(one), network(one))
    with pytest.raises(RuntimeError, match="mat1 and mat2") as told:
        pruned(torch.randn(3, 8, 9))
    assert "pruned" not in str(told.value)


class Branching(nn.Module):
    """Heads counted on the width; from eight tokens on, code runs that shorter inputs do not reach."""

    def __init__(self):
        super().__init__()
        self.stem, self.qkv, self.out = nn.Linear(7, 24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.last = nn.Linear(24, 3)

    def forward(self, x):
        x = self.stem(x)
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1)
        if n > 7:
            scores = scores.view(b, 4, n * n).softmax(-1).view(-1, 4, n, n)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(b, n, c))
        return self.last(x)


@pytest.mark.parametrize("kept", [[0], [0, 3], [0, 1, 2]])
def test_code_that_only_other_inputs_reach_is_given_what_is_left(kept):
    torch.manual_seed(0)
    model = Branching().double().eval()
    groups = find_groups(model, torch.randn(2, 5, 7).double())
    (heads,) = [group for group in groups if group.sizes]
    pruned, _ = remove_units(model, groups, heads.name, kept)
    lost = {heads.name: [unit for unit in range(4) if unit not in kept]}
    for shape in [(2, 5, 7), (3, 9, 7), (1, 11, 7)]:
        x = torch.randn(*shape).double()
        with torch.no_grad():
            [expected] = silenced_outputs(model, lost, groups, x)
            torch.testing.assert_close(pruned(x), expected, rtol=1e-9, atol=1e-9)


class OwnWay(nn.Module):
    """A part that is copied by a way of its own, which knows nothing of what is put into it."""

    def __getstate__(self):
        return {"heads": 4}

    def __setstate__(self, state):
        nn.Module.__init__(self)

    def forward(self, x):
        return x.reshape(*x.shape[:2], 4, x.shape[-1] // 4).transpose(1, 2)


def test_sizes_in_code_of_what_is_copied_in_a_way_of_its_own_stay():
    class Parted(Branching):
        def __init__(self):
            super().__init__()
            self.part = OwnWay()

        def forward(self, x):
            x = self.stem(x)
            q, k, v = (self.part(one) for one in self.qkv(x).chunk(3, -1))
            x = x + self.out(((q @ k.transpose(-2, -1)) @ v).transpose(1, 2).flatten(2))
            return self.last(x)

    torch.manual_seed(0)
    session = wb.Session(Parted().double(), [torch.randn(2, 5, 7).double()])
    assert not any(group.sizes for group in session.groups)
    for group in session.groups:
        if group.prunable:
            pruned, _ = remove_units(session.model, session.groups, group.name, [0])
            copy.deepcopy(pruned)(torch.randn(1, 5, 7).double())


def test_an_axis_in_the_proportion_of_the_examples_is_not_taken_for_them():
    """Of heads 2 of 4 are left, and of examples 1 of 2: the head's dimension was divided, not the batch."""
    fallen = [
        Fallen("f:1.0", 2, 4, 2, 4), Fallen("f:1.0", 0, 2, 2, 0), Fallen("f:1.0", 1, 11, 11, 0),
        Fallen("f:1.0", 3, 8, 8, 0),
    ]  # fmt: skip
    forward = Resized(nn.Linear(2, 2), None, fallen, known=True)
    given = given_sizes(torch.reshape, (torch.zeros(1, 11, 16), (1, 11, 4, 4)), {})
    assert forward.left(given, "f:1.0") == [1, 11, 2, 8]


class OpenEnd(Branching):
    """Heads and examples share an axis, and another one is left open: nothing tells how many are heads."""

    def forward(self, x):
        x = self.stem(x)
        b, n, _ = x.shape
        q, k, v = (one.reshape(b * 4, 6, -1) for one in self.qkv(x).transpose(1, 2).chunk(3, 1))
        y = ((q.transpose(-2, -1) @ k).softmax(-1) @ v.transpose(-2, -1)).transpose(-2, -1)
        return self.last(x + self.out(y.reshape(b, -1, n).transpose(1, 2)))


def test_heads_that_share_an_open_call_with_examples_hold_for_any_number_or_are_refused():
    torch.manual_seed(0)
    model = OpenEnd().double().eval()
    groups = find_groups(model, torch.randn(2, 5, 7).double())
    for group in groups:
        for kept in ([0], [1, 3]) if group.prunable else ():
            pruned, _ = remove_units(model, groups, group.name, kept)
            for count in (1, 2, 3, 8):
                x = torch.randn(count, 5, 7).double()
                lost = {group.name: [unit for unit in range(group.width) if unit not in kept]}
                with torch.no_grad():
                    [expected] = silenced_outputs(model, lost, groups, x)
                    torch.testing.assert_close(pruned(x), expected, rtol=1e-9, atol=1e-9)
    refused = [group.why_not for group in groups if group.sizes and not group.prunable]
    assert all("with 1 of 2 examples alone, " in reason for reason in refused)
    assert refused
