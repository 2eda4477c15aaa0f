"""Where sizes in code stand, however Python and torch run the code, and where they can stand in none."""

import copy
import sys

import pytest
import torch
from attention_kinds import NanoGpt
from heads_in_code import Branching, Crossed, Helped, OneLine, Sliced, lessened, network
from silencing import worst_together
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import workbench as wb
from workbench.network.cost import count_cost
from workbench.network.surgery import remove_units


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
