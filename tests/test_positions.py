"""Positions that an attention mask hides count nowhere: moments by hand, and networks without padding."""

import numpy as np
import pytest
import torch
from padded_tokens import LENGTHS, NAMED, WIDTH, Encoder, Steps, padded, session_of
from torch import nn

import workbench as wb


class Routed(nn.Module):
    """A mixture of two experts: the rows that each gets, in their order or sorted by expert; or by place."""

    def __init__(self, way):
        super().__init__()
        self.embed, self.router, self.way = nn.Embedding(23, WIDTH), nn.Linear(WIDTH, 2), way
        self.ups = nn.ModuleList([nn.Linear(WIDTH, 7) for _ in range(2)])
        self.downs = nn.ModuleList([nn.Linear(7, WIDTH) for _ in range(2)])
        self.last, self.head = nn.Linear(WIDTH, 9), nn.Linear(9, 3)

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        rows, chosen = x.flatten(0, 1), self.router(x).argmax(-1)
        expert = chosen.flatten()
        out = torch.zeros_like(rows)
        if self.way == "sorted":
            order = expert.argsort()
            ends, sorted_rows = [0, int((expert == 0).sum()), len(expert)], rows[order]
            parts = [self.one(e, sorted_rows[ends[e] : ends[e + 1]]) for e in range(2)]
            out[order] = torch.cat(parts)
        for e in range(2):
            if self.way == "rows":
                where = (expert == e).nonzero()[:, 0]
                out = out.index_add(0, where, self.one(e, rows.index_select(0, where)))
            elif self.way == "flags":
                out[expert == e] = self.one(e, x[chosen == e])
        return self.head(self.last(out).relu()).reshape(*input_ids.shape, 3)

    def one(self, expert, rows):
        return self.downs[expert](self.ups[expert](rows).relu())


def rows_by_hand(session, batch, reader, shown):
    """What a layer received at the tokens, in NumPy, by a hook of the test's own: (tokens, features)."""
    model, seen = session.original, []
    layer = model.get_submodule(reader)
    handle = layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    inputs = batch[0] if isinstance(batch, tuple) else batch
    with torch.no_grad():
        model(*inputs) if isinstance(inputs, tuple) else model(**inputs)
    handle.remove()
    (x,) = seen
    if isinstance(layer, nn.Conv1d):
        x = x.transpose(1, 2)
    x, flags = x.double().numpy(), shown.numpy()
    if x.ndim == 2:
        return x[flags.flatten()]
    return x[flags] if x.shape[:2] == flags.shape else x[flags.T]


@pytest.mark.parametrize("total", [7, 20, 70])
@pytest.mark.parametrize("name", NAMED)
def test_moments_are_those_of_the_tokens_by_hand(name, total):
    session = session_of(name, total)
    ids, shown = padded(total)
    batch, checked = NAMED[name][1](ids, shown), 0
    for group in (group for group in session.groups if group.prunable):
        for index, reader in enumerate(group.readers):
            rows = rows_by_hand(session, batch, reader.module, shown)
            parts = [rows[:, reader.columns[:, p].numpy()] for p in range(reader.positions)]
            samples = np.concatenate(parts)
            moment = session.moment(group.name, index)
            assert moment.count == len(samples) == sum(LENGTHS) * reader.positions
            expected = samples.T @ samples / len(samples)
            assert np.abs(moment.matrix.numpy() - expected).max() < 1e-6 * np.trace(expected)
            assert np.allclose(moment.mean.numpy(), samples.mean(0), atol=1e-6)
            if not index:
                active = session._state.statistics[group.name].active
                assert np.allclose(active.numpy(), (samples != 0).mean(0))
            checked += 1
    assert checked


@pytest.mark.parametrize("name", NAMED)
def test_padding_of_any_amount_keeps_the_same_units(name):
    few, more = session_of(name, 7), session_of(name, 90)
    whole = session_of(name, 90, mask=False)
    names = [group.name for group in few.groups if group.prunable]
    assert [group.name for group in more.groups if group.prunable] == names
    for group in names:
        for width in range(1, few.group(group).width):
            assert few.preview(group, width=width).kept == more.preview(group, width=width).kept
        assert whole.moment(group).count > 5 * more.moment(group).count


