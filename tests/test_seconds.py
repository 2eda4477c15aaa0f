"""A target in seconds: measured in turn with the original, so that a busy machine does not decide.

Time is simulated: every Linear layer moves a clock on by its work, times what the machine's other work makes
of it. So nothing here depends on the machine that runs it, but for the last test.
"""

import random
import re
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Event

import pytest
import torch
from networks import mlp
from torch import nn

from workbench.data.progress import Cancelled
from workbench.network import latency
from workbench.network.latency import measure_latency, median_interval, time_by_module, time_pair
from workbench.pruning.timed import STEPS
from workbench.session.session import Session

FIXED = 2e-4  # seconds a pass, outside of all layers
EACH = 1e-6  # seconds a multiply–add


@dataclass
class Machine:
    """A clock that work moves on: `noise` is the spread of each layer's time, `busy(now)` slows all of it."""

    noise: float = 0.0
    busy: object = lambda now: 1.0
    now: float = 0.0
    passes: int = 0
    calls: dict = field(default_factory=dict)
    drawn: random.Random = field(default_factory=lambda: random.Random(7))

    def __call__(self):
        return self.now

    def work(self, seconds):
        self.now += seconds * self.busy(self.now) * (1 + self.noise * abs(self.drawn.gauss(0, 1)))

    def after(self, module, _inputs, _output):
        if isinstance(module, nn.Linear):
            self.work(EACH * module.in_features * module.out_features)
        if isinstance(module, nn.Sequential):
            self.passes += 1
            self.work(FIXED)


@pytest.fixture
def machine(monkeypatch):
    made = Machine()
    monkeypatch.setattr(latency, "perf_counter", made)
    handle = nn.modules.module.register_module_forward_hook(made.after)
    yield made
    handle.remove()


def session_of(*widths):
    session = Session(mlp(*widths), torch.randn(64, widths[0], generator=torch.Generator().manual_seed(0)))
    session.measure()
    return session


def seconds_of(session, widths):
    """By hand: multiply–adds of the chain of layers at these widths, and what a pass takes beside."""
    layers = [m for m in session.model.modules() if isinstance(m, nn.Linear)]
    sizes = [layers[0].in_features, *widths.values(), layers[-1].out_features]
    return FIXED + EACH * sum(a * b for a, b in pairwise(sizes))


class TestAQuietMachine:
    @pytest.mark.parametrize("rule", ["equal", "shared", "least"])
    @pytest.mark.parametrize("share", [0.9, 0.8, 0.5, 0.3])
    def test_the_target_is_met_and_not_undershot(self, machine, rule, share):
        session = session_of(23, 41, 37, 29, 5)
        whole = seconds_of(session, {g.name: g.width for g in session.groups if g.prunable})
        plan = session.plan(share * whole, "seconds", rule)
        assert plan.met
        assert not plan.doubtful
        assert plan.seconds == plan.cost == pytest.approx(seconds_of(session, plan.widths))
        assert 0.93 * share * whole <= plan.seconds <= share * whole
        assert plan.interval == pytest.approx((plan.seconds, plan.seconds))

    def test_few_networks_are_measured(self, machine):
        session, said = session_of(23, 41, 37, 29, 5), []
        whole = measure_latency(session.model, session.example_input)
        session.plan(0.6 * whole, "seconds", "least", progress=lambda *one: said.append(one))
        said = [one for one in said if one[2] == "measuring latency"]
        assert [total for _, total, _ in said] == [STEPS] * len(said)
        assert [done for done, _, _ in said] == list(range(len(said)))
        assert len(said) < STEPS
        # 9 rounds of 5 passes of two networks, and two each to warm up, for every network and the answer
        # again; 20 to measure the latency twice, 7 to time the modules.
        assert machine.passes <= 2 * 22 + 9 + (len(said) + 1) * 2 * (9 * 5 + 2)

    def test_a_target_above_the_whole_keeps_everything(self, machine):
        session = session_of(23, 41, 37, 5)
        plan = session.plan(1.0, "seconds")
        assert plan.met
        assert not plan.doubtful
        assert plan.widths == {g.name: g.width for g in session.groups if g.prunable}

    def test_a_target_out_of_reach_is_told_with_the_fastest(self, machine):
        session = session_of(23, 41, 37, 5)
        plan = session.plan(1e-4, "seconds", "equal", minimum=3)
        assert not plan.met
        assert plan.doubtful
        assert set(plan.widths.values()) == {3}
        assert plan.seconds == pytest.approx(seconds_of(session, plan.widths))
        assert plan.message.startswith("0.1 ms cannot be met: the fastest network found takes 0.293 ms")

    def test_a_gap_between_the_widths_is_told(self, machine):
        session = session_of(23, 40, 40, 5)
        whole = seconds_of(session, {"a": 40, "b": 40})
        plan = session.plan(0.8 * whole, "seconds", "equal", multiple=32)  # 32 or 40 units
        assert plan.met
        assert set(plan.widths.values()) <= {32, 40}
        far = session.plan(0.95 * whole, "seconds", "equal", multiple=20)  # 20 or 40 units
        assert far.met
        assert far.doubtful == (far.seconds < 0.9 * far.target)

    def test_locks_hold(self, machine):
        session = session_of(23, 41, 37, 5)
        name = next(g.name for g in session.groups if g.prunable)
        whole = seconds_of(session, {"a": 41, "b": 37})
        plan = session.plan(0.7 * whole, "seconds", "least", locks={name: 41})
        assert plan.met
        assert plan.widths[name] == 41

    def test_seconds_are_of_the_present_network_beside_the_original(self, machine):
        session = session_of(23, 41, 37, 5)
        whole = seconds_of(session, {"a": 41, "b": 37})
        session.commit_plan(session.plan(0.7 * whole, "seconds"))
        plan = session.plan(0.4 * whole, "seconds")
        assert plan.met
        assert 0.36 * whole <= plan.seconds <= 0.4 * whole
        said = re.search(r"the original takes ([\d.]+) ms", plan.message)[1]
        assert float(said) == pytest.approx(1000 * whole, rel=0.005)


