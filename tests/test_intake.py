"""What reaches a network: arrays, numbers of another type, several inputs; and no random number moved."""

import random

import numpy as np
import pytest
import torch
from networks import conv_net, images
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from workbench.data.batches import as_batches
from workbench.data.randomness import OwnRandomness, each_of
from workbench.measure.evaluation import evaluate
from workbench.measure.intake import Intake
from workbench.session.session import Session
from workbench.tuning.settings import Tuning

EXAMPLES = 31


def net(kind=torch.float32):
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).to(kind)


def numbers():
    return np.random.default_rng(3).normal(size=(EXAMPLES, 5))


def classes():
    return np.arange(EXAMPLES) % 3


FORMS = {
    "an array": lambda x, y: x,
    "a tensor": lambda x, y: torch.from_numpy(x),
    "a pair of arrays": lambda x, y: (x, y),
    "a pair of tensors": lambda x, y: (torch.from_numpy(x), torch.from_numpy(y)),
    "batches of arrays": lambda x, y: [(x[:13], y[:13]), (x[13:], y[13:])],
    "batches of arrays alone": lambda x, y: [x[:13], x[13:]],
    "a list in a batch": lambda x, y: [[x, y]],
    "a dictionary": lambda x, y: {"input": x, "labels": y},
    "a loader": lambda x, y: DataLoader(
        TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=13
    ),
    "another order of bytes": lambda x, y: x.astype(">f8"),
    "a view backwards": lambda x, y: x[::-1],
    "a column of bytes": lambda x, y: (x, y.astype(np.uint8)[:, None]),
}


UNLABELLED = (
    "an array", "a tensor", "batches of arrays alone", "another order of bytes", "a view backwards"
)  # fmt: skip


@pytest.mark.parametrize("model_kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_any_type_go_through_the_whole_session(form, model_kind):
    x, y = numbers(), classes()
    given = x[::-1].copy() if form == "a view backwards" else x
    labels = form not in UNLABELLED
    model = net(model_kind)
    session = Session(model, FORMS[form](x, y), FORMS[form](x, y) if labels else (given, y))
    session.measure()
    with torch.no_grad():
        hidden = model[:2](torch.from_numpy(given).to(model_kind)).double()
    expected = hidden.T @ hidden / EXAMPLES
    torch.testing.assert_close(
        session.original_statistics()["0"].moments[0].matrix, expected, rtol=1e-6, atol=1e-9
    )
    for reconstruction in ("channel", "original"):
        session.commit(session.preview("0", width=5, reconstruction=reconstruction))
        session.undo()
    session.commit(session.preview("0", width=5))
    assert session.evaluate() is not None
    if labels:
        session.finetune(tuning=Tuning(steps=2))
        assert {p.dtype for p in session.model.parameters()} == {model_kind}


def test_single_precision_reaches_a_network_of_doubles():
    x, y = torch.from_numpy(numbers()).float(), torch.from_numpy(classes())
    session = Session(net(torch.float64), (x, y), (x, y))
    session.measure()
    assert session.history[0].score is not None


def test_a_network_that_takes_another_type_gets_what_was_given():
    class Times(nn.Module):
        """Takes the whole seconds off a time in double precision before it goes on in single."""

        def __init__(self):
            super().__init__()
            self.net, self.seen = net(), []

        def forward(self, x):
            self.seen.append(x.dtype)
            return self.net((x - x.floor()).float())

    model, x = Times(), numbers() + 1.7e9
    session = Session(model, x)
    session.measure()
    assert set(session.original.seen) == {torch.float64}
    with torch.no_grad():
        hidden = model.net[:2](torch.from_numpy(x - np.floor(x)).float()).double()
    found = session.original_statistics()["net.0"].moments[0].matrix
    torch.testing.assert_close(found, hidden.T @ hidden / EXAMPLES, rtol=1e-5, atol=1e-8)


def test_an_example_input_of_another_type_is_brought_to_the_network_s():
    session = Session(net(), torch.from_numpy(numbers()), example_input=torch.from_numpy(numbers()[:4]))
    assert session.example_input.dtype == torch.float32


def test_opening_a_session_leaves_a_network_that_counts_its_calls_alone():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, x):
            self.calls += 1
            return self.net(x)

    model, x = Counting(), numbers()
    Session(model, x, (x, classes() % 2))
    assert int(model.calls) == 0


def test_whole_numbers_and_networks_of_several_types_are_left_alone():
    tokens = torch.arange(6)
    assert Intake(net())(tokens) is tokens
    mixed = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3).double())
    x = torch.ones(2, 5, dtype=torch.float16)
    assert Intake(mixed)(x).dtype == torch.float16


@pytest.mark.parametrize("kind", [np.array(["a"]), np.array([object()])])
def test_arrays_without_numbers_are_refused(kind):
    with pytest.raises(TypeError, match="give an array of numbers"):
        as_batches(kind)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 7), nn.Linear(4, 7), nn.Linear(7, 3)

    def forward(self, one, other):
        return self.last((self.first(one) + self.second(other)).relu())


