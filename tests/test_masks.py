"""Masks in every form that networks are given, and tensors of a mask's shape that are none of its tokens."""

import copy

import numpy as np
import pytest
import torch
from padded_tokens import Steps, padded
from torch import nn

import workbench as wb
from workbench.measure.positions import Positions
from workbench.tuning.matching import Matching

WIDTH, COUNT, LENGTH = 8, 4, 6
LENGTHS = torch.tensor([[6], [3], [2], [1]])
SHOWN = torch.arange(LENGTH) < LENGTHS  # (COUNT, LENGTH)
ALL = COUNT * LENGTH


def ids():
    return torch.randint(0, 23, (COUNT, LENGTH), generator=torch.Generator().manual_seed(3))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(23, WIDTH), nn.Linear(WIDTH, 13), nn.Linear(13, 3)

    def forward(self, input_ids, attention_mask=None, other=None):
        return self.down(self.up(self.embed(input_ids)).relu())


class Whole(Tokens):
    """All arguments in one."""

    def forward(self, batch):
        return super().forward(**batch)


def measured(model, batches, **options):
    torch.manual_seed(0)
    session = wb.Session(model().eval(), batches, **options)
    session.measure()
    return session


def by_hand(session, batch, reader, shown):
    """(tokens, features) that a layer received, by a hook of the test's own."""
    seen, model = [], session.original
    handle = model.get_submodule(reader).register_forward_pre_hook(
        lambda _module, args: seen.append(args[0].detach().double().numpy())
    )
    with torch.no_grad():
        model(**batch)
    handle.remove()
    return seen[0][shown.numpy()]


def added(shown, low, dtype=torch.float32):
    return torch.zeros(shown.shape, dtype=dtype).masked_fill(~shown, low)


ONE_ROW = SHOWN[1:2]
FORMS = {
    "whole numbers": (SHOWN.long(), SHOWN),
    "bytes": (SHOWN.byte(), SHOWN),
    "numbers of segments": (SHOWN * torch.tensor([1, 2, 2, 3, 3, 3]), SHOWN),
    "added, -1e9": (added(SHOWN, -1e9), SHOWN),
    "added, -inf": (added(SHOWN, -torch.inf), SHOWN),
    "added, the smallest half": (added(SHOWN, torch.finfo(torch.half).min, torch.half), SHOWN),
    "added, nothing hidden": (torch.zeros(COUNT, LENGTH), torch.ones_like(SHOWN)),
    "(batch, 1, 1, positions), added": (added(SHOWN, -1e9)[:, None, None], SHOWN),
    "(batch, 1, 1, positions)": (SHOWN[:, None, None], SHOWN),
    "(batch, 1, positions)": (SHOWN[:, None].long(), SHOWN),
    "(batch, positions, 1)": (SHOWN[..., None].float(), SHOWN),
    "a row for all": (ONE_ROW.long(), ONE_ROW.expand(COUNT, -1)),
    "(1, 1, 1, positions)": (ONE_ROW[None, None], ONE_ROW.expand(COUNT, -1)),
}


