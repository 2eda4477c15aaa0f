"""Recurrent layers built from linear layers, so that their hidden states can be seen and removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

State: TypeAlias = tuple[Tensor, ...]
"""What one recurrent layer carries on: (h,), or (h, c) of an LSTM; each (batch, units)."""

RUN: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


class RecurrentLayer(nn.Module):
    """One layer of a recurrent network in one direction, of any number of units.

    `input` maps what comes in, `recurrent` the units of the step before; both to the gates in torch's order
    (LSTM: i, f, g, o; GRU: r, z, n). Runs in one piece, except where a hook waits on one of the two or
    `stepwise` is set: then `input` is called once and `recurrent` at every step, with h (batch, units).
    `step`: the one that runs, of sequences that are not packed, in the layer's own direction.
    """

    def __init__(self, mode: str, input: nn.Linear, recurrent: nn.Linear, time: int, reverse: bool):
        super().__init__()
        self.mode, self.time, self.reverse = mode, time, reverse
        self.input, self.recurrent = input, recurrent
        self.stepwise, self.step = False, 0

    @property
    def width(self) -> int:
        """Units."""
        return self.recurrent.in_features

    def extra_repr(self) -> str:
        return f"{self.mode}, width={self.width}, reverse={self.reverse}"

    def forward(self, x: Tensor, state: State, sizes: Tensor | None = None) -> tuple[Tensor, State]:
        """x (batch, time, inputs), or (time, batch, inputs) where `time` is 0, and the state to start from.

        `sizes` are those of a packed sequence, x its data. Returns every step's h, and the last state.
        """
        if self.reverse:
            order = None if sizes is None else _backwards(sizes).to(x.device)
            x = x.flip(self.time) if order is None else x[order]
        out, state = self._in_steps(x, state, sizes) if self._watched() else self._at_once(x, state, sizes)
        if self.reverse:
            out = out.flip(self.time) if order is None else out[order]
        return out, state

    def _watched(self) -> bool:
        return self.stepwise or any(
            layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
            for layer in (self.input, self.recurrent)
        )

    def _at_once(self, x: Tensor, state: State, sizes: Tensor | None) -> tuple[Tensor, State]:
        weights = [self.input.weight, self.recurrent.weight]
        biases = [self.input.bias, self.recurrent.bias]
        biased = any(bias is not None for bias in biases)
        if biased:
            weights += [x.new_zeros(len(weights[0])) if bias is None else bias for bias in biases]
        start: Any = [part.unsqueeze(0) for part in state]
        start = start if len(start) > 1 else start[0]
        first = (x, start, weights) if sizes is None else (x, sizes, start, weights)
        layout = (self.time == 1,) if sizes is None else ()
        out, *last = RUN[self.mode](*first, biased, 1, 0.0, self.training, False, *layout)
        return out, tuple(part.squeeze(0) for part in last)

    def _in_steps(self, x: Tensor, state: State, sizes: Tensor | None) -> tuple[Tensor, State]:
        gates = self.input(x)
        outputs = []
        parts = gates.unbind(self.time) if sizes is None else gates.split(sizes.tolist())
        for self.step, gate in enumerate(parts):
            if sizes is None:
                state = self._step(gate, state)
                outputs.append(state[0])
            else:  # the sequences that have ended stand last, and keep their state
                new = self._step(gate, tuple(part[: len(gate)] for part in state))
                outputs.append(new[0])
                state = tuple(torch.cat((n, part[len(gate) :])) for n, part in zip(new, state, strict=True))
        return torch.stack(outputs, self.time) if sizes is None else torch.cat(outputs), state

    def _step(self, gate: Tensor, state: State) -> State:
        h = state[0]
        back = self.recurrent(h)
        if self.mode == "LSTM":
            i, f, g, o = (gate + back).chunk(4, -1)
            c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        if self.mode == "GRU":
            (r, z, n), (r_back, z_back, n_back) = gate.chunk(3, -1), back.chunk(3, -1)
            z = (z + z_back).sigmoid()
            n = (n + (r + r_back).sigmoid() * n_back).tanh()
            return (n + z * (h - n),)
        return ((gate + back).tanh() if self.mode == "RNN_TANH" else (gate + back).relu(),)


def _backwards(sizes: Tensor) -> Tensor:
    """Where each row of a packed sequence goes when every sequence in it is turned round; its own inverse."""
    starts = sizes.cumsum(0) - sizes
    lengths = (sizes[None] > torch.arange(int(sizes[0]))[:, None]).sum(1)
    rows = [starts[lengths[:n] - 1 - step] + torch.arange(n) for step, n in enumerate(sizes.tolist())]
    return torch.cat(rows)


class Recurrent(nn.Module):
    """`nn.RNN`, `nn.LSTM` or `nn.GRU` as one `RecurrentLayer` a layer and direction.

    They are children `layers.0`, `layers.0_reverse`, `layers.1`, … and may come to differ in width: then the
    last states are a tuple of (batch, units) in that order, where torch stacks them.
    """

    def __init__(
        self,
        mode: str,
        linears: Sequence[tuple[nn.Linear, nn.Linear]],
        bidirectional: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
    ):
        """`mode` as `nn.RNNBase` has it; `linears`: input and recurrent of each layer and direction."""
        super().__init__()
        self.mode = mode
        self.bidirectional, self.batch_first, self.dropout = bidirectional, batch_first, dropout
        self.num_layers = len(linears) // (2 if bidirectional else 1)
        self.input_size, self.hidden_size = linears[0][0].in_features, linears[0][1].in_features
        self.bias, self.proj_size = linears[0][0].bias is not None, 0
        time = 1 if batch_first else 0
        self.layers = nn.ModuleDict()
        for index, (inner, recurrent) in enumerate(linears):
            level, reverse = (index // 2, index % 2 == 1) if bidirectional else (index, False)
            name = f"{level}_reverse" if reverse else str(level)
            self.layers[name] = RecurrentLayer(mode, inner, recurrent, time, reverse)

    def extra_repr(self) -> str:
        return f"{self.mode}, batch_first={self.batch_first}, bidirectional={self.bidirectional}"

    @property
    def stepwise(self) -> bool:
        """Whether every layer runs step by step; setting it sets it for all of them."""
        return all(layer.stepwise for layer in self._cells())

    @stepwise.setter
    def stepwise(self, value: bool) -> None:
        for layer in self._cells():
            layer.stepwise = value

    def _cells(self) -> list[RecurrentLayer]:
        return [layer for layer in self.layers.values() if isinstance(layer, RecurrentLayer)]

    def flatten_parameters(self) -> None:
        """Does nothing: for models that call it."""

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """As the torch layer: `input` a tensor, batched or not, or a PackedSequence; `hx` starts the layers.

        Raises ValueError where the input or the state does not have the layer's shape. A state of zeros may
        have more units than are left: a model that makes its own zeros goes on working.
        """
        x, sizes, to_sorted, to_given = (
            input if isinstance(input, PackedSequence) else (input, None, None, None)
        )
        cells = self._cells()
        if x.shape[-1] != cells[0].input.in_features or x.dim() not in ((2, 3) if sizes is None else (2,)):
            raise ValueError(
                f"input of shape {tuple(x.shape)}; sequences with {cells[0].input.in_features} features "
                "a step are expected, batched in three dimensions or alone in two"
            )
        time = 1 if self.batch_first else 0
        unbatched = sizes is None and x.dim() == 2
        x = x.unsqueeze(1 - time) if unbatched else x
        batch = x.shape[1 - time] if sizes is None else int(sizes[0])
        starts = self._starts(hx, x, batch, to_sorted, unbatched)
        ends: list[State] = []
        directions = 2 if self.bidirectional else 1
        for first in range(0, len(cells), directions):
            x = functional.dropout(x, self.dropout, self.training) if first else x
            level = slice(first, first + directions)
            runs = [cell(x, state, sizes) for cell, state in zip(cells[level], starts[level], strict=True)]
            x = torch.cat([out for out, _ in runs], -1) if len(runs) > 1 else runs[0][0]
            ends += [end for _, end in runs]
        last = tuple(_together(parts, to_given, unbatched) for parts in zip(*ends, strict=True))
        out: Any = x.squeeze(1 - time) if unbatched else x
        if sizes is not None:
            out = PackedSequence(x, sizes, to_sorted, to_given)
        return out, last if self.mode == "LSTM" else last[0]

    def _starts(
        self, hx: Any, x: Tensor, batch: int, to_sorted: Tensor | None, unbatched: bool
    ) -> list[State]:
        """The state each layer starts from, (batch, units) each."""
        cells = self._cells()
        count = 2 if self.mode == "LSTM" else 1
        if hx is None:
            return [(x.new_zeros(batch, cell.width),) * count for cell in cells]
        parts = (hx,) if count == 1 else tuple(hx)
        if len(parts) != count or any(len(part) != len(cells) for part in parts):
            raise ValueError(
                f"hx holds states for {[len(part) for part in parts]} layers; {count} tensor(s) with one "
                f"state for each of the {len(cells)} layers and directions are expected"
            )
        states = []
        for index, cell in enumerate(cells):
            own = [part[index].unsqueeze(0) if unbatched else part[index] for part in parts]
            own = own if to_sorted is None else [state[to_sorted] for state in own]
            states.append(tuple(_fitted(state, batch, cell.width) for state in own))
        return states


def _fitted(state: Tensor, batch: int, width: int) -> Tensor:
    """A given state, cut to the units that are left where it is all zeros."""
    if tuple(state.shape) == (batch, width):
        return state
    wider = state.dim() == 2 and state.shape[0] == batch and state.shape[1] > width
    # While a model is exported its numbers are not known; the same model has run before then.
    if wider and (torch.compiler.is_compiling() or not state.any()):
        return state[:, :width]
    raise ValueError(
        f"hx has a state of shape {tuple(state.shape)} for a layer that takes ({batch}, {width}). "
        "Give the state of the units that are left, or zeros, or none."
    )


def _together(
    states: Sequence[Tensor], to_given: Tensor | None, unbatched: bool
) -> Tensor | tuple[Tensor, ...]:
    """The last states of all layers: stacked where their widths are equal."""
    if to_given is not None:
        states = [state[to_given] for state in states]
    if unbatched:
        states = [state.squeeze(0) for state in states]
    return torch.stack(list(states)) if len({s.shape[-1] for s in states}) == 1 else tuple(states)
