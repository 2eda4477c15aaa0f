"""What is a mask of positions: by whatever name, as a function, or none; and that it is saved."""

import pytest
import torch
from padded_tokens import PAD, Convolved, Encoder, padded

import workbench as wb
from workbench.measure.positions import Positions


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


def test_a_mask_is_kept_where_the_first_examples_alone_are_measured():
    ids, shown = padded(20)
    named = (Named(), {"tokens": ids, "real": shown}, "real")
    whole = (Encoder(), {"input_ids": ids, "attention_mask": shown}, False)
    for model, batch, mask in (named, whole):
        session = wb.Session(model, [batch], mask=mask)
        session.measure()
        every, first = (session.network_theory(1e-2, examples=n) for n in (None, len(ids)))
        assert first.local_measured == every.local_measured
        assert first.output_change == every.output_change
