"""Positions that an attention mask hides count nowhere: moments by hand, and networks without padding."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.measure.positions import Positions

WIDTH, PAD = 8, 0


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


def data_of(total=20):
    ids, shown = padded(total)
    return {"input_ids": ids, "attention_mask": shown.long()}


class Named(Encoder):
    def forward(self, tokens, real, kind=None):
        return super().forward(tokens, real)


def test_a_mask_may_have_any_name_or_be_a_function():
    ids, shown = padded(20)
    batch = {"tokens": ids, "real": shown, "kind": torch.zeros_like(ids)}
    counts = {}
    for mask in (None, "real", lambda inputs: inputs["tokens"] != PAD, False):
        torch.manual_seed(0)
        session = wb.Session(Named(), [batch], mask=mask)
        session.measure()
        counts[str(mask)[:5]] = session.moment("up").count
    assert list(counts.values()) == [80, 16, 16, 80]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("real", "mask='real', but the batch has no tensor of that name; it has input_ids, attention_mask"),
        (3, "mask= is 3; give the name of an argument, a function"),
        (True, "mask= is True; give the name"),
        (
            lambda inputs: inputs["attention_mask"],
            "the function mask= returned torch.int64; expected a tensor",
        ),
        (lambda inputs: None, "the function mask= returned NoneType; expected a tensor of bool"),
        (lambda inputs: inputs["attention_mask"].bool()[0], r"the mask mask is \(20,\); expected one number"),
    ],
)
def test_a_mask_that_is_none_is_told(mask, words):
    with pytest.raises((TypeError, ValueError), match=words):
        wb.Session(Encoder(), [data_of()], mask=mask)


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("attention_mask", torch.tril(torch.ones(9, 9))),
        ("attention_mask", torch.zeros(4, 1, 9, 9)),
        ("attention_mask", torch.randn(4, 9)),
        ("attention_mask", torch.ones(4)),
        ("attention_mask", None),
        ("src_mask", torch.zeros(4, 9)),
        ("global_attention_mask", torch.zeros(4, 9)),
        ("image_mask", torch.zeros(4, 9)),
        ("attention_mask", torch.ones(4, 9)),
    ],
)
def test_what_is_no_mask_of_positions_hides_nothing(name, mask):
    visible = Positions(Encoder()).of({"input_ids": torch.zeros(4, 9), name: mask})
    assert not visible.masks
    assert visible.flags((4, 9)) is None


def test_a_tensor_of_other_positions_counts_whole():
    visible = Positions(Encoder()).of(data_of(20))
    assert [visible.flags(shape) for shape in ((4,), (4, 7), (3, 20), (20,), ())] == [None] * 5
    for shape in ((4, 20), (4, 20, 2), (4, 2, 20), (20, 4), (80,)):
        flags = visible.flags(shape)
        assert flags.shape == shape
        assert int(flags.sum()) == 16 * flags.numel() // 80


def test_where_nothing_counts_it_is_told():
    batch = {"input_ids": torch.ones(4, 9).long(), "attention_mask": torch.zeros(4, 9).long()}
    session = wb.Session(Convolved(), [batch])
    with pytest.raises(ValueError, match="hides every position"):
        session.measure()


def labelled(total, wrong):
    """Tokens with labels that are right at the tokens alone, where `wrong`, else everywhere."""
    ids, shown = padded(total)
    torch.manual_seed(0)
    model = Encoder().eval()
    with torch.no_grad():
        labels = model(ids, shown).argmax(-1)
    labels = torch.where(shown | (not wrong), labels, (labels + 1) % 3)
    return model, {"input_ids": ids, "attention_mask": shown, "labels": labels}


def test_scores_count_the_answers_at_tokens_alone():
    model, batch = labelled(30, wrong=True)
    assert wb.evaluate(model, [batch]) == 1.0
    assert wb.Session(model, [batch], [batch]).evaluate() == 1.0
    everywhere = wb.Session(model, [batch], [batch], mask=False).evaluate()
    assert everywhere == pytest.approx(sum(LENGTHS) / (4 * 30))
    marked = {**batch, "labels": batch["labels"].masked_fill(~batch["attention_mask"], -100)}
    other = {**marked, "input_ids": batch["input_ids"].clone()}
    other["labels"][0, 0] = (other["labels"][0, 0] + 1) % 3
    assert wb.Session(model, [other], [other]).evaluate() == pytest.approx(1 - 1 / sum(LENGTHS))
    assert wb.Session(model, [other], [other], mask=False).evaluate() == pytest.approx(1 - 1 / sum(LENGTHS))


def test_gradients_are_those_of_the_tokens():
    found = {}
    for total in (7, 40):
        model, batch = labelled(total, wrong=False)
        session = wb.Session(model, [batch])
        session.measure()
        session.measure_gradients()
        found[total] = session._state.statistics["up"].taylor
        marked = {**batch, "labels": batch["labels"].masked_fill(~batch["attention_mask"], -100)}
        by_marks = wb.Session(model, [marked], mask=False)
        by_marks.measure()
        by_marks.measure_gradients()
        assert torch.allclose(found[total], by_marks._state.statistics["up"].taylor, atol=1e-8)
    assert torch.allclose(found[7], found[40], rtol=1e-4)


@pytest.mark.parametrize("reconstruction", ["channel", "kernel", "original"])
@pytest.mark.parametrize("name", ["transformers, bool", "along other axes"])
def test_what_is_fitted_is_fitted_at_tokens_alone(name, reconstruction):
    weights = []
    for total in (7, 90):
        session = session_of(name, total)
        group = next(group.name for group in session.groups if group.prunable and group.name != "qkv")
        session.commit(session.preview(group, width=4, reconstruction=reconstruction))
        weights.append(torch.cat([p.detach().flatten() for p in session.model.parameters()]))
    assert float((weights[0] - weights[1]).abs().max()) < 1e-3 * float(weights[0].abs().max())


@pytest.mark.parametrize("way", [{}, {"distill": 1.0}, {"match": 1.0}])
def test_fine_tuning_learns_from_tokens_alone(way):
    learned = []
    for wrong, noise in ((True, 0), (False, 3)):
        model, batch = labelled(30, wrong)
        hidden = ~batch["attention_mask"]
        if way:  # what stands at hidden positions must not matter to what is followed there
            batch["input_ids"] = batch["input_ids"] + noise * hidden
        session = wb.Session(model, [batch])
        session.measure()
        session.commit(session.preview("up", width=6))
        session.finetune(tuning=wb.Tuning(steps=5, rate=1e-2, **way))
        learned.append(torch.cat([p.detach().flatten() for p in session.model.parameters()]))
    if not way:
        assert torch.equal(*learned)
    assert float((learned[0] - learned[1]).abs().max()) < 1e-4


def test_what_a_mask_hides_is_saved(tmp_path):
    ids, shown = padded(20)
    batch = {"tokens": ids, "real": shown}
    torch.manual_seed(0)
    model = Named()
    session = wb.Session(model, [batch], mask="real")
    session.measure()
    session.save(tmp_path / "one")
    again = wb.Session.open(tmp_path / "one", model, [batch])
    assert again.mask == "real"
    assert again.moment("up").count == 16
