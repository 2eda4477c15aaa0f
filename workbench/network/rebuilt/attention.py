"""Attention built from four linear layers, so that its heads can be seen and removed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """`nn.MultiheadAttention` with `q_proj`, `k_proj`, `v_proj` and `out_proj` as linear layers.

    Head h owns rows h·head_dim … (h+1)·head_dim of q_proj, k_proj and v_proj and those columns of out_proj.
    After removing them, lower `num_heads`: nothing here depends on `embed_dim`.
    """

    # What nn.TransformerEncoderLayer looks at before it leaves its attention out and runs in one piece.
    _qkv_same_embed_dim = False
    in_proj_weight = in_proj_bias = bias_k = bias_v = None
    add_zero_attn = False

    def __init__(
        self,
        projections: tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear],
        num_heads: int,
        batch_first: bool = False,
        dropout: float = 0.0,
    ):
        """`projections` of queries, keys, values and of what the heads have mixed; `num_heads` share them."""
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = projections
        self.embed_dim = self.out_proj.out_features
        self.kdim, self.vdim = self.k_proj.in_features, self.v_proj.in_features
        self.num_heads, self.head_dim = num_heads, self.q_proj.out_features // num_heads
        self.batch_first, self.dropout = batch_first, dropout

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, head_dim={self.head_dim}, batch_first={self.batch_first}"

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention`: the output, and the weights where they are needed.

        Raises ValueError for `is_causal` without a mask, and for a mask of another number of heads.
        """
        if is_causal and attn_mask is None:
            raise ValueError(
                "is_causal is a hint about attn_mask, and there is none: give the causal mask too"
            )
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (self._heads(x) for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value)))
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)  # (batch, heads, queries, keys)
            weights = torch.softmax(scores if mask is None else scores + mask, -1)
            weights = functional.dropout(weights, dropout) if dropout else weights
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(mixed.transpose(1, 2).flatten(-2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """What is added to the scores: (batch or 1, heads or 1, queries or 1, keys), or None."""
        if attn_mask is not None and attn_mask.dim() == 3:
            given, examples = attn_mask.shape[0], q.shape[0]  # not len(), which export takes for a constant
            if given != examples * self.num_heads:
                raise ValueError(
                    f"attn_mask has {given} matrices for {examples} examples of {self.num_heads} heads; give "
                    "one for each of them and none for removed heads, or one (queries, keys) for all"
                )
            attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
        masks = [attn_mask, None if padding is None else padding[:, None, None]]
        added = [_additive(mask, q.dtype) for mask in masks if mask is not None]
        return sum(added[1:], added[0]) if added else None


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))
