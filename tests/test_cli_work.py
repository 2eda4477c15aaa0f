"""`workbench measure` and `workbench replay`: what they print, save and refuse."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import Terminal

from workbench.cli import _parser, main
from workbench.data.loading import load_data
from workbench.data.models import load_model
from workbench.session.session import Session
from workbench.session.tables import summary
from workbench.tuning.settings import Tuning


def step(label, score, parameters, macs):
    return SimpleNamespace(label=label, score=score, parameters=parameters, macs=macs)


def test_summary_lines_up():
    history = (step("original", 0.98765, 61_706, 416_520), step("conv1: 6 → 4", None, 40_000, 99_999))
    session = SimpleNamespace(history=history, position=1, metric="accuracy")
    assert summary(session).splitlines() == [
        "step          parameters     MACs      accuracy",
        "original          61,706  416,520        0.9877",
        "conv1: 6 → 4      40,000   99,999  not measured",
        "",
        "parameters   61,706  →        40,000",
        "MACs        416,520  →        99,999",
        "accuracy     0.9877  →  not measured",
    ]


def test_summary_leaves_out_what_was_undone():
    history = (step("original", 0.5, 10, 20), step("undone", 0.4, 5, 10))
    session = SimpleNamespace(history=history, position=0, metric="accuracy")
    assert "undone" not in summary(session)


def test_replay_without_a_recipe_is_told_in_a_line(tmp_path, capsys):
    assert main(["replay", str(tmp_path / "recipe.json")]) == 2
    assert capsys.readouterr().err.startswith(f"workbench: no file {tmp_path}/recipe.json")


@pytest.mark.parametrize("text", ["not json", "[]", '{"steps": []}'])
def test_replay_of_a_damaged_recipe_is_told_in_a_line(text, tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(text)
    assert main(["replay", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("workbench: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["mynet", "no_such_module_here:make", "json:no_such_function", ":make"])
def test_own_things_that_are_not_there_are_told(name, tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.touch()
    assert main(["replay", str(recipe), "--model", name]) == 2
    assert capsys.readouterr().err.startswith(f"workbench: --model {name}: ")


def test_replay_refuses_a_model_that_is_none(tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.touch()
    assert main(["replay", str(recipe), "--model", "json:JSONDecoder"]) == 2
    assert "made a JSONDecoder, not a torch module" in capsys.readouterr().err


def test_replay_prunes_an_example_again(tmp_path, capsys):
    session = Session.example("digits-cnn")
    session.measure()
    group = next(group for group in session.groups if group.prunable)
    session.commit(session.preview(group.name, width=max(1, group.width // 2)))
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(session.recipe))
    assert main(["replay", str(recipe), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert f"{session.parameters:,}" in printed
    assert f"{session.macs:,}" in printed
    assert any((tmp_path / "out").iterdir())


OWN = """
import torch

class Net(torch.nn.Sequential):
    def __init__(self, width=17):
        super().__init__(torch.nn.Linear(5, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))

def score(model):
    return 0.25
"""


@pytest.fixture
def own(tmp_path):
    """A model in a file, its weights, and data with targets."""
    path = tmp_path / "my_cli_net.py"
    path.write_text(OWN)
    model = load_model(f"{path}:Net", options={"width": 13})
    torch.save({"state_dict": model.state_dict()}, tmp_path / "net.pt")
    x = torch.randn(29, 5, generator=torch.Generator().manual_seed(0))
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=model(x).argmax(1).numpy())
    named = ["--model", f"{path}:Net", "--options", '{"width": 13}', "--checkpoint", str(tmp_path / "net.pt")]
    return model, [*named, "--calibration", str(tmp_path / "data.npz")]


def test_measure_prints_a_table_and_saves_what_a_notebook_opens(own, tmp_path, capsys):
    model, named = own
    data, out = str(tmp_path / "data.npz"), tmp_path / "out"
    options = ["--evaluation", data, "--limit", "23", "--procedure", "sequential"]
    assert main(["measure", *named, *options, "--output", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["group", "units", "N(0.001·trace)", "kind", "prunable"]
    assert re.fullmatch(r"0 +13 +\d+\.\d +Linear +yes", lines[1])
    assert re.fullmatch(r"2 +3 +– +Linear +its units are the network's outputs.*", lines[2])
    assert lines[4] == "accuracy 1.0000"
    assert lines[6].startswith(
        "proved with inputs of (2, 5) float32 alone: keep that size, the network took no"
    )
    session = Session.open(out, model, load_data(data))
    assert session.procedure == "sequential"
    assert session.moment("0").count == 23
    freedom = session.spectrum("0").degrees_of_freedom(1e-3 * session.spectrum("0").trace)
    assert lines[1].split()[2] == f"{freedom:.1f}"


NORMED = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = torch.nn.Linear(5, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.norm(self.a(x)))
"""


