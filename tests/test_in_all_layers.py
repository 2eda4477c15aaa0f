"""Numbers that all layers of a network share, and how few trials it takes to find which must fall."""

import pytest
import torch
from mentions import unmentioned
from silencing import each_alone, lively
from torch import nn

import workbench as wb
from workbench.network.finding.looking_up import looked_up
from workbench.network.finding.proof import find_groups


class Attention(nn.Module):
    """Attention to which the network tells a bias a head; some of its numbers are never looked up again."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.head_dim, self.width, self.inner = heads, 6, width, heads * 6
        self.q, self.k, self.v = (nn.Linear(width, self.inner) for _ in range(3))
        self.out = nn.Linear(self.inner, width)

    def forward(self, x, bias):
        q, k, v = (
            one(x).view(*x.shape[:2], self.heads, self.head_dim).transpose(1, 2)
            for one in (self.q, self.k, self.v)
        )
        scores = q @ k.transpose(-2, -1) + bias
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Told(nn.Module):
    """Layers that share a bias made for so many heads, as layers that read an encoder may do."""

    def __init__(self, depth, slope=0.0, heads=4):
        super().__init__()
        self.heads, self.slope = heads, slope
        self.layers = nn.ModuleList(Attention(20, heads) for _ in range(depth))
        self.last = nn.Linear(20, 3)

    def forward(self, x):
        ones = torch.ones(self.heads, 1, 1, dtype=x.dtype)
        bias = self.slope * ones.cumsum(0) / self.heads * torch.arange(x.shape[1])
        for layer in self.layers:
            x = x + layer(x, bias)
        return self.last(x)


def passes(model, x):
    count = []
    handle = model.register_forward_pre_hook(lambda *_: count.append(1))
    try:
        return wb.Session(model, [x]), len(count)
    finally:
        handle.remove()


@pytest.mark.parametrize("depth", [2, 5])
def test_heads_of_all_layers_go_together_where_one_number_tells_how_many_there_are(depth):
    torch.manual_seed(0)
    model, x = lively(Told(depth).double(), torch.randn(6, 5, 20).double()), torch.randn(4, 5, 20).double()
    session, count = passes(model, x)
    assert unmentioned(session) == set()
    (heads,) = [group for group in session.groups if group.attributes]
    assert heads.prunable
    assert heads.width == 4
    assert len(heads.writers) == 3 * depth
    assert {(one.module, one.name) for one in heads.attributes} == {("", "heads")} | {
        (f"layers.{i}", "heads") for i in range(depth)
    }
    assert max(wrong for wrong, _ in each_alone(session.original, session.groups, x).values()) < 1e-9
    assert count <= 70


@pytest.mark.parametrize("depth", [2, 9])
def test_heads_that_cannot_go_are_given_up_after_a_few_trials_at_any_depth(depth):
    torch.manual_seed(0)
    session, count = passes(Told(depth, slope=1.0), torch.randn(4, 5, 20))
    assert not any(group.attributes for group in session.groups)
    assert count <= 97


def test_only_numbers_that_the_network_looks_up_are_tried():
    model, x = Told(1).eval(), torch.randn(2, 5, 20)
    assert looked_up(model, x) == {("", "heads"), ("layers.0", "heads"), ("layers.0", "head_dim")}
    assert type(model.layers[0]) is Attention
    assert not model.training


def test_where_looking_up_cannot_be_seen_all_numbers_are_tried():
    class Strict(Told):
        def forward(self, x):
            if type(self) is not Strict:
                raise TypeError("another class")
            return super().forward(x)

    assert looked_up(Strict(1).eval(), torch.randn(2, 5, 20)) is None


class Places(nn.Embedding):
    """Returns the places beside what stands there, as some position embeddings do."""

    def forward(self, x):
        places = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        return super().forward(places), places


def test_an_embedding_that_returns_more_than_its_rows_is_followed():
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(11, 6), Places(8, 6)
            self.up, self.down = nn.Linear(6, 9), nn.Linear(9, 6)

        def forward(self, x):
            where, _ = self.places(x)
            return self.down(self.up(self.words(x) + where).relu())

    torch.manual_seed(0)
    groups = find_groups(Placed(), torch.randint(0, 11, (4, 7)))
    first = next(group for group in groups if group.prunable and group.width == 6)
    assert {writer.module for writer in first.writers} == {"words", "places"}


class Octave(nn.Conv2d):
    """Takes and gives a pair of maps, as octave convolutions do."""

    def forward(self, pair):
        high, low = pair
        return super().forward(high), super().forward(low)


def test_a_convolution_that_gives_a_pair_hinders_no_other_layer():
    class Paired(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 4, 1)
            self.pairs, self.last = Octave(4, 4, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            x = self.second(self.first(x).relu())
            return self.last(sum(self.pairs((x, x.flip(-1)))))

    torch.manual_seed(0)
    session = wb.Session(Paired(), [torch.randn(4, 2, 5, 5)])
    why = {group.name: group.why_not for group in session.groups}
    assert all("could not be traced" not in reason for reason in why.values()), why
    assert session.group("first").prunable


class Standard(nn.Conv2d):
    """An octave convolution where it is an ordinary one: a pair is taken and given, half of which is None."""

    def forward(self, high, low=None):
        return super().forward(high), low


class StandardOctaves(nn.Module):
    def __init__(self, layer=Standard):
        super().__init__()
        self.first, self.norm, self.second = layer(2, 12, 3, padding=1), nn.BatchNorm2d(12), layer(12, 9, 3)
        self.last = nn.Linear(9, 4)

    def forward(self, x):
        found = self.first(x)
        x, low = found if isinstance(found, tuple) else (found, None)
        found = self.second(self.norm(x).relu(), *[low] * isinstance(found, tuple))
        return self.last((found[0] if isinstance(found, tuple) else found).relu().mean((2, 3)))


def test_layers_that_give_one_tensor_beside_none_are_layers(tmp_path):
    torch.manual_seed(0)
    model, plain = StandardOctaves().eval(), StandardOctaves(nn.Conv2d).eval()
    plain.load_state_dict(model.state_dict())
    data = [(torch.randn(32, 2, 7, 7), torch.randint(0, 4, (32,)))]
    sessions = [wb.Session(network, data, data) for network in (model, plain)]
    told = [
        [(g.name, g.width, g.prunable, [w.module for w in g.writers]) for g in session.groups]
        for session in sessions
    ]
    assert told[0] == told[1]
    assert [one[0] for one in told[0] if one[2]] == ["first", "second"]
    for session in sessions:
        session.measure()
        session.commit(session.preview("first", width=7, reconstruction="original"))
        session.commit(session.preview("second", width=5))
        session.refit()
    found, expected = (session.model(data[0][0]) for session in sessions)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert sessions[0].history[-1].score == sessions[1].history[-1].score
    theories = [session.theory("first", width=6) for session in sessions]
    assert theories[0].readers[0].local_measured == pytest.approx(theories[1].readers[0].local_measured)
    assert sessions[0].macs == sessions[1].macs
    # A unit is gone from the whole network as if it were silent in it.
    session = wb.Session(model, data)
    session.measure()
    choice = session.preview("first", width=11, reconstruction="none")
    lost = [unit for unit in range(12) if unit not in choice.kept]
    handle = model.norm.register_forward_hook(
        lambda _m, _a, out: out.index_fill(1, torch.tensor(lost), -1e9)  # and the ReLU behind it is zero
    )
    silent = model(data[0][0])
    handle.remove()
    torch.testing.assert_close(session.pruned(choice)(data[0][0]), silent, rtol=1e-5, atol=1e-6)


class Joining(nn.Conv2d):
    """An octave convolution at the end of the octaves: takes a pair of maps, of two sizes, and gives one."""

    def forward(self, high, low=None):
        half = self.in_channels - low.shape[1]
        found = nn.functional.conv2d(nn.functional.avg_pool2d(high, 2), self.weight[:, :half], self.bias)
        return found + nn.functional.conv2d(low, self.weight[:, half:]), None


class Octaves(nn.Module):
    def __init__(self):
        super().__init__()
        self.high, self.low = nn.Conv2d(2, 5, 1), nn.Conv2d(2, 3, 1)
        self.join, self.aside, self.last = Joining(8, 10, 1), Standard(10, 10, 1), nn.Linear(10, 4)

    def forward(self, x):
        joined, low = self.join(self.high(x).relu(), self.low(nn.functional.avg_pool2d(x, 2)).relu())
        return self.last((joined + self.aside(joined.relu(), low)[0]).relu().mean((2, 3)))


def test_a_layer_that_takes_a_pair_and_gives_one_tensor_has_units():
    torch.manual_seed(0)
    model, x = lively(Octaves()), torch.randn(24, 2, 8, 8, dtype=torch.float64)
    session = wb.Session(model, [x])
    assert [group.name for group in session.groups if group.prunable] == ["join"]
    assert "several tensors" in session.group("high").why_not
    wrong, change = each_alone(model, session.groups, x)["join"]
    assert wrong < 1e-12 < 1e-3 < change
    session.measure()
    for way in ("channel", "original"):
        session.commit(session.preview("join", width=6, reconstruction=way))
    before = session.model.join.weight.clone()
    session.refit()  # of what takes a pair nobody knows which columns read what
    torch.testing.assert_close(session.model.join.weight, before, rtol=0, atol=0)
    assert session.model(x).shape == (24, 4)
