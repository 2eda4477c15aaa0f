"""Every pass over data notices where it ends before what it promises, and measuring gradients bad batches."""

import pytest
import torch
from networks import conv_net, images
from torch.utils.data import DataLoader, IterableDataset

from workbench.course.errors import outputs
from workbench.measure.drift import measure_drift
from workbench.measure.evaluation import evaluate
from workbench.session.session import Session
from workbench.tuning.settings import Tuning

X = images(24)
Y = torch.randint(0, 5, (24,), generator=torch.Generator().manual_seed(1))
WHOLE = [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]


class Shrinking(IterableDataset):
    """Says three batches, and gives as many as are left in `left`."""

    def __init__(self):
        self.left = 3

    def __iter__(self):
        return iter(WHOLE[: self.left])

    def __len__(self):
        return 3


class Plain(list):
    left = 3

    def __iter__(self):
        return iter(WHOLE[: self.left])

    def __len__(self):
        return 3


@pytest.fixture(params=["loader", "list"])
def shrinking(request):
    """A set of data that is whole until its `left` falls, and what a session is given of it."""
    if request.param == "list":
        data = Plain()
        return data, data
    data = Shrinking()
    return data, DataLoader(data, batch_size=None)


def pruned(data):
    session = Session(conv_net(), data, data, training=data)
    session.measure()
    session.commit(session.preview("conv2", width=5))
    return session


PASSES = {
    "measure": lambda s, d: Session(s.original, d, WHOLE).measure(),
    "measure again": lambda s, d: stale(s, d).remeasure(),
    "score": lambda s, d: s.evaluate(),
    "score of a model": lambda s, d: evaluate(s.model, d),
    "gradients": lambda s, d: s.measure_gradients(),
    "fine-tuning": lambda s, d: s.finetune(tuning=Tuning(epochs=2)),
    "distillation": lambda s, d: s.finetune(tuning=Tuning(epochs=2, distill=1)),
    "matching": lambda s, d: s.finetune(tuning=Tuning(epochs=2, match=1)),
    "refitting": lambda s, d: s.refit(),
    "a commit that fits": lambda s, d: s.commit(s.preview("fc1", width=7, reconstruction="kernel")),
    "a plan that fits": lambda s, d: s.commit_plan({"fc1": 7}, reconstruction="original"),
    "norms": lambda s, d: s.commit(s.preview("conv1", width=3, reestimate=True)),
    "sensitivity": lambda s, d: s.sensitivity((0.5,)),
    "comparing": lambda s, d: s.compare({"fc1": 7}, ("greedy",), ("none",)),
    "drift": lambda s, d: measure_drift(s.original, s.model, {}, d),
    "outputs": lambda s, d: outputs(s.model, d),
}


def stale(session, data):
    """A session like `session` whose moments are to be measured again on what is left of `data`."""
    source = getattr(data, "dataset", data)
    left, source.left = source.left, 3
    other = Session(session.original, data, WHOLE, procedure="sequential")
    other.measure()
    other.commit(other.preview("conv1", width=3))
    source.left = left
    return other


@pytest.mark.parametrize("name", PASSES)
def test_data_that_ends_early_is_noticed(name, shrinking):
    data, given = shrinking
    session = pruned(given)
    before = session.position, len(session.history)
    data.left = 2
    with pytest.raises(ValueError, match=r"promises 3 batches, but ended after 2"):
        PASSES[name](session, given)
    assert (session.position, len(session.history)) == before


def test_whole_data_is_no_fault(shrinking):
    session = pruned(shrinking[1])
    session.measure_gradients()
    session.finetune(tuning=Tuning(epochs=2))
    session.refit()
    assert session.position == 3


def nan_at(index, what):
    parts = [[x.clone(), torch.ones(8, 5) if what else y] for x, y in WHOLE]
    parts[index][what].view(-1)[3] = torch.nan
    return [tuple(part) for part in parts]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (nan_at(1, 0), "batch 1 has NaN or Inf in its inputs"),
        (nan_at(2, 1), "batch 2 has NaN or Inf in its targets"),
        ([], "data is empty"),
        ([(X[:0], Y[:0])], "data is empty"),
        ([(X, torch.full((24,), -100))], "no target of the training data counts"),
    ],
)
def test_gradients_refuse_what_measuring_refuses(data, words):
    session = pruned(WHOLE)
    with pytest.raises(ValueError, match=words):
        session.measure_gradients(data)
    assert not session.has_gradients
