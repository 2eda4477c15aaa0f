"""What is proved on one size of input is tried at another; what coincides at one of them does not pass."""

import pytest
import torch
from silencing import worst_together
from torch import nn

import workbench as wb


class Attention(nn.Module):
    """MAnet's: positions (n, h·w, c) are laid out as channels (n, c, h, w), which is right for one pixel."""

    def __init__(self, stride=8):
        super().__init__()
        self.stem, self.near = nn.Conv2d(3, 12, 3, stride, 1), nn.Conv2d(12, 7, 1)
        self.value, self.head = nn.Conv2d(12, 12, 1), nn.Conv2d(12, 5, 1)

    def forward(self, x):
        x = self.stem(x).relu()
        n, c, h, w = x.shape
        near, value = (layer(x).flatten(2).transpose(1, 2) for layer in (self.near, self.value))
        mixed = (near @ near.transpose(1, 2)).softmax(-1) @ value
        return self.head(x + mixed.reshape(n, c, h, w))


class Sequence(nn.Module):
    """A length at which code does otherwise, the axis of positions by its number among the shapes."""

    def __init__(self, into, out, axis, when):
        super().__init__()
        self.into, self.out, self.axis, self.when = into, out, axis, when

    def forward(self, x):
        h = self.into(x).relu()
        if self.when(h.shape[self.axis]):
            h = h.roll(1, 3 - self.axis)  # the axis of features: code that counts places
        return self.out(h)


class Tokens(nn.Module):
    """Tokens, a mask of them and one of pairs, that all get another length together."""

    def __init__(self, when=lambda _: False):
        super().__init__()
        self.embed, self.place = nn.Embedding(11, 10), nn.Parameter(torch.randn(9, 10))
        self.up, self.down, self.when = nn.Linear(10, 14), nn.Linear(14, 10), when

    def forward(self, ids, attention_mask=None, pairs=None):
        x = self.embed(ids) + self.place[: ids.shape[1]]
        if attention_mask is not None:
            x = x * attention_mask[..., None]
        if pairs is not None:
            x = pairs @ x
        h = self.up(x).relu()
        return self.down(h.flip(-1) if self.when(h.shape[1]) else h)


class Rows(nn.Module):
    """Rows of one length, (-1, features): of an example of another size it makes several, or refuses it."""

    def __init__(self, into, flat):
        super().__init__()
        self.into, self.up, self.out = into, nn.Linear(flat, 9), nn.Linear(9, 2)
        self.flat = flat

    def forward(self, x):
        return self.out(self.up(self.into(x).relu().view(-1, self.flat)).relu())


class Frames(nn.Module):
    """Images by time, (batch, time, channels, height, width), and a table of as many columns as pixels."""

    def __init__(self):
        super().__init__()
        self.each, self.table, self.out = nn.Conv2d(3, 8, 3), nn.Linear(12, 8), nn.Linear(40, 2)

    def forward(self, x, table):
        maps = self.each(x.flatten(0, 1)).relu().mean((2, 3)) + self.table(table).repeat_interleave(5, 0)
        return self.out(maps.reshape(len(x), -1))


IDS = torch.randint(0, 11, (8, 9))


class Steps(nn.Module):
    """Steps before examples, as torch's layers have them by default."""

    def __init__(self, kind, when=lambda _: False):
        super().__init__()
        self.first = nn.LSTM(4, 10) if kind == "lstm" else nn.TransformerEncoderLayer(4, 2, 10, 0.0)
        self.up, self.down = nn.Linear(10 if kind == "lstm" else 4, 9), nn.Linear(9, 2)
        self.when = when

    def forward(self, x, src_key_padding_mask=None):
        h = self.first(x) if src_key_padding_mask is None else self.first(x, None, src_key_padding_mask)
        h = self.up(h[0] if isinstance(h, tuple) else h).relu()
        return self.down(h.flip(-1) if self.when(len(h)) else h)


