"""What an error says on the screen: a field, a button, a tab; not the names of Python's functions."""

from __future__ import annotations

import ast
import re
import threading
from pathlib import Path

import pytest
from states import idle, message

import workbench
from workbench.widgets import load_form
from workbench.widgets.constants import SETTINGS
from workbench.widgets.jobs import in_words, waited_for
from workbench.widgets.tune_tab import tuning_of
from workbench.widgets.wording import in_fields

ROOT = Path(workbench.__file__).parent
# Of these no error reaches the screen: they are the command line, the servers, lessons, pictures and pages.
ELSEWHERE = ("cli.py", "serve", "course", "plots", "page", "widgets/modules.py", "widgets/picture.py")
OPTION = re.compile(r"\b[a-z_]+=(?!=)(?:'[^']*'|[\d,]*\d|True|False|…|(?=[\s);,]|$))")
CALL = re.compile(r"\bsession\.[a-z_]+\(|\bSession\.save\b|\bTuning\(")
# Written into a Python program, and said of it.
IN_PYTHON = re.compile(r"\b(example_input|formats)=('[^']*'|False|)? ?in Python|Session\.export\(")


def spoken(node: ast.AST) -> str:
    """The text of a string or an f-string, with a 1 or a 'name' in place of what is put in."""
    if isinstance(node, ast.JoinedStr):
        parts = [spoken(one) for one in node.values]
        return "".join(parts)
    if isinstance(node, ast.FormattedValue):
        return "'name'" if node.conversion == ord("r") else "1"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def said(tree: ast.Module):
    """Every text of a module that is in a raise, or that a function gives back or a constant holds."""
    quiet = {id(one) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for one in node.values}
    places = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        body = node.body if isinstance(node, places) else []
        if body and isinstance(body[0], ast.Expr):
            quiet.add(id(body[0].value))  # a docstring
        if isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "extra_repr"):
            quiet |= {id(one) for one in ast.walk(node)}
    for node in ast.walk(tree):
        text = spoken(node) if id(node) not in quiet else ""
        if " " in text and not text.startswith("```"):
            yield text


def messages():
    for file in sorted(ROOT.rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        if name.startswith(ELSEWHERE):
            continue
        for text in said(ast.parse(file.read_text(encoding="utf-8"))):
            if OPTION.search(text) or CALL.search(text):
                yield name, text


def test_every_message_with_an_option_of_python_names_a_field_instead():
    found = list(messages())
    assert len(found) > 20
    for name, text in found:
        words = IN_PYTHON.sub("", in_fields(text))
        assert not OPTION.search(words), (name, words)
        assert not CALL.search(words), (name, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "x.zip has the parts a, b: choose one with split=",
            "x.zip has the parts a, b: choose one with “part”",
        ),
        ("give one, or split='train' or 'test'", "give one, or “part: train” or 'test'"),
        ("give limit=1,200 or less, a smaller size", "give “at most: 1,200” or less, a smaller size"),
        ("weights='default' is for timm:", "“pretrained” is for timm:"),
        (
            "alone (distill=1 or match=1)",
            "alone (“the original's outputs: 100 %” or “its activations: 100 %”)",
        ),
        ("replace it (take_over=True)", "replace it (“Take over”)"),
        ("say which with classes='last'", "say which with “Classes on: last axis” (on the Load card)"),
        ("split the limit of a mask", "split the limit of a mask"),
    ],
)
def test_options_are_fields(text, words):
    assert in_words(ValueError(text)) == words


def test_a_shift_beyond_all_bounds_is_said_of_its_field():
    with pytest.raises(ValueError, match=r"^shift: the number of pixels must be a whole number"):
        tuning_of(SETTINGS | {"shifts": "1e99"})
    with pytest.raises(ValueError, match=r"^shift: shifts must be 65,536 or less"):
        tuning_of(SETTINGS | {"shifts": "99999999"})


def test_parts_of_a_folder_are_asked_for_by_the_field(state, tmp_path):
    for name in ("train", "valid"):
        (tmp_path / name / "cat").mkdir(parents=True)
        (tmp_path / name / "cat" / "1.png").write_bytes(b"")
    form = {"model": "torch.nn:Identity", "calibration": str(tmp_path)}
    idle(message(state, "load_own", form=form))
    assert state.error_at == "load"
    assert state.error.startswith("Calibration: ")
    assert "choose one with “part”" in state.error
    assert "split=" not in state.error


@pytest.mark.parametrize("command", ["save", "export"])
@pytest.mark.parametrize("folder", ["/proc/nothing/here", "{}/file/below", "{}/" + 300 * "n", "{}/a\0b"])
def test_a_folder_that_cannot_be_made_is_named_in_words(state, tmp_path, command, folder):
    (tmp_path / "file").write_text("in the way")
    rest = {"save": {"take_over": False}, "export": {"formats": ["safetensors"]}}[command]
    idle(message(state, command, folder=folder.format(tmp_path), replace=False, **rest))
    assert state.error_at == "export"
    assert not re.match(r"\[Errno|\w*Error\b", state.error), state.error
    assert state.error.endswith("name another folder") or "read-only" in state.error, state.error
    assert len(state.error) < 400


class TestWaiting:
    def test_what_does_not_answer_is_left_behind(self, state, monkeypatch):
        """As a hub that cannot be reached: the package tries for half a minute, and asks nobody."""
        begun, go = threading.Event(), threading.Event()

        def stuck(*args, **options):
            begun.set()
            go.wait(20)
            raise ValueError("nobody hears this any more")

        monkeypatch.setattr(load_form, "load_model", stuck)
        form = {"model": "transformers:someone/model", "calibration": "x.npy"}
        message(state, "load_own", form=form)
        assert begun.wait(20)
        message(state, "cancel")
        idle(state)  # while it still hangs
        assert (state.ended["how"], state.error) == ("cancelled", "")
        assert not go.is_set()
        go.set()

    def test_the_value_and_every_end_are_the_works(self):
        assert waited_for(lambda: 7, lambda: None) == 7
        with pytest.raises(SystemExit):
            waited_for(lambda: exit_now(), lambda: None)

    def test_what_the_check_raises_ends_it(self):
        go = threading.Event()
        with pytest.raises(KeyError):
            waited_for(lambda: go.wait(20), {}.popitem, every=0.01)
        go.set()


def exit_now():
    raise SystemExit(3)
