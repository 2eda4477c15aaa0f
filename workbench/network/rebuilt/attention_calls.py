"""Code that hands the weights of four layers to torch's attention, made to call these layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.network.rebuilt.attention import Attention

SIGNATURE = inspect.signature(functional.multi_head_attention_forward)
WEIGHTS = ("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj_weight")
LEFT_OUT = ("bias_k", "bias_v", "static_k", "static_v")
TAKEN = ("key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal")


def attention_of_layers(args: tuple, kwargs: dict, layer_of: Callable[[Any], Any]) -> Any | None:
    """What `torch.nn.functional.multi_head_attention_forward` returns, by calls of the layers.

    Args:
        args, kwargs: as the function is given them.
        layer_of: the linear layer whose whole weight a tensor is, or None.

    Returns:
        The pair (output, weights); None where the weights are not those of four layers, with their biases.
    """
    bound = SIGNATURE.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    if not given["use_separate_proj_weight"] or given["add_zero_attn"]:
        return None
    layers = [layer_of(given[name]) for name in WEIGHTS]
    if any(given[name] is not None for name in LEFT_OUT) or not all(type(one) is nn.Linear for one in layers):
        return None
    *inner, out = layers
    if given["out_proj_bias"] is not out.bias or not _are_biases(given["in_proj_bias"], inner):
        return None
    attention = Attention((inner[0], inner[1], inner[2], out), given["num_heads"], dropout=given["dropout_p"])
    attention.training = given["training"]  # not that of the layers, which are the network's
    tensors = (given[name] for name in ("query", "key", "value"))
    return attention(*tensors, **{name: given[name] for name in TAKEN})


def _are_biases(given: Any, layers: list[Any]) -> bool:
    """Whether it is the layers' biases, one after the other; while a program is written, of that size."""
    own = [layer.bias for layer in layers]
    if given is None or any(bias is None for bias in own):
        return given is None and all(bias is None for bias in own)
    together = torch.cat(own)
    if not isinstance(given, Tensor) or given.shape != together.shape:
        return False
    return torch.compiler.is_compiling() or torch.equal(given, together)