def test_measure_says_what_is_in_no_group_and_why(own, tmp_path, capsys):
    (tmp_path / "my_normed_net.py").write_text(NORMED)
    out = tmp_path / "out"
    data = ["--calibration", own[1][-1]]
    named = ["--model", f"{tmp_path / 'my_normed_net.py'}:Net", *data]
    assert main(["measure", *named, "--output", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("2 tensors in no group: 18 % of the parameters")  # 16 of 48 + 16 + 27
    assert lines[at - 1] == lines[at + 3] == ""
    for key, line in zip(("weight", "bias"), lines[at + 1 : at + 3], strict=True):
        assert re.fullmatch(
            rf"norm\.{key} +8  it goes with the features that norm \(LayerNorm\) mixes.*", line
        )
    assert main(["measure", *own[1], "--output", str(out)]) == 0
    assert "in no group" not in capsys.readouterr().out


def test_measure_and_replay_tell_how_far_they_are(own, tmp_path, capsys, monkeypatch):
    model, named = own
    data = str(tmp_path / "data.npz")
    assert main(["measure", *named, "--evaluation", data, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "opening, 2 groups found (11 of 11)",
        "measuring moments, 29 examples (1 of 1)",
        "scoring, 29 examples (1 of 1)",
    ]
    assert printed.out.startswith("group ")
    session = Session(model, load_data(data), training=load_data(data))
    session.measure()
    session.commit(session.preview("0", width=7))
    session.finetune(tuning=Tuning(steps=3))
    session.save(tmp_path / "saved")
    monkeypatch.setattr(sys, "stderr", Terminal())
    recipe = str(tmp_path / "saved" / "recipe.json")
    assert main(["replay", recipe, *named, "--training", data]) == 0
    assert "measuring moments, 29 examples: 100%|" in sys.stderr.getvalue()
    assert "fine-tuning, loss " in sys.stderr.getvalue()
    assert "\r" not in capsys.readouterr().out


def test_measure_takes_a_score_of_ones_own(own, tmp_path, capsys):
    score = f"{tmp_path}/my_cli_net.py:score"
    assert main(["measure", *own[1], "--evaluation", score, "--output", str(tmp_path / "out")]) == 0
    assert "score 0.2500" in capsys.readouterr().out


def test_what_measure_saved_is_replayed(own, tmp_path, capsys):
    model, named = own
    session = Session(model, load_data(tmp_path / "data.npz"))
    session.measure()
    session.commit(session.preview("0", width=7))
    session.save(tmp_path / "saved")
    assert main(["replay", str(tmp_path / "saved" / "recipe.json"), *named]) == 0
    assert f"{session.parameters:,}" in capsys.readouterr().out


def test_measure_of_an_example_on_other_data_is_not_opened_on_the_example_s(tmp_path, capsys):
    mine, out = str(tmp_path / "mine.npy"), str(tmp_path / "out")
    np.save(mine, np.random.default_rng(3).random((23, 1, 8, 8), dtype="f4"))
    assert main(["measure", "--example", "digits-cnn", "--calibration", mine, "--output", out]) == 0
    assert capsys.readouterr().out.strip().endswith('out", calibration=…)')
    with pytest.raises(ValueError, match=r"measured on .*mine\.npy, not on the example's own scikit"):
        Session.open(out)
    opened = Session.open(out, calibration=torch.rand(23, 1, 8, 8))
    assert (opened.example_name, opened.data_name) == ("digits-cnn", mine)
    recipe = str(tmp_path / "out" / "recipe.json")
    assert main(["replay", recipe]) == 2
    assert "give the calibration data" in capsys.readouterr().err
    assert main(["replay", recipe, "--calibration", mine, "--output", str(tmp_path / "again")]) == 0
    with pytest.raises(ValueError, match="give the calibration data"):
        Session.open(tmp_path / "again")


def test_measure_of_an_example_opens_without_anything_else(tmp_path, capsys):
    assert main(["measure", "--example", "digits-mlp", "--output", str(tmp_path / "out")]) == 0
    opened = Session.open(tmp_path / "out")
    assert (opened.example_name, opened.data_name) == ("digits-mlp", "scikit-learn digits")
    assert "accuracy 0.98" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --model and --calibration, or --example"),
        (
            ["--example", "digits-cnn", "--checkpoint", "x.pt"],
            "--checkpoint, --weights and --options need --model",
        ),
        (["--model", "nowhere.py:Net", "--calibration", "x.npy"], "--model nowhere.py:Net: cannot import"),
        (["--model", "json:JSONDecoder", "--calibration", "x.npy"], "made a JSONDecoder, not a torch module"),
        (["--model", "torch.nn:Identity", "--calibration", "x.npy"], "--calibration x.npy: there is no file"),
        (
            ["--model", "torch.nn:Identity", "--checkpoint", "x.pt", "--calibration", "x"],
            "there is no file x.pt",
        ),
    ],
)
def test_what_measure_cannot_do_is_told_in_a_line(tmp_path, capsys, arguments, message):
    assert main(["measure", *arguments, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("workbench: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file_is_told_first(tmp_path, capsys):
    (tmp_path / "out").touch()
    assert main(["measure", "--example", "nothing", "--output", str(tmp_path / "out")]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--size", "13by17", "expected 224, or height x width"),
        ("--mean", "0.5;0.5", "expected 0.5, or a number a channel"),
        ("--options", "[13]", "expected a JSON object"),
    ],
)
def test_options_say_what_they_expect(capsys, option, text, message):
    with pytest.raises(SystemExit):
        main(["measure", "--output", "out", option, text])
    assert message in capsys.readouterr().err


def test_images_on_the_command_line_are_as_in_python(tmp_path):
    given = ["--size", "13", "--crop", "11x7", "--mean", "0.1,0.2,0.3", "--std", "0.5", "--limit", "3"]
    arguments = _parser().parse_args(["measure", "--output", "out", *given])
    assert (arguments.size, arguments.crop, arguments.limit) == (13, (11, 7), 3)
    assert (arguments.mean, arguments.std) == ((0.1, 0.2, 0.3), 0.5)


SQUARE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 11), torch.nn.ReLU(), torch.nn.Linear(11, 25))

    def forward(self, x):
        return self.body(x).unflatten(1, (5, 5))
"""


@pytest.fixture
def square(tmp_path):
    """A network whose classes may lie on either axis, data for the last, and the options that name both."""
    (tmp_path / "square.py").write_text(SQUARE)
    model = load_model(f"{tmp_path}/square.py:Net")
    x = torch.randn(29, 4, generator=torch.Generator().manual_seed(0))
    data = str(tmp_path / "tokens.npz")
    np.savez(data, x=x.numpy(), y=model(x).argmax(2).numpy())
    named = ["--model", f"{tmp_path}/square.py:Net", "--calibration", data, "--evaluation", data]
    return model, load_data(data), named


def test_measure_and_replay_ask_for_the_axis_of_the_classes_and_take_the_answer(square, tmp_path, capsys):
    model, data, named = square
    out = str(tmp_path / "out")
    assert main(["measure", *named, "--output", out]) == 2
    error = capsys.readouterr().err
    assert "can be read as (n, classes, length) or as (n, length, classes)" in error
    assert error.endswith("say which with --classes second or --classes last\n")
    assert main(["measure", *named, "--output", out, "--classes", "last"]) == 0
    assert "token accuracy 1.0000" in capsys.readouterr().out
    session = Session.open(out, model, data, data)
    session.commit(session.preview("body.0", width=10))
    session.save(out)
    saved = [step.score for step in session.history]
    assert saved[0] == 1.0
    assert main(["replay", f"{out}/recipe.json", *named]) == 0
    assert re.search(rf"token accuracy +1\.0000 +→ +{saved[1]:.4f}", capsys.readouterr().out)
    assert main(["replay", f"{out}/recipe.json", *named, "--classes", "second"]) == 0
    assert "1.0000" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "words"),
    [("accuracy", "accuracy"), ("R2", "R²"), ("R²", "R²"), ("label accuracy", "label accuracy")],
)
def test_the_score_is_what_the_command_line_says(typed, words, own, tmp_path, capsys):
    model, named = own
    x = load_data(tmp_path / "data.npz").inputs
    targets = torch.nn.functional.one_hot(model(x).argmax(1), 3).float()
    np.savez(tmp_path / "hot.npz", x=x.numpy(), y=targets.numpy())
    options = ["--evaluation", str(tmp_path / "hot.npz"), "--metric", typed]
    assert main(["measure", *named, *options, "--output", str(tmp_path / "out")]) == 0
    assert f"\n{words} " in capsys.readouterr().out


def test_a_score_that_the_targets_have_not_is_said_in_the_options_own_words(own, tmp_path, capsys):
    options = ["--evaluation", str(tmp_path / "data.npz"), "--output", str(tmp_path / "out"), "--metric"]
    assert main(["measure", *own[1], *options, "token accuracy"]) == 2
    error = capsys.readouterr().err
    assert "--metric 'token accuracy', but outputs (29, 3) for targets (29,) give --metric accuracy" in error
    for wrong in (["F1"], ["R2", "--classes", "first"]):
        with pytest.raises(SystemExit):
            _parser().parse_args(["measure", *options, *wrong])
        assert "invalid choice" in capsys.readouterr().err
