"""Attention and recurrent layers of torch rebuilt from linear layers, whose rows and columns can be removed.

torch keeps the weights of these layers to itself and runs them in one piece, so that neither what a head
or a hidden state receives can be measured, nor one of them be taken away. The rebuilt ones compute the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from torch import nn

from workbench.network.layers import linear_around
from workbench.network.rebuilt.attention import Attention
from workbench.network.rebuilt.bare_matrices import bare_matrices, with_layers
from workbench.network.rebuilt.calls import call_layers
from workbench.network.rebuilt.code_names import names_in_forward
from workbench.network.rebuilt.experts import are_experts, as_experts
from workbench.network.rebuilt.probing import Known
from workbench.network.rebuilt.recurrent import Recurrent, RecurrentLayer
from workbench.network.rebuilt.resolved import is_resolvable, resolved

__all__ = ["Attention", "Recurrent", "RecurrentLayer", "explicit", "is_explicit"]

RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)


def is_explicit(model: nn.Module) -> bool:
    """Whether `explicit` would leave the model as it is; False also of a few that it leaves."""
    rebuilt = (nn.MultiheadAttention, nn.RNNBase)
    return not any(
        isinstance(module, rebuilt) or is_resolvable(module) or are_experts(module) or bare_matrices(module)
        for module in model.modules()
    )


def explicit(model: nn.Module, matrices: bool = True) -> nn.Module:
    """`model` with every attention and recurrent layer of torch rebuilt from linear layers, in place.

    Layers that compute their weight at every call (weight norm, parametrizations, standardised weights) and
    linear layers of someone's own become plain ones, where these compute the same (`resolved.py`), and so do
    experts in one tensor (`experts.py`); bare parameters by which code multiplies become layers
    (`bare_matrices.py`), and code that multiplies by a layer's weight itself calls the layer (`calls.py`).
    `matrices`: whether bare parameters do, which code that goes through all parameters or modules may not
    bear.

    Give a copy that nobody else uses. Returns it, or the replacement where the model itself is such a layer.
    A layer that is used twice stays one layer, tied weights stay tied, and a second call changes nothing.
    Left as they are: subclasses, and the options `add_bias_kv`, `add_zero_attn` and `proj_size`. Outputs
    differ at padded positions of an `nn.TransformerEncoder` alone: torch fills them with zeros in evaluation
    mode without gradients, and only then.
    """
    plain, owners = {}, _owners(model)
    known: Known = {}
    for name, module in list(model.named_modules()):
        if is_resolvable(module):
            plain[module] = resolved(module, _asked_around(model, name), _is_tied(module, owners), known)
        elif are_experts(module) and not _is_tied(module, owners):
            plain[module] = as_experts(module, _asked_around(model, name))
    model = _replaced(model, {old: new for old, new in plain.items() if old is not new})
    modules = list(model.modules())
    used_whole = {
        parameter
        for parameter, those in _owners(model).items()
        if any(type(owner) is not nn.MultiheadAttention for owner in those)
    }
    thirds = _Thirds()
    made: dict[nn.Module, nn.Module] = {}
    for module in modules:
        if type(module) is nn.MultiheadAttention:
            if _can_be_rebuilt(module, used_whole):
                made[module] = _attention(module, thirds)
        elif type(module) in RECURRENT and not module.proj_size:
            made[module] = _recurrent(cast(nn.RNNBase, module))
    model = _replaced(model, made)
    for encoder in modules:
        if isinstance(encoder, nn.TransformerEncoder) and any(
            isinstance(m, Attention) for m in encoder.modules()
        ):
            encoder.use_nested_tensor = False  # padding kept that way is for torch's own attention alone
    if matrices:
        _make_layers(model)
    return call_layers(model)


def _make_layers(model: nn.Module) -> None:
    """Layers in the places of bare matrices that have one name; none where a module copies itself."""
    modules = list(model.modules())
    if any(hasattr(module, "__deepcopy__") for module in modules):
        return
    names = Counter(id(parameter) for module in modules for parameter in module._parameters.values())
    for module in modules:
        matrices = bare_matrices(module)
        own = {name: order for name, order in matrices.items() if names[id(module._parameters[name])] == 1}
        if own:
            with_layers(module, own)


def _owners(model: nn.Module) -> dict[int, list[nn.Module]]:
    """The modules that have each parameter, by its id."""
    owners: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(module)
    return owners


def _is_tied(module: nn.Module, owners: dict[int, list[nn.Module]]) -> bool:
    """Whether a module that is not inside has one of its parameters."""
    inside = set(module.modules())
    return any(owner not in inside for p in module.parameters() for owner in owners[id(p)])


def _asked_around(model: nn.Module, name: str) -> frozenset[str]:
    """What the forwards of the modules in which one stands name."""
    parts = name.split(".") if name else []
    around = [model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts))]
    return frozenset().union(*(names_in_forward(module) for module in around))


def _replaced(model: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """`model` with other modules in the places of those that are keys, itself one of them perhaps."""
    for parent in list(model.modules()) if made else ():
        # Not named_children(), which leaves out the second name of a layer that is used twice.
        for name, child in list(parent._modules.items()):
            if child in made:
                setattr(parent, name, made[child])
    return made.get(model, model)


def _can_be_rebuilt(module: nn.MultiheadAttention, used_whole: set[int]) -> bool:
    if module.bias_k is not None or module.add_zero_attn:
        return False
    # A weight that another layer uses in one piece cannot be cut in three and stay tied.
    return not any(id(parameter) in used_whole for parameter in module.parameters(recurse=False))


class _Thirds:
    """Parts of parameters as parameters: the same part of the same one is made once, and so stays tied."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], nn.Parameter] = {}

    def __call__(self, parameter: nn.Parameter, index: int) -> nn.Parameter:
        """Rows of queries (0), keys (1) or values (2)."""
        key = (id(parameter), index)
        if key not in self._made:
            part = parameter.detach().chunk(3)[index].clone()
            self._made[key] = nn.Parameter(part, requires_grad=parameter.requires_grad)
        return self._made[key]


def _attention(old: nn.MultiheadAttention, thirds: _Thirds) -> Attention:
    separate = (old.q_proj_weight, old.k_proj_weight, old.v_proj_weight)
    whole = old.in_proj_weight
    weights: Any = separate if whole is None else [thirds(whole, i) for i in range(3)]
    biases = [None if old.in_proj_bias is None else thirds(old.in_proj_bias, i) for i in range(3)]
    q, k, v = map(linear_around, weights, biases)
    out: Any = old.out_proj
    linears = (q, k, v, linear_around(out.weight, out.bias))
    return Attention(linears, old.num_heads, old.batch_first, old.dropout).train(old.training)


def _recurrent(old: nn.RNNBase) -> Recurrent:
    def linear(kind: str, end: str) -> nn.Linear:
        return linear_around(getattr(old, f"weight_{kind}{end}"), getattr(old, f"bias_{kind}{end}", None))

    ends = [
        f"_l{level}{direction}"
        for level in range(old.num_layers)
        for direction in (("", "_reverse") if old.bidirectional else ("",))
    ]
    linears = [(linear("ih", end), linear("hh", end)) for end in ends]
    new = Recurrent(old.mode, linears, old.bidirectional, old.batch_first, old.dropout)
    return new.train(old.training)