class TestABusyMachine:
    def bursts(self, now):
        """Four times as slow for 50 of every 90 milliseconds, which no pass and no round divides."""
        return 4.0 if now % 0.09 < 0.05 else 1.0

    @pytest.mark.parametrize("rule", ["equal", "least"])
    @pytest.mark.parametrize("seed", range(6))
    def test_80_percent_is_no_width_of_1(self, machine, rule, seed):
        session = session_of(23, 41, 37, 29, 5)
        quiet = seconds_of(session, {g.name: g.width for g in session.groups if g.prunable})
        machine.noise, machine.busy, machine.drawn = 0.05, self.bursts, random.Random(seed)
        now = measure_latency(session.model, session.example_input)
        plan = session.plan(0.8 * now, "seconds", rule, reference=now)
        assert 0.65 * quiet <= seconds_of(session, plan.widths) <= 0.84 * quiet
        assert plan.met == (plan.interval[1] <= 0.8 * now)

    def test_an_hour_of_load_between_two_passes_does_not_count(self, machine):
        session = session_of(23, 41, 37, 29, 5)
        quiet = seconds_of(session, {g.name: g.width for g in session.groups if g.prunable})
        machine.busy = lambda now: 30.0 if 0.02 < now < 2.0 else 1.0
        plan = session.plan(0.8 * quiet, "seconds", reference=quiet)
        assert plan.met
        assert 0.7 * quiet <= seconds_of(session, plan.widths) <= 0.8 * quiet

    def test_a_load_that_stays_does_not_change_what_a_share_means(self, machine):
        session = session_of(23, 41, 37, 29, 5)
        before = measure_latency(session.model, session.example_input)
        machine.busy = lambda now: 5.0
        plan = session.plan(0.8 * before, "seconds", reference=before)
        assert plan.met
        assert 0.7 * before <= seconds_of(session, plan.widths) <= 0.8 * before
        assert f"(here {5000 * before:.3g} to {5000 * before:.3g} ms)" in plan.message.replace(
            " ms to", " to"
        )

    def test_met_is_said_where_the_interval_says_so(self, machine):
        session = session_of(23, 41, 37, 29, 5)
        whole = seconds_of(session, {g.name: g.width for g in session.groups if g.prunable})
        for noise in (0.0, 0.1, 0.6, 2.0):
            machine.noise = noise
            plan = session.plan(0.8 * whole, "seconds", reference=whole)
            low, high = plan.interval
            assert low <= plan.seconds <= high
            assert plan.met == (high <= plan.target)
            assert plan.message.startswith("uncertain") == (low <= plan.target < high)
            assert plan.doubtful or plan.met

    def test_the_message_tells_original_target_and_spread(self, machine):
        session = session_of(23, 41, 37, 5)
        machine.noise = 0.1
        whole = measure_latency(session.model, session.example_input)
        plan = session.plan(0.7 * whole, "seconds", reference=whole)
        low, high = plan.interval
        assert f"{1000 * plan.seconds:.3g} ms ({1000 * low:.3g} ms to {1000 * high:.3g} ms)" in plan.message
        assert f"the target is {700 * whole:.3g} ms" in plan.message
        assert f"the original takes {1000 * whole:.3g} ms" in plan.message


