"""Small, faithful networks on sequences: attention the ways people write it, and recurrent layers.

Widths are odd or prime where the architecture permits, so that a swapped axis cannot hide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class FusedAttention(nn.Module):
    """A vision transformer's attention: one layer makes queries, keys and values."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.qkv = nn.Linear(width, 3 * num_heads * self.head_dim)
        self.proj = nn.Linear(num_heads * self.head_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, self.num_heads * self.head_dim))


class VitBlock(nn.Module):
    def __init__(self, width: int, num_heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = FusedAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches by a convolution, a class token, position embeddings, two blocks of five heads."""

    def __init__(self, width: int = 35):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(0.5 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.5 * torch.randn(1, 17, width))
        self.blocks = nn.Sequential(VitBlock(width, 5, 53), VitBlock(width, 5, 53))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class CausalAttention(nn.Module):
    """GPT's attention: `c_attn` is split by the width of the embedding, heads are views of it."""

    def __init__(self, n_embd: int, n_head: int):
        super().__init__()
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.n_head = n_head
        self.n_embd = n_embd

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class GptBlock(nn.Module):
    def __init__(self, n_embd: int, n_head: int, hidden: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(n_embd)
        self.attn = CausalAttention(n_embd, n_head)
        self.ln_2 = nn.LayerNorm(n_embd)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(n_embd, hidden), "c_proj": nn.Linear(hidden, n_embd)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        hidden = functional.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](hidden)


class Gpt(nn.Module):
    """Token and position embeddings, two causal blocks, a head tied to the token embedding."""

    def __init__(self, vocabulary: int = 53, block_size: int = 17, n_embd: int = 35, n_head: int = 5):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.h = nn.ModuleList(GptBlock(n_embd, n_head, 61) for _ in range(2))
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight
        nn.init.normal_(self.wte.weight, 0, 0.3)

    def forward(self, idx: Tensor) -> Tensor:
        positions = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = self.wte(idx) + self.wpe(positions)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class EncoderNet(nn.Module):
    """torch's own transformer encoder between a linear embedding and a mean over the positions.

    The number of heads is even, because torch's encoder takes its fused path in evaluation mode only then.
    """

    def __init__(self, width: int = 36):
        super().__init__()
        self.embed = nn.Linear(11, width)
        layer = nn.TransformerEncoderLayer(width, 4, 53, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


def rotated(x: Tensor) -> Tensor:
    """x (batch, heads, tokens, head_dim), each pair of features turned by an angle of its position."""
    half = x.shape[-1] // 2
    frequency = 100.0 ** (-torch.arange(half, dtype=x.dtype, device=x.device) / half)
    angle = torch.arange(x.shape[2], dtype=x.dtype, device=x.device)[:, None] * frequency
    angle = torch.cat((angle, angle), dim=-1)
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * angle.cos() + turned * angle.sin()


class GroupedQueryAttention(nn.Module):
    """Separate projections with fewer key and value heads than query heads, as in Llama."""

    def __init__(self, hidden_size: int, num_heads: int, num_key_value_heads: int, head_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.num_key_value_heads = num_key_value_heads
        self.num_key_value_groups = num_heads // num_key_value_heads
        self.head_dim = head_dim
        self.q_proj = nn.Linear(hidden_size, num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(hidden_size, num_key_value_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(hidden_size, num_key_value_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, hidden_size, bias=False)

    def repeated(self, x: Tensor) -> Tensor:
        batch, heads, tokens, size = x.shape
        x = x[:, :, None].expand(batch, heads, self.num_key_value_groups, tokens, size)
        return x.reshape(batch, heads * self.num_key_value_groups, tokens, size)

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.head_dim)
        q = rotated(self.q_proj(x).view(shape).transpose(1, 2))
        k = rotated(self.k_proj(x).view(shape).transpose(1, 2))
        v = self.v_proj(x).view(shape).transpose(1, 2)
        out = functional.scaled_dot_product_attention(q, self.repeated(k), self.repeated(v), is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(*x.shape[:-1], -1))


class LlamaMlp(nn.Module):
    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nn.Module):
    def __init__(self, hidden_size: int):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(hidden_size, eps=1e-6)
        self.self_attn = GroupedQueryAttention(hidden_size, 6, 3, 8)
        self.post_attention_layernorm = nn.RMSNorm(hidden_size, eps=1e-6)
        self.mlp = LlamaMlp(hidden_size, 53)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, vocabulary: int = 53, hidden_size: int = 37):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, hidden_size)
        self.layers = nn.ModuleList(LlamaBlock(hidden_size) for _ in range(2))
        self.norm = nn.RMSNorm(hidden_size, eps=1e-6)
        self.lm_head = nn.Linear(hidden_size, vocabulary, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


class GruNet(nn.Module):
    """Two layers; the head reads the last step."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(7, 17, num_layers=2, batch_first=True)
        self.head = nn.Linear(17, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.head(out[:, -1])


class LstmNet(nn.Module):
    """One layer; the head reads the last step."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(7, 19, batch_first=True)
        self.head = nn.Linear(19, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.head(out[:, -1, :])


class LstmText(nn.Module):
    """Word embeddings, two layers, time first; the head reads the last layer's final state."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(53, 11)
        self.lstm = nn.LSTM(11, 17, num_layers=2, dropout=0.2)
        self.fc = nn.Linear(17, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(self.embedding(tokens).transpose(0, 1))
        return self.fc(hidden[-1])


class BidirectionalNet(nn.Module):
    """A plain RNN in both directions; the head reads the mean over time."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(7, 13, batch_first=True, bidirectional=True)
        self.head = nn.Linear(26, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(out.mean(dim=1))