PAIRS = {
    "a pair in a list": lambda a, b: [(a, b)],
    "a list in a list": lambda a, b: [[a, b]],
    "a pair": lambda a, b: (a, b),
    "a loader": lambda a, b: DataLoader(TensorDataset(a, b), batch_size=7),
    "arrays": lambda a, b: [(a.numpy(), b.numpy())],
}


@pytest.mark.parametrize("form", PAIRS)
def test_a_pair_that_is_no_pair_of_inputs_says_how_to_write_one(form):
    a, b = torch.randn(EXAMPLES, 5), torch.randn(EXAMPLES, 4)
    with pytest.raises(ValueError, match=r"\(\(a, b\), None\), or \{'one': a, 'other': b\}") as caught:
        Session(Two(), PAIRS[form](a, b))
    assert "Two takes one and other" in str(caught.value)
    for right in ([((a, b), None)], [{"one": a, "other": b}]):
        assert Session(Two(), right).groups[0].prunable


def test_the_hint_is_for_models_of_several_inputs_alone():
    with pytest.raises(ValueError, match="does not go through") as caught:
        Session(net(), [(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))])
    assert "inputs, write" not in str(caught.value)


class Noisy(Dataset):
    """Examples changed at random, by all three generators."""

    def __len__(self):
        return EXAMPLES

    def __getitem__(self, index):
        scale = 1 + 0.1 * random.random() + 0.1 * np.random.rand() + 0.1 * float(torch.rand(()))
        return images(EXAMPLES)[index] * scale, index % 5


def states():
    return torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()


def same_states(one, other):
    return torch.equal(one[0], other[0]) and one[1:] == other[1:]


@pytest.mark.parametrize("kind", ["tensors", "shuffled", "changed"])
def test_nothing_moves_the_caller_s_random_numbers(kind):
    x, y = images(EXAMPLES), torch.arange(EXAMPLES) % 5
    data = {
        "tensors": (x, y),
        "shuffled": DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True),
        "changed": DataLoader(Noisy(), batch_size=7, shuffle=True),
    }[kind]
    model = conv_net()
    before = states()
    session = Session(model, data, data)
    work = {
        "measure": session.measure,
        "measure_gradients": session.measure_gradients,
        "evaluate": session.evaluate,
        "commit": lambda: session.commit(
            session.preview("conv1", width=4, reconstruction="original", reestimate=True)
        ),
        "random": lambda: session.preview("conv2", width=3, selection="random"),
        "finetune": lambda: session.finetune(tuning=Tuning(steps=6, batch=7, flips=True, shifts=1)),
        "distil": lambda: session.finetune(tuning=Tuning(steps=3, distill=0.5, match=0.3)),
        "refit": session.refit,
    }
    assert same_states(states(), before), "opening"
    for name, run in work.items():
        run()
        assert same_states(states(), before), name


def test_an_example_is_opened_without_a_random_number():
    Session.example("digits-cnn")  # libraries loaded now may draw as they are
    before = states()
    Session.example("digits-cnn")
    assert same_states(states(), before)


@pytest.mark.parametrize("kind", ["tensors", "changed"])
def test_a_seed_gives_the_same_tuning_whatever_the_caller_draws(kind):
    x, y = images(EXAMPLES), torch.arange(EXAMPLES) % 5
    data = (x, y) if kind == "tensors" else DataLoader(Noisy(), batch_size=7, shuffle=True)
    found = []
    for seed, tuned in ((1, 0), (2, 0), (1, 7)):
        session = Session(conv_net(), x)
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        done = session.finetune(data, Tuning(steps=6, batch=7, flips=True, seed=tuned))
        found.append(torch.cat([p.detach().flatten() for p in done.model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_own_random_numbers_go_on_where_they_were_left():
    own, before = OwnRandomness(3), states()
    with own.drawing():
        first = torch.rand(4), np.random.rand(4), random.random()
    torch.rand(5)
    with own.drawing():
        second = torch.rand(4), np.random.rand(4), random.random()
    torch.set_rng_state(before[0])
    assert same_states(states(), before)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(
        torch.cat([first[0], second[0]]), torch.cat([torch.rand(4, generator=generator) for _ in "ab"])
    )
    assert np.array_equal(np.r_[first[1], second[1]], np.random.RandomState(3).rand(8))
    python = random.Random(3)
    assert [first[2], second[2]] == [python.random(), python.random()]
    assert list(each_of([1, 2])) == [1, 2]


def test_scores_of_a_float64_array_need_no_session():
    x, y = numbers(), classes()
    model = net()
    with torch.no_grad():
        answers = model(torch.from_numpy(x).float()).argmax(1).numpy()
    assert evaluate(model, (x, y)) == pytest.approx((answers == y).mean())