class TestTimes:
    def test_a_layer_called_twice_counts_twice(self, machine):
        shared = nn.Linear(11, 11)
        times = time_by_module(nn.Sequential(shared, nn.Linear(11, 11), shared), torch.randn(3, 11))
        assert times == pytest.approx({"0": 2 * 121 * EACH, "1": 121 * EACH, "": 3 * 121 * EACH + FIXED})

    def test_modules_add_up_to_the_whole_at_most(self, machine):
        inner = nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 5))
        model = nn.Sequential(nn.Linear(7, 5), inner, nn.Linear(5, 3))
        machine.noise = 0.3
        times = time_by_module(model, torch.randn(2, 7))
        whole = times.pop("")
        assert 0 < sum(times.values()) <= whole
        assert times["1"] < 2 * FIXED  # its own, without its children's

    def test_the_watching_leaves_nothing_behind(self, machine):
        model = mlp(5, 7, 3).train()
        time_by_module(model, torch.randn(2, 5))
        assert all(m.training and not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())

    def test_both_networks_run_in_every_round_and_take_turns(self, machine):
        order = []
        first, second = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 2))
        first.register_forward_pre_hook(lambda *_: order.append("a"))
        second.register_forward_pre_hook(lambda *_: order.append("b"))
        times = time_pair(first, second, torch.randn(2, 4))
        assert len(times.first) == len(times.second) == 9
        assert "".join(order) == "abab" + ("abba" * 23)[: 9 * 5 * 2]

    def test_a_pass_that_is_interrupted_does_not_count(self, machine):
        model, inputs = mlp(5, 7, 3), torch.randn(2, 5)
        quiet = measure_latency(model, inputs)
        passes = iter(range(10**6))
        machine.busy = lambda now: 50.0 if next(passes) % 7 in (0, 3) else 1.0  # nearly every pass has some
        interrupted = [latency._pass(model, inputs, lambda: None) for _ in range(20)]
        assert sorted(interrupted)[10] > 2 * quiet
        assert measure_latency(model, inputs) == pytest.approx(quiet)

    def test_long_passes_are_not_repeated_for_the_fastest(self, machine):
        machine.busy = lambda now: 1000.0
        model = mlp(5, 7, 3)
        time_pair(model, mlp(5, 3, 3), torch.randn(2, 5))
        assert machine.passes == 2 * (2 + 9)

    def test_rounds_go_on_while_the_interval_is_wide_and_end(self, machine):
        machine.noise = 1.0
        times = time_pair(mlp(5, 7, 3), mlp(5, 3, 3), torch.randn(2, 5))
        assert len(times.first) == 31

    def test_the_interval_holds_the_median_95_times_in_100(self):
        drawn, inside = random.Random(3), 0
        for _ in range(2000):
            low, high = median_interval([drawn.expovariate(1) for _ in range(21)])
            inside += low <= 0.6931471805599453 <= high
        assert 0.95 <= inside / 2000 <= 0.985

    @pytest.mark.parametrize("kind", ["cuda", "mps"])
    def test_the_device_is_waited_for(self, kind, monkeypatch):
        waited = []
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: waited.append("cuda"))
        monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
        tensor = type("T", (), {"device": torch.device(kind)})()
        model = type("M", (), {"parameters": lambda _: [tensor], "buffers": lambda _: []})()
        latency._device_wait(model, torch.zeros(1))()
        assert waited == [kind]


def test_a_search_is_cancelled_between_two_rounds(machine):
    session, cancel = session_of(23, 41, 37, 5), Event()

    def progress(done, _total, _what):
        if done == 2:
            cancel.set()

    before = session.model.state_dict()
    with pytest.raises(Cancelled, match="latency"):
        session.plan(1e-3, "seconds", progress=progress, cancel=cancel)
    assert all(torch.equal(before[key], value) for key, value in session.model.state_dict().items())


@pytest.mark.parametrize("reference", [0, -1.0, float("nan")])
def test_a_reference_that_is_no_time_is_told(reference):
    with pytest.raises(ValueError, match="original's seconds"):
        session_of(5, 7, 3).plan(1e-3, "seconds", reference=reference)


def test_on_this_machine_less_time_asked_is_a_smaller_network():
    session = session_of(256, 512, 512, 256, 8)
    now = measure_latency(session.model, session.example_input)
    plans = [session.plan(share * now, "seconds", "equal", reference=now) for share in (0.75, 0.3)]
    assert plans[0].macs > plans[1].macs
    assert plans[1].macs > session.macs / 50
    for plan in plans:
        assert plan.interval[0] <= plan.seconds <= plan.interval[1]
        assert plan.met == (plan.interval[1] <= plan.target)
