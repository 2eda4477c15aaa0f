"""Whatever strangers' recipes, sessions and exports claim is told at once, and the file is named."""

import json
import os

import pytest
from earlier_layout import save_earlier
from exports import as_earlier, small_session
from networks import conv_net
from refusing import refused
from stored import first, further, opened

from workbench.data.bounds import FileError
from workbench.data.plain_json import DEEPEST, parsed
from workbench.export.architecture import load_pruned
from workbench.session import store
from workbench.session.recipe import RecipeError, read_recipe
from workbench.tuning.settings import Tuning


@pytest.fixture(scope="module")
def recipe():
    return further(first()).recipe


# Recipes -------------------------------------------------------------------------------------------


def put(values, place, value):
    *above, last = place
    for key in above:
        values = values[key]
    values[last] = value


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("steps", 0, "width"), "9" * 400, r"\$\.steps\[0\]\.width is a number of 400 digits"),
        (("steps", 0, "width"), "-3", r"step 1 .*units are kept, but the width is -3"),
        (("steps", 0, "of"), "-7", r"\$\.steps\[0\]\.of"),
        (("steps", 0, "of"), "1000000000000", r"\$\.steps\[0\]\.of"),
        (("steps", 0, "kept", 0), "-1", r"'kept' must be ascending.*\$\.steps\[0\]"),
        (("steps", 0, "lam"), "NaN", r"\$\.steps\[0\]\.lam is NaN"),
        (("steps", 0, "lam"), "Infinity", r"λ must be positive and finite.*\$\.steps\[0\]"),
        (("steps", 0, "lam"), "1e999", r"\$\.steps\[0\]\.lam is a number out of range"),
        (("steps", 0, "result"), '{"score": NaN}', r"\$\.steps\[0\]\.result\.score is NaN"),
        (
            ("steps", 1, "tuning", "steps"),
            "1000000000",
            r"steps must be 10,000,000 or less.*steps\[1\]\.tuning",
        ),
        (("steps", 1, "tuning", "epochs"), "1e30", r"epochs must be 100,000 or less.*steps\[1\]\.tuning"),
        (("steps", 1, "tuning", "checks"), "-1", r"checks >= 1.*steps\[1\]\.tuning"),
        (("steps", 1, "tuning", "seed"), "9" * 19, r""),
        (("steps", 1, "tuning", "batch"), "1e400", r"tuning\.batch is a number out of range"),
        (("steps", 1, "tuning", "shifts"), "10000000", r"shifts must be 65,536 or less"),
        (("model",), '{"fingerprint": "a", "fingerprint": "b"}', r"\$\.model\.fingerprint is there twice"),
        (("data",), "[" * 100_000 + "]" * 100_000, "nested more than 64 levels deep, in line"),
        (("data",), r'"\ud800"', r"\$\.data has half a character"),
        (("version",), "9" * 20 + "." + "9" * 300, "version"),
    ],
)
def test_a_recipe_says_what_is_wrong_and_where(recipe, tmp_path, place, value, words):
    values = json.loads(json.dumps(recipe))
    values["steps"] = [values["steps"][0], {"kind": "finetune", "tuning": {"steps": 2}}]
    put(values, place, "HERE")
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(values).replace('"HERE"', value))
    if not words:
        assert read_recipe(path)["steps"]
        return
    assert "recipe.json" in str(refused(lambda: read_recipe(path), words, RecipeError))


def test_a_recipe_given_as_values_has_bounds_too(recipe):
    for name, value in (("lam", 10**400), ("width", 10**400), ("of", 10**5000)):
        values = json.loads(json.dumps(recipe))
        values["steps"][0][name] = value
        assert refused(lambda values=values: read_recipe(values), "step 1 of the recipe", RecipeError)
    for name in ("steps", "epochs", "rate", "decay", "seed", "batch", "until"):
        values = json.loads(json.dumps(recipe))
        values["steps"] = [{"kind": "finetune", "tuning": {name: 10**5000}}]
        assert refused(lambda values=values: read_recipe(values), "step 1 of the recipe", RecipeError)
    assert refused(lambda: Tuning(decay=float("nan")), "decay must be >= 0", ValueError)
    assert refused(
        lambda: read_recipe(recipe | {"steps": [{"kind": "refit"}] * 10_001}), r"10,001 steps", RecipeError
    )


@pytest.mark.parametrize("depth", [DEEPEST, DEEPEST + 1])
def test_the_deepest_that_is_read(depth):
    text = "[" * depth + '"[[[[\\"[["' + "]" * depth
    if depth <= DEEPEST:
        assert json.dumps(parsed(text, "it"), separators=(",", ":")) == text
    else:
        assert refused(lambda: parsed(text, "it"), "more than 64 levels deep, in line 1")


