"""The census: what it says of networks that are right, wrong, refused or broken, and how a run goes on."""

import json
import subprocess
import sys

import census
import census_row
import census_table
import pytest
import torch
from census_beside import Beside
from census_networks import Network, images
from census_row import Census
from silencing import difference
from torch import nn

import workbench as wb


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def row(build=small, other=12):
    return Census(Network("own", "small", build, images, (8, other)), lambda _: None).run()


def test_a_network_that_is_right_is_well():
    found = row()
    assert census_table.verdict(found) == "well"
    assert (found["stage"], found["groups"], found["prunable"], found["alone"]) == ("done", 3, 2, 2)
    assert found["alone off"] < 1e-12
    assert found["other size off"] < 1e-12
    assert found["without effect"] == 0
    assert found["unmentioned"] == []
    assert found["export equal"]
    parameters = 3 * 8 * 9 + 8 + 16 + 8 * 12 * 9 + 12 + 12 * 5 + 5
    assert found["parameters"] == parameters
    assert found["share"] == pytest.approx(1 - 5 / parameters)  # all but the biases of the outputs
    assert found["smallest"] == pytest.approx((3 * 9 + 1 + 2 + 9 + 1 + 5 + 5) / parameters)
    assert 0 < found["passes"] <= 30


def test_units_removed_in_place_of_others_are_wrong(monkeypatch):
    def other_units(model, groups, name, kept):
        width = next(group.width for group in groups if group.name == name)
        return remove(model, groups, name, sorted((unit + 1) % width for unit in kept))

    remove = census_row.remove_units
    monkeypatch.setattr(census_row, "remove_units", other_units)
    found = row()
    assert census_table.verdict(found) == "wrong"
    assert "alone" in census_table.words(found)


def test_a_wrong_size_of_the_input_alone_is_wrong():
    class Sized(nn.Module):
        """Computes something else of larger images where it has lost units."""

        def __init__(self):
            super().__init__()
            self.net = small()

        def forward(self, x):
            lost = 12 - self.net[3].out_channels
            return self.net(x) * (1 + lost * (x.shape[-1] > 12))

    found = row(Sized, other=16)  # the session itself looks at 12
    assert (found["alone off"] < 1e-12, found["other size off"] > 0.1) == (True, True)
    assert census_table.verdict(found) == "wrong"


def test_what_is_not_a_number_differs_from_everything():
    one, two = torch.tensor([1.0]), torch.tensor([float("nan")])
    assert difference([one, two], [one, one]) == difference([one], [two]) == float("inf")
    infinite = torch.tensor([1.0, float("inf")])
    assert difference([infinite], [infinite]) == 0


def test_errors_that_are_raised_on_purpose_are_told_from_others(monkeypatch):
    with pytest.raises(TypeError) as refused:
        wb.Session("no network", [torch.zeros(1)])
    assert not census_row.is_raw(refused.value)
    with pytest.raises(RuntimeError) as broken:
        nn.Linear(3, 4)(torch.zeros(5))
    assert census_row.is_raw(broken.value)
    monkeypatch.setattr(census_row.wb, "Session", lambda *_: nn.Linear(3, 4)(torch.zeros(5)))
    found = row()
    assert (census_table.verdict(found), found["stage"]) == ("raw error", "open")
    assert "linear.py" in census_table.words(found)


def test_torch_pruning_is_right_of_a_small_network_and_the_network_is_as_before():
    pytest.importorskip("torch_pruning")
    beside = Beside(Network("own", "small", small, images, (8, 12)), lambda _: None)
    before = {name: tensor.clone() for name, tensor in beside.model.state_dict().items()}
    found = beside.run()
    assert (found["right"], found["differs"], found["breaks"], found["output"]) == (2, 0, 0, 1)
    ours = row()
    assert ours["stage"] == "done", census_table.words(ours)
    assert found["share"] == pytest.approx(ours["share"])
    after = beside.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_census_of_twenty_networks_finds_nothing_wrong(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("torch_pruning")
    command = [sys.executable, census.__file__, "--quick", "--rows", str(tmp_path)]
    subprocess.run(command, capture_output=True, text=True, timeout=400, check=True)
    rows = [json.loads(path.read_text("utf-8")) for path in tmp_path.iterdir()]
    found = {row["name"]: census_table.verdict(row) for row in rows}
    assert set(found) == set(census.QUICK)
    assert set(found.values()) <= {"well", "few groups", "none"}, found
    assert list(found.values()).count("well") >= 17
    assert all(row["alone"] == min(row["prunable"], 40) for row in rows if row["prunable"])
    assert any(row["beside"]["right"] for row in rows)


def test_a_census_goes_on_where_it_was_broken_off(tmp_path, monkeypatch):
    asked = []

    def measured(kind, network, path, limit):
        asked.append(network.name)
        if network.name == "c" and len(asked) == 3:
            raise KeyboardInterrupt
        return {"stage": "done", "open seconds": 1.0, "forward seconds": 1.0, "prunable": 1, "share": 0.9}

    monkeypatch.setattr(census, "apart", measured)
    monkeypatch.setattr(census, "installed", lambda module: False)
    wanted = [census.Network("torch", name, torch.nn.Module, lambda *_: (), (1, 2)) for name in "abcd"]
    with pytest.raises(KeyboardInterrupt):
        census.census(wanted, tmp_path, limit=1.0)
    rows = census.census(wanted, tmp_path, limit=1.0, again=["a"])
    assert asked == ["a", "b", "c", "a", "c", "d"]
    assert [(row["name"], census_table.verdict(row)) for row in rows] == [(n, "well") for n in "abcd"]