WRONG = {
    "a map of one pixel": (Attention, torch.randn(8, 3, 8, 8)),
    "a smaller image": (
        lambda: nn.Sequential(nn.Conv2d(1, 8, 32, 32), Rolled(lambda n: n < 6), nn.Conv2d(8, 2, 1)),
        torch.randn(4, 1, 224, 224),
    ),
    "a longer image": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), Rolled(lambda size: size > 12), nn.Conv2d(8, 2, 1)),
        torch.randn(8, 3, 12, 12),
    ),
    "shorter sound": (
        lambda: Sequence(nn.Conv1d(2, 9, 3), nn.Conv1d(9, 3, 1), 2, lambda n: n < 30),
        torch.randn(8, 2, 32),
    ),
    "shorter vectors": (
        lambda: Sequence(nn.Linear(4, 9), nn.Linear(9, 3), 1, lambda n: n < 12),
        torch.randn(8, 12, 4),
    ),
    "fewer steps before examples": (lambda: Steps("lstm", lambda n: n < 12), torch.randn(12, 8, 4)),
    "fewer steps with a mask": (
        lambda: Steps("attention", lambda n: n < 12),
        {"x": torch.randn(12, 8, 4), "src_key_padding_mask": torch.zeros(8, 12, dtype=torch.bool)},
    ),
    "fewer tokens": (lambda: Tokens(lambda n: n < 9), IDS),
    "fewer tokens by name": (
        lambda: Tokens(lambda n: n < 9),
        {"ids": IDS, "attention_mask": torch.ones(8, 9)},
    ),
}


class Rolled(nn.Module):
    def __init__(self, when):
        super().__init__()
        self.when = when

    def forward(self, x):
        return x.roll(1, 1) if self.when(x.shape[-1]) else x


RIGHT = {
    "images": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 2, 1)),
        torch.randn(8, 3, 12, 12),
        (3, 18, 18),
    ),
    "images whose maps are doubled again": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 4, 4), nn.ReLU(), nn.ConvTranspose2d(8, 6, 4, 4), Same(28), nn.Conv2d(6, 1, 1)
        ),
        torch.randn(8, 1, 28, 28),
        (1, 56, 56),
    ),
    "large images": (
        lambda: nn.Sequential(nn.Conv2d(1, 8, 32, 32), nn.ReLU(), nn.Conv2d(8, 2, 1)),
        torch.randn(4, 1, 224, 224),
        (1, 160, 160),
    ),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Conv3d(8, 2, 1)),
        torch.randn(8, 1, 6, 6, 8),
        (1, 9, 9, 12),
    ),
    "sound": (
        lambda: nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Conv1d(8, 2, 1)),
        torch.randn(8, 2, 20),
        (2, 15),
    ),
    "vectors": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        torch.randn(8, 20, 4),
        (15, 4),
    ),
    "channels last": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        torch.randn(8, 10, 12, 4),
        (15, 18, 4),
    ),
    "steps before examples": (lambda: Steps("lstm"), torch.randn(12, 8, 4), (6, 4)),
    "tokens": (Tokens, IDS, (7,)),
    "tokens with masks": (
        Tokens,
        {"ids": IDS, "attention_mask": torch.ones(8, 9), "pairs": torch.eye(9)},
        (7,),
    ),
}


