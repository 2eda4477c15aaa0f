"""`--mask` at the command line: which positions count in `workbench measure` and `workbench replay`."""

import json

import pytest
from padded_tokens import MASKED

from workbench.cli import main
from workbench.session.session import Session


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "masked_net.py"
    path.write_text(MASKED)
    names = {name: f"{path}:{name}" for name in ("Net", "padded", "named", "hidden")}
    return lambda data: ["--model", names["Net"], "--calibration", names[data]]


MASKS = [("padded", [], 12, None), ("padded", ["--mask", "none"], 24, False), ("named", [], 24, None),
         ("named", ["--mask", "real"], 12, "real")]  # fmt: skip


@pytest.mark.parametrize(("data", "option", "count", "saved"), MASKS)
def test_the_mask_is_what_the_command_line_says(data, option, count, saved, own, tmp_path, monkeypatch):
    sessions = []
    save = Session.save
    monkeypatch.setattr(Session, "save", lambda self, *args: (sessions.append(self), save(self, *args))[1])
    assert main(["measure", *own(data), *option, "--output", str(tmp_path / "out")]) == 0
    assert sessions[0].moment("up").count == count
    recipe = tmp_path / "out" / "recipe.json"
    assert json.loads(recipe.read_text())["targets"].get("mask") == saved
    again = ["replay", str(recipe), *own(data), "--output", str(tmp_path / "again")]
    assert main(again) == 0
    assert main([*again[:-1], str(tmp_path / "whole"), "--mask", "none"]) == 0
    assert [session.mask for session in sessions] == [saved, saved, False]
    assert [session.moment("up").count for session in sessions] == [count, count, 24]


@pytest.mark.parametrize(
    ("data", "option", "words"),
    [
        (
            "padded",
            ["--mask", "real"],
            "--mask real, but the batch has no tensor of that name; it has tokens",
        ),
        ("hidden", [], "name another mask, or --mask none where all count"),
    ],
)
def test_a_mask_that_is_none_is_said_in_the_options_own_words(data, option, words, own, tmp_path, capsys):
    assert main(["measure", *own(data), *option, "--output", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