def test_one_batch_padded_is_its_examples_without_padding():
    torch.manual_seed(0)
    model = Encoder().eval()
    ids, shown = padded(11, first=True)
    alone = [{"input_ids": row[flags][None]} for row, flags in zip(ids, shown, strict=True)]
    together = [{"input_ids": ids, "attention_mask": shown}]
    one, other = (wb.Session(model, data) for data in (alone, together))
    for session in (one, other):
        session.measure()
    for group in (group for group in one.groups if group.prunable):
        a, b = one.moment(group.name), other.moment(group.name)
        assert a.count == b.count
        assert float((a.matrix - b.matrix).abs().max()) < 1e-5 * float(a.matrix.trace())
        assert one.preview(group.name, width=4).kept == other.preview(group.name, width=4).kept


class Two(nn.Module):
    """An encoder and a decoder whose tokens have masks of their own, of the same shape."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(WIDTH), Encoder(5)

    def forward(self, input_ids, attention_mask, decoder_input_ids, decoder_attention_mask):
        seen = self.encoder(input_ids, attention_mask).mean()
        return self.decoder(decoder_input_ids, decoder_attention_mask) + seen


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("two_ways", [False, True])
def test_recurrent_layers_are_measured_at_tokens_alone(kind, batch_first, two_ways):
    """What each direction reads at a step, by hand from what torch's own layer gives."""
    ids, shown = padded(9)
    torch.manual_seed(0)
    model = Steps(kind, batch_first, two_ways).eval()
    session = wb.Session(model, [{"input_ids": ids, "attention_mask": shown}])
    session.measure()
    session.measure_gradients([{"input_ids": ids, "attention_mask": shown, "labels": torch.zeros_like(ids)}])
    with torch.no_grad():
        x = model.first(model.embed(ids)).relu()
        h = model.cells(x if batch_first else x.transpose(0, 1))[0]
        h = (h if batch_first else h.transpose(0, 1)).split(7, -1)
    zeros = torch.zeros(len(ids), 1, 7)
    carried = [torch.cat([zeros, h[0][:, :-1]], 1)]
    carried += [torch.cat([part[:, 1:], zeros], 1) for part in h[1:]]  # what each direction reads at a step
    for index, rows in enumerate([x[shown], *(part[shown] for part in carried)]):
        name = "first" if not index else f"cells.layers.0{'_reverse' * (index - 1)}.input"
        group = next(group for group in session.groups if group.name == name)
        reader = next(
            i for i, one in enumerate(group.readers) if one.module.endswith(("recurrent", "0.input"))
        )
        moment, rows = session.moment(name, reader), rows.double()
        assert moment.count == sum(LENGTHS)
        assert float((moment.matrix - rows.T @ rows / len(rows)).abs().max()) < 1e-6
    if two_ways:
        group = session.group("first")
        assert (
            float((session.moment("first", 0).matrix - session.moment("first", 1).matrix).abs().max()) < 1e-6
        )


@pytest.mark.parametrize("way", ["rows", "flags", "sorted"])
def test_tokens_are_followed_to_their_experts(way):
    found = []
    for total in (7, 30):
        ids, shown = padded(total)
        torch.manual_seed(0)
        model = Routed(way)
        session = wb.Session(model, [{"input_ids": ids, "attention_mask": shown}])
        session.measure()
        found.append([session.moment(name) for name in ("ups.0", "ups.1", "last")])
        assert [group.prunable for group in session.groups].count(True) == 3
    for a, b in zip(*found, strict=True):
        assert a.count == b.count
        assert float((a.matrix - b.matrix).abs().max()) < 1e-6 * float(a.matrix.trace())
    assert found[0][0].count + found[0][1].count == found[0][2].count == sum(LENGTHS)
    assert min(found[0][0].count, found[0][1].count) > 0


@pytest.mark.parametrize("lengths", [(2, 2, 4, 1), (9, 9, 9, 9)])
@pytest.mark.parametrize("total", [9, 12])
def test_each_side_of_a_pair_has_its_own_mask(total, lengths):
    ids, shown = padded(9)
    target, known = padded(total, lengths=lengths)
    torch.manual_seed(0)
    session = wb.Session(Two(), [{
        "input_ids": ids, "attention_mask": shown,
        "decoder_input_ids": target, "decoder_attention_mask": known,
    }])  # fmt: skip
    session.measure()
    assert session.moment("encoder.up").count == sum(LENGTHS)
    assert session.moment("decoder.up").count == sum(lengths)