class Same(nn.Module):
    """Breaks for sizes that are no multiple of a part of it."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x + torch.zeros(x.shape[-1] // self.size * self.size)


def opened(build, data):
    torch.manual_seed(0)
    return wb.Session(build().eval(), [data])


@pytest.mark.parametrize("name", WRONG)
def test_what_holds_at_one_size_alone_is_refused(name):
    build, data = WRONG[name]
    session = opened(build, data)
    first = next(group for group in session.groups if group.name in ("stem", "0", "into", "up"))
    assert not first.prunable
    assert first.why_not.startswith("with inputs of "), first.why_not
    assert session.sizes.second in first.why_not
    assert session.sizes.first in first.why_not


@pytest.mark.parametrize("name", RIGHT)
def test_what_holds_at_two_sizes_stays_and_both_are_named(name):
    build, data, size = RIGHT[name]
    session = opened(build, data)
    first = data["ids"] if isinstance(data, dict) else data
    other = torch.randint(0, 11, (3, *size)) if first.dtype == torch.long else torch.randn(3, *size)
    shapes = (
        [first.shape, (9, *size)] if name == "steps before examples" else [(2, *size), (2, *first.shape[1:])]
    )
    for shape in map(tuple, shapes):
        assert str(shape) in str(session.sizes), session.sizes
    assert any(group.prunable for group in session.groups)
    assert not session.sizes.why_not
    assert worst_together(session.original, session.groups, other) < 1e-5


def test_a_network_of_one_size_keeps_it_and_says_so():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 3))
    session = wb.Session(model, [torch.randn(8, 1, 10, 10)])
    assert session.groups[0].prunable
    assert session.sizes.first == "(2, 1, 10, 10) float32"
    assert not session.sizes.second
    assert "alone: keep that size, the network took no other" in str(session.sizes)
    assert "(2, 1, 15, 15)" in session.sizes.why_not


ONE_SIZE = {
    "twice the pixels are four rows": (
        lambda: Rows(nn.Conv2d(1, 12, 5, 2, 2), 12 * 49),
        torch.randn(8, 1, 14, 14),
        "no other. With (2, 1, 21, 21) float32: shape",
    ),
    "fewer pixels are no whole row": (
        lambda: Rows(nn.Conv2d(1, 12, 32, 32), 12 * 16),
        torch.randn(8, 1, 128, 128),
        "(2, 1, 96, 96) float32: ",
    ),
    "a length longer by as much": (
        lambda: Rows(nn.Conv1d(2, 8, 1), 8 * 2),
        torch.randn(8, 2, 2),
        "(2, 2, 3) float32: it gives 3/2 outputs for an example",
    ),
}


@pytest.mark.parametrize("name", ONE_SIZE)
def test_a_size_that_is_taken_for_more_examples_is_not_taken(name):
    build, data, said = ONE_SIZE[name]
    session = opened(build, data)
    assert [group.prunable for group in session.groups] == [True, True, False]
    assert not session.sizes.second
    assert said in session.sizes.why_not, session.sizes
    assert worst_together(session.original, session.groups, data) < 1e-5


def test_an_axis_that_only_happens_to_be_as_long_keeps_its_length():
    data = {"x": torch.randn(4, 5, 3, 12, 12), "table": torch.randn(4, 12)}
    session = opened(Frames, data)
    assert session.sizes.second == "x (2, 5, 3, 18, 18) float32, table (2, 12) float32", session.sizes


def test_nothing_proved_is_no_size():
    session = wb.Session(nn.Sequential(nn.Linear(4, 3)), [torch.randn(8, 4)])
    assert str(session.sizes) == "not proved: there is no prunable group"


def test_where_one_group_fails_at_another_size_the_others_stay():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1), Rolled(lambda size: size > 12), nn.Conv2d(6, 7, 1),
        nn.ReLU(), nn.Conv2d(7, 2, 1),
    )  # fmt: skip
    session = wb.Session(model, [torch.randn(8, 3, 12, 12)])
    assert [group.prunable for group in session.groups] == [True, False, True, False]


def test_a_second_size_costs_few_passes():
    model, counted = RIGHT["images"][0](), []
    handle = model.register_forward_pre_hook(lambda _module, args: counted.append(tuple(args[0].shape)))
    wb.Session(model, [RIGHT["images"][1]])
    handle.remove()
    assert counted.count((2, 3, 18, 18)) == 3
    assert {shape[-1] for shape in counted} == {12, 18}


def test_an_exported_folder_names_the_sizes(tmp_path):
    session = opened(*RIGHT["images"][:2])
    session.measure()
    session.commit(session.preview("0", width=5))
    session.export(tmp_path / "out")
    assert f"{session.sizes}." in (tmp_path / "out" / "README.md").read_text()
