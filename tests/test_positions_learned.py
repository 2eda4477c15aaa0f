"""Scores, gradients, fits and fine-tuning count the positions that a mask shows, and no others."""

import pytest
import torch
from padded_tokens import LENGTHS, Encoder, padded, session_of

import workbench as wb


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
