"""Steps of the history share what did not change, and none of them is ever written into."""

import gc
import random
import threading
from types import FunctionType, ModuleType

import pytest
import torch
from family_images import CifarResNet
from labelled import HALF, TARGETS, same, session_of, weights
from networks import conv_net, images, mlp
from torch import nn

from workbench.session.session import Session
from workbench.tuning.settings import Tuning


def storages(thing) -> dict[int, int]:
    """Bytes of every tensor's memory that can be reached from `thing`, by its address."""
    found, seen, waiting = {}, set(), [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType):
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            found[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        waiting += gc.get_referents(one)
    return found


def size(model) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def resnet():
    torch.manual_seed(0)
    return CifarResNet(56).eval(), torch.randn(2, 3, 16, 16)


def chain():
    torch.manual_seed(0)
    return mlp(37, *[67] * 9, 5), torch.randn(80, 37)


@pytest.mark.parametrize(
    ("make", "share", "options"),
    [
        (resnet, 0.5, {}),
        (resnet, 0.95, {}),
        (chain, 0.95, {}),
        (chain, 0.95, {"reconstruction": "none", "selection": "magnitude-l1"}),
        (chain, 0.95, {"reconstruction": "original"}),
    ],
)
def test_a_plan_takes_less_than_one_and_a_half_networks_beside_the_original(make, share, options):
    model, inputs = make()
    session = Session(model, inputs)
    session.measure()
    before = storages(session._history)
    plan = {g.name: max(1, round(share * g.width)) for g in session.groups if g.prunable}
    session.commit_plan(plan, **options)
    assert len(session.history) == 1 + len(plan) > 8
    after = storages(session._history)
    new = sum(count for place, count in after.items() if place not in before)
    assert new < 1.5 * size(model)


WALKS = [
    {"reconstruction": "channel"},
    {"reconstruction": "none"},
    {"reconstruction": "kernel"},
    {"reconstruction": "original"},
    {"reconstruction": "channel", "reestimate": True},
]


@pytest.mark.parametrize("procedure", ["simultaneous", "sequential"])
@pytest.mark.parametrize("options", WALKS)
def test_every_step_is_the_same_to_the_bit_whichever_way_one_comes_to_it(options, procedure):
    session = session_of(procedure=procedure)
    seen = [weights(session)]
    for name, width in (*HALF.items(), ("conv2", 3), ("conv1", 1)):
        session.commit(session.preview(name, width=width, **options))
        seen.append(weights(session))
    session.refit()
    seen.append(weights(session))
    session.finetune(tuning=Tuning(steps=2))
    seen.append(weights(session))
    session.commit(session.preview("fc1", width=2, **options))
    seen.append(weights(session))
    rng = random.Random(3)
    for _ in range(30):
        place = rng.randrange(len(seen))
        session.goto(place)
        assert same(weights(session), seen[place]), place
        sizes = {g.name: g.width for g in session.groups}
        assert sizes["conv2"] == len(session.model.bn2.weight)
    session.goto(4)
    session.fork("other")
    session.commit(session.preview("fc1", width=3, **options))
    for name, count in (("main", 9), ("other", 5)):
        session.switch(name)
        for place in range(count):
            session.goto(place)
            assert same(weights(session), seen[place]), (name, place)


@torch.no_grad()
def test_what_one_writes_into_the_present_network_belongs_to_its_step_alone(tmp_path):
    session = session_of()
    original = weights(session)
    seen = [original]
    for name, width in HALF.items():
        session.commit(session.preview(name, width=width))
        seen.append(weights(session))
    session.goto(2)
    mine = session.model
    mine.fc2.weight.data.add_(1)
    mine.bn1.running_mean.add_(1)
    changed = {key: value.clone() for key, value in mine.state_dict().items()}
    score = session.evaluate()
    for place in (0, 1, 3):
        session.goto(place)
        assert same(weights(session), seen[place])
    assert same({key: value.clone() for key, value in session.original.state_dict().items()}, original)
    session.goto(2)
    assert same(weights(session), changed)
    assert session.evaluate() == score
    mine.fc2.weight.zero_()  # held since before: no longer the session's
    assert same(weights(session), changed)
    session.export(tmp_path)
    from safetensors.torch import load_file

    assert torch.equal(load_file(tmp_path / "model.safetensors")["fc2.weight"], changed["fc2.weight"])
    session.commit(session.preview("fc1", width=3))
    assert torch.equal(session.model.bn1.running_mean, changed["bn1.running_mean"])


@torch.no_grad()
def test_the_original_stays_as_it_was_given_whatever_is_written_into_what_it_hands_out():
    session = session_of()
    before = weights(session)
    session.model.fc2.weight.add_(1)
    session.original.fc1.weight.add_(1)
    session.commit(session.preview("conv1", width=3))
    session.undo()
    assert torch.equal(session.model.fc2.weight, before["fc2.weight"])
    assert same(session.original.state_dict(), before)


class Counting(nn.Module):
    """Counts its passes in a buffer, also in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 11), nn.Linear(11, 3)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return self.second(torch.relu(self.first(x)))


def test_a_pass_that_writes_into_a_buffer_writes_into_no_step():
    torch.manual_seed(0)
    x = torch.randn(30, 5)
    session = Session(Counting(), x, [(x, torch.arange(30) % 3)])
    session.measure()
    start = float(session._history.original.model.passes)
    session.commit(session.preview("first", width=6, reconstruction="original"))
    present = float(session._history.present.model.passes)
    session.try_choice(session.preview("first", width=3, reconstruction="kernel"))
    session.evaluate()
    session.sensitivity((0.5,))
    session.plan(40)
    assert float(session._history.present.model.passes) == present
    assert float(session._history.original.model.passes) == start
    session.undo()
    session.redo()
    assert float(session._history.present.model.passes) == present


def test_a_tied_weight_stays_tied_through_the_history():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 11), nn.Linear(11, 7)
            self.d, self.e = nn.Linear(7, 11), nn.Linear(11, 3)
            self.d.weight = self.b.weight

        def forward(self, x):
            x = torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))))
            return self.e(torch.relu(self.d(x)))

    torch.manual_seed(0)
    session = Session(Twice(), torch.randn(40, 5))
    session.measure()
    names = [g.name for g in session.groups if g.prunable]
    for name in names:
        session.commit(session.preview(name, width=max(1, session.group(name).width // 2)))
    for place in range(len(names) + 1):
        session.goto(place)
        assert session.model.b.weight is session.model.d.weight


def test_fine_tuning_and_norms_write_into_networks_of_their_own():
    session = session_of()
    session.commit_plan(HALF)
    before = weights(session)
    session.finetune(tuning=Tuning(steps=3, rate=1e-2))
    session.commit(session.preview("fc1", width=4, reestimate=True))
    session.goto(3)
    assert same(weights(session), before)
    session.reset()
    x = images(64)
    assert same(weights(session), weights(Session(conv_net(), [(x, TARGETS)])))


def test_a_score_function_may_write_into_the_network_that_it_gets():
    @torch.no_grad()
    def noisy(model):
        for parameter in model.parameters():
            parameter.add_(1)
        return float(model(images(8)).mean())

    session = Session(conv_net(), [(images(64), TARGETS)], noisy)
    original = weights(session)
    session.measure()
    session.commit_plan(HALF)
    before = weights(session)
    session.evaluate()
    session.try_choice(session.preview("fc1", width=3))
    session.compare({"fc1": 3}, ["greedy"], ["none"])
    assert same(weights(session), before)
    session.undo()
    assert same(weights(session), original)


def test_a_network_that_cannot_be_copied_is_scored_as_it_is():
    session = session_of()
    mine = conv_net()
    mine.lock = threading.Lock()
    assert session.evaluate(mine) == session.evaluate()


class Halves(nn.Module):
    """A layer whose outputs go two ways by halves: its units go in pairs."""

    def __init__(self):
        super().__init__()
        self.wide, self.left = nn.Conv2d(2, 14, 1), nn.Conv2d(7, 11, 3, padding=1)
        self.join, self.head = nn.Conv2d(18, 13, 1), nn.Conv2d(13, 3, 1)

    def forward(self, x):
        a, b = torch.relu(self.wide(x)).chunk(2, 1)
        x = torch.relu(self.join(torch.cat([a, torch.relu(self.left(b))], 1)))
        return self.head(x).mean((2, 3))


def test_linked_groups_come_back_to_the_bit_too(tmp_path):
    torch.manual_seed(0)
    model, x = Halves().eval(), images(32)
    session = Session(model, x)
    session.measure()
    seen = [weights(session)]
    for name in [group.name for group in session.groups if group.prunable]:
        session.commit(session.preview(name, width=session.group(name).width // 2))
        seen.append(weights(session))
    assert len(seen[-1]["wide.weight"]) < 14
    session.save(tmp_path)
    for one in (session, Session.open(tmp_path, model, x)):
        for place in (1, 0, 3, 2):
            one.goto(place)
            assert same(weights(one), seen[place])


def test_what_is_measured_of_the_original_is_known_on_every_branch():
    measured = session_of()
    session = Session(measured.original, measured.calibration)
    session.fork("other")
    session.switch("main")
    session.measure()
    for name in ("other", "main"):
        session.switch(name)
        assert session.measured, name


def test_what_one_freezes_in_the_present_network_stays_as_it_is_in_fine_tuning():
    session = Session(conv_net(), [(images(64), TARGETS)])  # unscored: the last network is the one kept
    session.measure()
    session.commit(session.preview("conv1", width=4))
    for parameter in session.model.fc1.parameters():
        parameter.requires_grad_(False)
    before = weights(session)
    session.finetune(tuning=Tuning(steps=3, rate=0.1))
    after = weights(session)
    assert torch.equal(after["fc1.weight"], before["fc1.weight"])
    assert not torch.equal(after["fc2.weight"], before["fc2.weight"])
    session.undo()
    assert not session.model.fc1.weight.requires_grad
    assert session.model.fc2.weight.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0])
def test_any_number_that_one_writes_into_the_present_network_is_kept(value):
    session = session_of()
    session.commit(session.preview("conv1", width=4))
    session.model.fc2.bias.fill_(torch.finfo(torch.float32).max if value == float("inf") else 0.0)
    session.commit(session.preview("conv2", width=4))
    session.undo()
    session.model.fc2.bias.fill_(value)
    session.undo()
    session.redo()
    bits = torch.full((5,), value).view(torch.int32)
    assert torch.equal(session.model.fc2.bias.view(torch.int32), bits)


@torch.no_grad()
def test_the_original_is_scored_as_it_was_given():
    session = session_of()
    session.model.fc2.bias.copy_(torch.tensor([1e6, 0.0, 0.0, 0.0, 0.0]))
    assert session.evaluate() == session.history[0].score
    assert session.evaluate(session.model) != session.history[0].score


class OneScale(nn.Module):
    """A buffer that two modules hold."""

    def __init__(self):
        super().__init__()
        self.net = mlp(6, 9, 7, 5)
        scale = torch.ones(5)
        self.register_buffer("scale", scale)
        self.register_buffer("again", scale)

    def forward(self, x):
        return self.net(x) * self.scale + self.again


@torch.no_grad()
def test_a_buffer_under_two_names_stays_one(tmp_path):
    torch.manual_seed(0)
    model, x = OneScale().eval(), torch.randn(40, 6)
    session = Session(model, x)
    session.measure()
    names = [group.name for group in session.groups if group.prunable]
    session.commit(session.preview(names[0], width=4))
    session.model.scale.fill_(2)
    session.commit(session.preview(names[1], width=4))
    session.save(tmp_path)
    for one in (session, Session.open(tmp_path, model, x)):
        one.undo()
        assert one.model.scale is one.model.again
        assert torch.equal(one.model.again, torch.full((5,), 2.0))
