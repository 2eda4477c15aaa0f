"""Attention as people write it: small modules, each with its own way of telling heads apart.

A network of one of them: a stem, a norm, the attention on a residual stream, a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, TOKENS, FEATURES = 24, 4, 5, 7
HEAD = WIDTH // HEADS


class NanoGpt(nn.Module):
    """nanoGPT's, as it is published: parts by the embedding's width, heads by that of the input."""

    def __init__(self, flash: bool):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.attn_dropout, self.resid_dropout = nn.Dropout(0.0), nn.Dropout(0.0)
        self.n_head, self.n_embd, self.dropout, self.flash = HEADS, WIDTH, 0.0, flash
        self.register_buffer("bias", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        if self.flash:
            y = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=None, dropout_p=self.dropout if self.training else 0, is_causal=True
            )
        else:
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            att = functional.softmax(att, dim=-1)
            att = self.attn_dropout(att)
            y = att @ v
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class Fused(nn.Module):
    """timm's: one layer for queries, keys and values; `size` of a head is an attribute, −1, or C // heads."""

    def __init__(self, size: str, bias: str = "own"):
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim, self.size, self.bias = HEADS, HEAD, WIDTH, size, bias
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias != "parts"), nn.Linear(WIDTH, WIDTH)
        if bias == "parts":  # BEiT, EVA
            self.q_bias, self.v_bias = nn.Parameter(torch.randn(WIDTH)), nn.Parameter(torch.randn(WIDTH))
            self.register_buffer("k_bias", torch.zeros(WIDTH), persistent=False)

    def projected(self, x: Tensor) -> Tensor:
        if self.bias == "own":
            return self.qkv(x)
        if self.bias == "parts":
            bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
        else:  # Swin v2
            bias = self.qkv.bias.clone()
            length = bias.numel() // 3
            bias[length : 2 * length].zero_()
        return functional.linear(x, self.qkv.weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        head = {"attribute": self.head_dim, "-1": -1, "C // heads": C // self.num_heads}[self.size]
        q, k, v = self.projected(x).reshape(B, N, 3, self.num_heads, head).permute(2, 0, 3, 1, 4).unbind(0)
        x = (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(-1) @ v
        width = {"attribute": self.attn_dim, "-1": -1, "C // heads": C}[self.size]
        return self.proj(x.transpose(1, 2).reshape(B, N, width))


class VitPytorch(nn.Module):
    """vit-pytorch's: rearrange(t, 'b n (h d) -> b h n d', h=self.heads), in the calls that einops makes."""

    def __init__(self):
        super().__init__()
        self.heads, self.scale = HEADS, HEAD**-0.5
        self.to_qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            t.reshape(*t.shape[:2], self.heads, t.shape[-1] // self.heads).permute(0, 2, 1, 3)
            for t in self.to_qkv(x).chunk(3, dim=-1)
        )
        out = (torch.matmul(q, k.transpose(-1, -2)) * self.scale).softmax(-1) @ v
        b, h, n, d = out.shape
        return self.to_out(out.permute(0, 2, 1, 3).reshape(b, n, h * d))


class Bias(nn.Module):
    """A bias a head, read from a table by a size that the module keeps as a tuple."""

    def __init__(self):
        super().__init__()
        self.table, self.shape = nn.Parameter(torch.randn(9, HEADS)), (TOKENS, TOKENS, HEADS)

    def forward(self, scores: Tensor) -> Tensor:
        index = torch.arange(TOKENS)[:, None] - torch.arange(TOKENS) + TOKENS - 1
        return scores + self.table[index.flatten()].view(self.shape).permute(2, 0, 1)


class Separate(nn.Module):
    """Queries, keys and values by layers of their own; `how` heads are told apart and put together."""

    def __init__(self, how: str):
        super().__init__()
        self.how, self.num_heads, self.head_dim, self.all_head_size = how, HEADS, HEAD, WIDTH
        self.q_proj, self.k_proj, self.v_proj, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.bias = Bias() if how == "a bias a head" else nn.Identity()

    def split(self, x: Tensor, C: int) -> Tensor:
        b, n = x.shape[:2]
        if self.how == "chunk":
            return torch.stack(x.chunk(self.num_heads, -1), 1)
        if self.how == "-1":  # DeBERTa-v2
            return x.reshape(b, n, self.num_heads, -1).transpose(1, 2)
        if self.how.startswith("own // heads"):
            return x.unflatten(-1, (self.num_heads, x.shape[-1] // self.num_heads)).transpose(1, 2)
        if self.how in ("C // heads", "a bias a head"):
            return x.unflatten(-1, (self.num_heads, C // self.num_heads)).transpose(1, 2)
        x = x.view(b, n, self.num_heads, self.head_dim).transpose(1, 2)
        return x.reshape(b * self.num_heads, n, self.head_dim) if self.how == "one axis" else x

    def forward(self, x: Tensor) -> Tensor:
        b, n, C = x.shape
        q, k, v = (self.split(layer(x), C) for layer in (self.q_proj, self.k_proj, self.v_proj))
        y = self.bias(q @ k.transpose(-1, -2) * self.head_dim**-0.5).softmax(-1) @ v
        if self.how == "one axis":  # OPT, fairseq
            y = y.view(b, self.num_heads, n, self.head_dim)
        y = y.transpose(1, 2)
        if self.how == "attribute":  # BERT
            return self.out(y.reshape(*y.shape[:-2], self.all_head_size))
        fixed = self.how in ("one axis", "C // heads", "own // heads, then C", "a bias a head")
        return self.out(y.reshape(b, n, C if fixed else -1))


class Positions(Separate):
    """Queries by a table of positions that all heads share, as in SAM, or by a matrix of each head's own."""

    def __init__(self, own: bool):
        super().__init__("attribute")
        self.table = nn.Parameter(torch.randn(HEADS, HEAD, HEAD) if own else torch.randn(32, HEAD))
        self.own = own

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        q, k, v = (self.split(layer(x), 0) for layer in (self.q_proj, self.k_proj, self.v_proj))
        if self.own:
            q, bias = torch.einsum("bhnd,hde->bhne", q, self.table), 0
        else:
            bias = torch.einsum("bhnd,md->bhnm", q, self.table[:n])
        y = (q @ k.transpose(-1, -2) + bias).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2))


class Shared(nn.Module):
    """Query heads that share `kv` key and value heads, which are repeated, expanded or broadcast."""

    def __init__(self, how: str, kv: int):
        super().__init__()
        self.how, self.num_heads, self.num_kv_heads, self.head_dim = how, HEADS, kv, HEAD
        self.q, self.k, self.v = (nn.Linear(WIDTH, n * HEAD) for n in (HEADS, kv, kv))
        self.out = nn.Linear(WIDTH, WIDTH)

    def repeated(self, x: Tensor) -> Tensor:
        b, kv, n, d = x.shape
        times = self.num_heads // self.num_kv_heads
        if self.how == "repeat":
            return x.repeat_interleave(times, 1)
        if self.how == "expand":
            return x[:, :, None].expand(b, kv, times, n, d).reshape(b, kv * times, n, d)
        return x

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, -1, self.head_dim).transpose(1, 2)
        k, v = (t.view(b, n, -1, self.head_dim).transpose(1, 2) for t in (self.k(x), self.v(x)))
        if self.how == "gqa":
            y = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            y = (q @ self.repeated(k).mT * self.head_dim**-0.5).softmax(-1) @ self.repeated(v)
        return self.out(y.transpose(1, 2).reshape(b, n, -1))


class BigCode(nn.Module):
    """GPT-BigCode's: query heads lie along the axis of positions, one key and value for all of them."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.head_dim, self.embed_dim, self.kv_dim = HEADS, HEAD, WIDTH, HEAD
        self.c_attn, self.c_proj = nn.Linear(WIDTH, WIDTH + 2 * HEAD), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, kv = self.c_attn(x).split((self.embed_dim, 2 * self.kv_dim), dim=2)
        k, v = kv.split((self.kv_dim, self.kv_dim), dim=-1)
        q = q.reshape(b, n * self.num_heads, self.head_dim)
        scores = q @ k.transpose(1, 2) * self.head_dim**-0.5
        return self.c_proj((scores.softmax(-1) @ v).view(b, n, self.embed_dim))


class Falcon(nn.Module):
    """Falcon's: one layer whose last two heads are the key and the value of all others."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.head_dim = HEADS, HEAD
        self.query_key_value, self.dense = nn.Linear(WIDTH, WIDTH + 2 * HEAD), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        fused = self.query_key_value(x).view(b, n, self.num_heads + 2, self.head_dim)
        q, k, v = (t.transpose(1, 2) for t in (fused[..., :-2, :], fused[..., [-2], :], fused[..., [-1], :]))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.dense(y.permute(0, 2, 1, 3).reshape(b, n, self.num_heads * self.head_dim))


class Torch(nn.Module):
    """`nn.MultiheadAttention` with the options of its call."""

    def __init__(self, batch_first: bool, **options: Any):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)
        self.batch_first, self.options = batch_first, options

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.attention(x, x, x, **self.options)[0]
        return y if self.batch_first else y.transpose(0, 1)


class ClassAttention(nn.Module):
    """CaiT's: a class token of a stream of its own asks, itself and the patches answer."""

    def __init__(self):
        super().__init__()
        self.token = nn.Linear(WIDTH, WIDTH)
        self.norm, self.inner = nn.LayerNorm(WIDTH), Separate("C // heads")

    def forward(self, x: Tensor) -> Tensor:
        token = self.norm(self.token(x.mean(1, keepdim=True)))
        return self.inner(torch.cat([token, x], 1))[:, 1:]


class Network(nn.Module):
    """A residual stream around an attention; what it returns beside the result is `beside`."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.stem, self.norm, self.attn = nn.Linear(FEATURES, WIDTH), nn.LayerNorm(WIDTH), attention
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.attn(self.norm(x))).mean(1))


# kind → (the attention, how many units its heads are)
KINDS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "nanoGPT": (lambda: NanoGpt(True), HEADS),
    "nanoGPT without flash": (lambda: NanoGpt(False), HEADS),
    "fused, head_dim": (lambda: Fused("attribute"), HEADS),
    "fused, -1": (lambda: Fused("-1"), HEADS),
    "fused, C // heads": (lambda: Fused("C // heads"), HEADS),
    "fused, a bias of parts": (lambda: Fused("C // heads", "parts"), HEADS),
    "fused, a bias cut to zero": (lambda: Fused("C // heads", "cut"), HEADS),
    "vit-pytorch": (VitPytorch, HEADS),
    **{
        f"separate, {how}": (lambda how=how: Separate(how), HEADS)
        for how in (
            "attribute",
            "-1",
            "own // heads",
            "own // heads, then C",
            "C // heads",
            "chunk",
            "one axis",
            "a bias a head",
        )
    },
    **{
        f"{how}, {kv} for {HEADS}": (lambda how=how, kv=kv: Shared(how, kv), HEADS if kv == 1 else kv)
        for how in ("repeat", "expand", "gqa")
        for kv in (1, 2)
    },
    "broadcast, 1 for 4": (lambda: Shared("broadcast", 1), HEADS),
    "GPT-BigCode": (BigCode, HEADS),
    "Falcon": (Falcon, HEADS),
    "torch's": (lambda: Torch(True), HEADS),
    "torch's, batch second": (lambda: Torch(False), HEADS),
    "torch's without weights": (lambda: Torch(True, need_weights=False), HEADS),
    "torch's, a weight a head": (lambda: Torch(True, average_attn_weights=False), HEADS),
    "a class token": (ClassAttention, HEADS),
    "a table of positions": (lambda: Positions(False), HEADS),
    "a matrix a head": (lambda: Positions(True), HEADS),
}


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return Network(KINDS[kind][0]()).eval()


def inputs(count: int = 4, tokens: int = TOKENS) -> Tensor:
    return torch.randn(count, tokens, FEATURES, generator=torch.Generator().manual_seed(1))
