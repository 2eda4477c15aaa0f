"""Batches of tokens that are padded, and networks that take them with a mask."""

import torch
from torch import nn
from torch.nn import functional

import workbench as wb

WIDTH, PAD = 8, 0

# A file of one's own: a network, and data whose mask is found by its name, is named, or hides all.
MASKED = """
import torch
from torch import nn

SHOWN = torch.arange(6) < torch.tensor([[6], [3], [2], [1]])
IDS = torch.randint(0, 9, (4, 6), generator=torch.Generator().manual_seed(0))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.up, self.down = nn.Embedding(9, 5), nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, tokens, attention_mask=None, real=None):
        return self.down(self.up(self.embed(tokens)).relu())

def padded():
    return [{"tokens": IDS, "attention_mask": SHOWN}]

def named():
    return [{"tokens": IDS, "real": SHOWN}]

def hidden():
    return [{"tokens": IDS, "attention_mask": torch.zeros(4, 6).bool()}]
"""


class Encoder(nn.Module):
    """Own attention and a feed-forward part, with the mask as transformers has it."""

    def __init__(self, outputs=3):
        super().__init__()
        self.embed = nn.Embedding(23, WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 13), nn.Linear(13, WIDTH)
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1) / WIDTH**0.5
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask[:, None] == 0, float("-inf"))
        x = x + self.proj(scores.softmax(-1) @ v)
        return self.head(x + self.down(functional.gelu(self.up(x))))


class Torch(nn.Module):
    """torch's encoder layer, with its mask: True hides."""

    def __init__(self, batch_first):
        super().__init__()
        self.embed = nn.Embedding(23, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 13, dropout=0.0, batch_first=batch_first)
        self.layers, self.head = (
            nn.TransformerEncoder(layer, 1, enable_nested_tensor=False),
            nn.Linear(WIDTH, 3),
        )

    def forward(self, src, src_key_padding_mask=None):
        return self.head(self.layers(self.embed(src), src_key_padding_mask=src_key_padding_mask))


class Convolved(nn.Module):
    """Tokens along the last axis for a convolution; then (batch · tokens, features) for a linear layer."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(23, WIDTH), nn.Conv1d(WIDTH, 9, 1)
        self.wide, self.flat, self.head = nn.Conv1d(9, 7, 1), nn.Linear(7, 11), nn.Linear(11, 3)

    def forward(self, input_ids, attention_mask=None):
        h = self.wide(self.mix(self.embed(input_ids).transpose(1, 2)).relu()).relu()
        flat = self.flat(h.transpose(1, 2).flatten(0, 1)).relu()
        return self.head(flat).reshape(*input_ids.shape, 3)


class Steps(nn.Module):
    """A recurrent layer that goes through padding, as people have it who pool with the mask afterwards."""

    def __init__(self, kind, batch_first, bidirectional):
        super().__init__()
        self.embed, self.first = nn.Embedding(23, 6), nn.Linear(6, WIDTH)
        self.cells = kind(WIDTH, 7, batch_first=batch_first, bidirectional=bidirectional)
        self.last, self.head = nn.Linear(7 * (1 + bidirectional), 9), nn.Linear(9, 3)
        self.batch_first = batch_first

    def forward(self, input_ids, attention_mask=None):
        x = self.first(self.embed(input_ids)).relu()
        h = self.cells(x if self.batch_first else x.transpose(0, 1))[0]
        out = self.head(self.last(h).relu())
        return out if self.batch_first else out.transpose(0, 1)


LENGTHS = (5, 3, 7, 1)


def padded(total, first=False, lengths=LENGTHS):
    """Tokens of these lengths, padded to `total`, on the left where `first`; and which are tokens."""
    generator = torch.Generator().manual_seed(1)
    ids, shown = torch.full((len(lengths), total), PAD), torch.zeros(len(lengths), total, dtype=torch.bool)
    for row, length in enumerate(lengths):
        where = slice(total - length, total) if first else slice(0, length)
        ids[row, where] = torch.randint(1, 23, (length,), generator=generator)
        shown[row, where] = True
    return ids, shown


NAMED = {
    "transformers, whole numbers": (Encoder, lambda ids, m: {"input_ids": ids, "attention_mask": m.long()}),
    "transformers, bool": (Encoder, lambda ids, m: {"input_ids": ids, "attention_mask": m}),
    "transformers, float": (Encoder, lambda ids, m: {"input_ids": ids, "attention_mask": m.float()}),
    "by place": (Encoder, lambda ids, m: ((ids, m.long()), None)),
    "torch, examples first": (lambda: Torch(True), lambda ids, m: {"src": ids, "src_key_padding_mask": ~m}),
    "torch, -inf": (
        lambda: Torch(True),
        lambda ids, m: {"src": ids, "src_key_padding_mask": torch.zeros(m.shape).masked_fill(~m, -torch.inf)},
    ),
    "torch, positions first": (
        lambda: Torch(False),
        lambda ids, m: {"src": ids.T.contiguous(), "src_key_padding_mask": ~m},
    ),
    "along other axes": (Convolved, lambda ids, m: {"input_ids": ids, "attention_mask": m}),
}


def session_of(name, total, **options):
    kind, given = NAMED[name]
    torch.manual_seed(0)
    session = wb.Session(kind().eval(), [given(*padded(total))], **options)
    session.measure()
    return session