@pytest.mark.parametrize("named", ["attention_mask", "other", "a function"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_mask_hides_what_it_hides(form, named):
    mask, shown = FORMS[form]
    name = "other" if named == "other" else "attention_mask"
    batch, options = {"input_ids": ids(), name: mask}, {}
    if named == "other":
        options = {"mask": "other"}
    elif named == "a function":
        if mask.is_floating_point() and float(mask.min()) < 0:
            options = {"mask": lambda inputs: inputs["attention_mask"] == 0}
        else:
            nothing = form == "added, nothing hidden"
            options = {"mask": lambda inputs: inputs["attention_mask"].bool() | nothing}
    session = measured(Tokens, [batch], **options)
    rows, moment = by_hand(session, batch, "down", shown), session.moment("up")
    assert moment.count == len(rows) == int(shown.sum())
    assert np.abs(moment.matrix.numpy() - rows.T @ rows / len(rows)).max() < 1e-6


def test_a_batch_of_an_added_mask_that_hides_nothing_counts():
    hidden, none = added(SHOWN, -1e9), torch.zeros(COUNT, LENGTH)
    session = measured(Tokens, [{"input_ids": ids(), "attention_mask": mask} for mask in (none, hidden)])
    assert session.moment("up").count == ALL + int(SHOWN.sum())


@pytest.mark.parametrize("batch", [
    (({"input_ids": ids(), "attention_mask": SHOWN},), None),
    {"batch": {"input_ids": ids(), "attention_mask": SHOWN}},
])  # fmt: skip
def test_a_mask_within_a_dictionary_is_found(batch):
    assert measured(Whole, [batch]).moment("up").count == int(SHOWN.sum())


class Counts(nn.Module):
    """Numbers called attention_mask that have nothing to do with positions."""

    def __init__(self):
        super().__init__()
        self.up, self.down, self.kinds = nn.Linear(6, 9), nn.Linear(9, 3), nn.Embedding(4, 9)

    def forward(self, x, attention_mask):
        return self.down((self.up(x) + self.kinds(attention_mask).mean(1)).relu())


@pytest.mark.parametrize("length", [2, 6])
def test_numbers_that_only_have_the_name_of_a_mask_hide_nothing(length):
    batch = {"x": torch.randn(COUNT, 6), "attention_mask": torch.zeros(COUNT, length).long()}
    assert measured(Counts, [batch]).moment("up").count == COUNT


class Seeing(nn.Module):
    """An image, which may have as many rows as the text has tokens, and both together."""

    def __init__(self):
        super().__init__()
        self.embed, self.wide, self.narrow = (
            nn.Embedding(23, WIDTH),
            nn.Conv2d(3, 10, 1),
            nn.Conv2d(10, WIDTH, 1),
        )
        self.seen, self.out = nn.Linear(WIDTH, 9), nn.Linear(9, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 13), nn.Linear(13, 3)

    def forward(self, input_ids, pixel_values, attention_mask):
        image = self.narrow(self.wide(pixel_values).relu()).flatten(2).transpose(1, 2)
        image = self.out(self.seen(image).relu()).mean(1, keepdim=True)
        return self.down(self.up(self.embed(input_ids) + image).relu())


@pytest.mark.parametrize("shape", [(6, 6), (6, 1), (1, 6), (6, 5)])
def test_an_image_has_no_tokens(shape):
    image = torch.randn(COUNT, 3, *shape)
    batch = {"input_ids": ids(), "pixel_values": image, "attention_mask": SHOWN}
    session = measured(Seeing, [batch])
    pixels = COUNT * shape[0] * shape[1]
    assert session.moment("wide").count == session.moment("seen").count == pixels
    assert session.moment("up").count == int(SHOWN.sum())
    taylor = measured(Seeing, [{**batch, "labels": torch.zeros(COUNT, LENGTH).long()}])
    taylor.measure_gradients()
    assert bool((taylor._state.statistics["wide"].taylor > 0).any())


class Heads(Tokens):
    """A layer for each head: (batch, heads, positions, features)."""

    def __init__(self, heads):
        super().__init__()
        self.heads, self.up = heads, nn.Linear(WIDTH, 5 * heads)
        self.each, self.last = nn.Linear(5, 9), nn.Linear(9, 3)

    def forward(self, input_ids, attention_mask=None):
        x = self.up(self.embed(input_ids)).unflatten(-1, (self.heads, 5)).transpose(1, 2)
        return self.last(self.each(x).relu()).mean(1)


@pytest.mark.parametrize("heads", [2, LENGTH])
def test_two_axes_as_long_as_the_mask_count_whole(heads):
    session = measured(lambda: Heads(heads), [{"input_ids": ids(), "attention_mask": SHOWN}])
    assert session.moment("each").count == heads * (ALL if heads == LENGTH else int(SHOWN.sum()))


class Translating(nn.Module):
    """An encoder and a decoder that reads what the first one made, under names that tell nothing of it."""

    def __init__(self):
        super().__init__()
        self.embed, self.wide, self.narrow = nn.Embedding(23, WIDTH), nn.Linear(WIDTH, 11), nn.Linear(11, 7)
        self.decoder = nn.ModuleDict({
            "embed": nn.Embedding(23, WIDTH), "key": nn.Linear(7, WIDTH), "value": nn.Linear(7, WIDTH),
            "up": nn.Linear(WIDTH, 10), "down": nn.Linear(10, 5),
        })  # fmt: skip

    def forward(self, input_ids, decoder_input_ids, attention_mask=None, decoder_attention_mask=None):
        source = self.narrow(self.wide(self.embed(input_ids)).relu()).relu()
        x = self.decoder["embed"](decoder_input_ids)
        scores = x @ self.decoder["key"](source).transpose(1, 2)
        if attention_mask is not None:
            scores = scores.masked_fill(~attention_mask[:, None], -1e9)
        x = x + scores.softmax(-1) @ self.decoder["value"](source)
        return self.decoder["down"](self.decoder["up"](x).relu())


TARGET = torch.arange(LENGTH) < torch.tensor([[1], [5], [6], [4]])
SIDES = {
    "both": (SHOWN, TARGET, int(SHOWN.sum()), int(TARGET.sum())),
    "the encoder's alone": (SHOWN, None, int(SHOWN.sum()), ALL),
    "the decoder's alone": (None, TARGET, ALL, int(TARGET.sum())),
}


@pytest.mark.parametrize("sides", SIDES)
def test_what_a_decoder_reads_of_the_encoder_is_the_encoders(sides):
    source, target, read, written = SIDES[sides]
    batch = {"input_ids": ids(), "decoder_input_ids": ids().flip(0)}
    batch |= {} if source is None else {"attention_mask": source}
    batch |= {} if target is None else {"decoder_attention_mask": target}
    torch.manual_seed(0)
    model = Translating()
    labels = model(**batch).argmax(-1)
    session = measured(Translating, [{**batch, "labels": labels}])
    assert session.moment("wide").count == session.moment("narrow").count == read
    assert session.moment("decoder.up").count == written
    assert int((Positions(model).of(batch).targets(labels) != -100).sum()) == written
    rows = by_hand(session, batch, "decoder.key", torch.ones_like(SHOWN) if source is None else source)
    expected = rows.T @ rows / len(rows)
    assert np.abs(session.moment("narrow").matrix.numpy() - expected).max() < 1e-6
    wrong = labels if target is None else torch.where(target, labels, (labels + 1) % 5)
    torch.manual_seed(0)
    assert wb.evaluate(Translating(), [{**batch, "labels": wrong}]) == 1.0


def test_gradients_at_a_decoder_are_those_of_its_tokens():
    """A session with masks, beside one without whose hidden answers are marked."""
    batch = {"input_ids": ids(), "decoder_input_ids": ids().flip(0), "attention_mask": SHOWN}
    labels = torch.randint(0, 5, (COUNT, LENGTH), generator=torch.Generator().manual_seed(1))
    found = []
    for given, target, mask in ((TARGET, labels, None), (None, labels.masked_fill(~TARGET, -100), False)):
        full = batch if given is None else {**batch, "decoder_attention_mask": given}
        session = measured(Translating, [{**full, "labels": target}], mask=mask)
        session.measure_gradients()
        found.append(session._state.statistics["narrow"].taylor)
    assert torch.allclose(*found, atol=1e-8)


def test_what_is_followed_in_fine_tuning_is_every_pixel_and_the_tokens():
    """The distance that fine-tuning follows, beside one from hooks of the test's own."""
    batch = {"input_ids": ids(), "pixel_values": torch.randn(COUNT, 3, 6, 5), "attention_mask": SHOWN}
    session = measured(Seeing, [batch])
    before, now = session.original, measured(Seeing, [batch]).original
    with torch.no_grad():
        for parameter in now.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    groups = [group for group in session.groups if group.prunable]
    matching = Matching.of(before, groups, groups, {g.name: range(g.width) for g in groups})
    _, _, distance = matching.run(now, batch, Positions(before).of(batch))
    seen = {"before": {}, "now": {}}
    for which, model in (("before", before), ("now", now)):
        for name, layer in model.named_modules():
            layer.register_forward_pre_hook(
                lambda _m, args, of=seen[which], name=name: of.update({name: args[0]} if args else {})
            )
        seen[which][""] = model(**batch)
    terms = []
    for name in ["", *(reader.module for group in groups for reader in group.readers)]:
        a, b = (seen[which][name].detach().double() for which in ("before", "now"))
        if name in ("", "up", "down"):
            a, b = a[SHOWN], b[SHOWN]
        terms.append(float((a - b).square().sum() / a.square().sum()))
    assert float(distance) == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
def test_what_is_followed_of_a_recurrent_layer_is_its_steps_at_tokens(batch_first):
    distances = []
    for total in (7, 30):
        tokens, shown = padded(total)
        batch = {"input_ids": tokens, "attention_mask": shown}
        session = measured(lambda: Steps(nn.GRU, batch_first, False), [batch])
        before, now = session.original, copy.deepcopy(session.original)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in now.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        groups = [group for group in session.groups if group.prunable]
        assert any(reader.module.endswith("recurrent") for group in groups for reader in group.readers)
        matching = Matching.of(before, groups, groups, {g.name: range(g.width) for g in groups})
        distances.append(float(matching.run(now, batch, Positions(before).of(batch))[2].detach()))
    assert distances[0] == pytest.approx(distances[1], rel=1e-5)


class Chosen(Tokens):
    """Its features are put in another order, along an axis that is counted from the end."""

    def __init__(self, axis):
        super().__init__()
        self.axis, self.last = axis, nn.Linear(3, 2)

    def forward(self, input_ids, attention_mask=None, other=None):
        x = self.embed(input_ids)
        x = x.index_select(self.axis, torch.arange(WIDTH).flip(0))
        return self.last(self.down(self.up(x).relu()).relu())


@pytest.mark.parametrize("axis", [-1, 2])
def test_features_that_are_picked_are_no_rows(axis):
    session = wb.Session(Chosen(axis), [{"input_ids": ids(), "attention_mask": SHOWN}])
    session.measure()
    assert session.moment("up").count == int(SHOWN.sum())
    found = session.network_theory(1e-2)
    assert found.output_change > 0