@pytest.mark.parametrize(
    "text", ['{"a": [1, -2.5, true, null, "ä\\n"], "b": {"c": 1e-3}}', "[]", '"x"', "-0"]
)
def test_json_within_the_bounds_is_what_json_says(text):
    assert parsed(text, "it") == json.loads(text)
    assert parsed(text.encode(), "it") == json.loads(text)


# Sessions and exports ------------------------------------------------------------------------------


def edited(path, **changes):
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(values))


def test_branches_without_end(tmp_path):
    folder = save_earlier(further(first()), tmp_path / "saved")
    for count in (10**9, -1, 10**15, 1.5, "many", [1]):
        edited(folder / "recipe.json", branches=count)
        assert refused(lambda: store.read(folder), "'branches' must be a number of branches", RecipeError)


@pytest.mark.parametrize("score", [float("nan"), "0.5", [1.0], True])
def test_scores_that_are_none(tmp_path, score):
    folder = save_earlier(first(), tmp_path / "saved")
    edited(folder / "recipe.json", original={"score": score})
    assert refused(lambda: store.read(folder), r"recipe\.json.*score", RecipeError)


NAMES = {
    "session": ("recipe.json", "tensors", "one of tensors"),
    "earlier": ("recipe.json", "moments.safetensors", "model.safetensors", "steps.safetensors", "branches"),
    "export": ("architecture.json", "model.safetensors"),
}


def made(kind, folder):
    """A folder of that kind, and what reads it."""
    if kind == "export":
        small_session().export(folder)
        return lambda: load_pruned(conv_net(), folder)
    session = further(first())
    if kind == "earlier":
        save_earlier(session, folder)
    else:
        session.save(folder)
    return lambda: opened(folder)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in NAMES for name in NAMES[kind]])
def test_links_out_of_the_folder_pipes_and_devices_are_refused(kind, name, tmp_path):
    call = made(kind, tmp_path / "own")
    path = tmp_path / "own" / name
    if name == "one of tensors":
        path = next((tmp_path / "own" / "tensors").iterdir())
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    before = {one: one.stat().st_mtime_ns for one in (elsewhere, *elsewhere.rglob("*"))}
    path.symlink_to(elsewhere)
    assert refused(call, f"{path.name} is, or lies behind, a link that leads out|{path.name}.*leads out")
    path.unlink()
    assert {one: one.stat().st_mtime_ns for one in before} == before
    if elsewhere.is_dir():
        return
    os.mkfifo(path)
    assert refused(call, f"{path.name}.*(is a pipe|is missing|no file)", (FileError, FileNotFoundError))
    path.unlink()
    path.symlink_to("/dev/zero")
    assert refused(call, f"{path.name}.*is a device", (FileError, FileNotFoundError))
    path.unlink()
    elsewhere.rename(path.with_name("beside"))
    path.symlink_to("beside")  # a link that stays in the folder
    call()


def test_files_of_others_behind_a_link_are_not_moved_or_removed(tmp_path):
    small_session().export(tmp_path / "own")
    other = tmp_path / "other"
    other.mkdir()
    (other / "architecture.json").write_text("{}")
    (other / "thesis.txt").write_text("mine")
    (tmp_path / "own" / ".incoming-export").symlink_to(other)
    assert refused(lambda: load_pruned(conv_net(), tmp_path / "own"), "link that leads out")
    assert refused(lambda: small_session().export(tmp_path / "own"), "link that leads out", ValueError)
    assert sorted(path.name for path in other.iterdir()) == ["architecture.json", "thesis.txt"]


def test_a_lock_that_is_a_link_harms_nothing(tmp_path):
    session = first()
    session.save(tmp_path / "own")
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "own" / ".lock").symlink_to(tmp_path / "thesis.txt")
    opened(tmp_path / "own")
    with pytest.raises(OSError, match=r"\.lock is no file of a lock"):
        session.save(tmp_path / "own")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_shapes_without_end_in_an_export(tmp_path):
    small_session().export(tmp_path)
    as_earlier(tmp_path)
    architecture = json.loads((tmp_path / "architecture.json").read_text())
    for shape in ([10**12], [1] * 33, [-1], [10**400], [2.5]):
        architecture["layers"]["conv2"]["tensors"]["weight"] = shape
        (tmp_path / "architecture.json").write_text(json.dumps(architecture))
        error = refused(lambda: load_pruned(conv_net(), tmp_path), r"architecture\.json.*conv2")
        assert "weight" in str(error) or "tensors" in str(error)


def test_the_readme_of_a_program_says_what_it_can_do(tmp_path):
    small_session().export(tmp_path, formats=["pt2"])
    text = (tmp_path / "README.md").read_text()
    assert "can run code" in text
    assert "`model.safetensors`, which `load_pruned` reads, is numbers alone" in text
