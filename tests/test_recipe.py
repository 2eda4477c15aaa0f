"""The record: JSON, fingerprint, save, open, replay; damaged or foreign files are refused."""

import hashlib
import json

import pytest
import torch
from earlier_layout import save_earlier
from networks import conv_net, images
from torch import nn

from workbench.session.recipe import VERSION, RecipeError, fingerprint, read_recipe
from workbench.session.replay import replay
from workbench.session.session import Session

X = images(32)
Y = torch.randint(0, 5, (32,), generator=torch.Generator().manual_seed(1))


def pruned(procedure="simultaneous") -> Session:
    session = Session(conv_net(), X, [(X, Y)], procedure=procedure, name="net")
    session.measure()
    session.commit(session.preview("conv2", width=6))
    session.commit(session.preview("fc1", width=5, lam=0.01, theta=0.7, selection="magnitude-l1"))
    session.commit(session.preview("conv1", width=4, reconstruction="none"))
    return session


def equal_weights(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_recipe_is_plain_json_and_says_what_was_done():
    recipe = json.loads(json.dumps(pruned().recipe))
    assert recipe["version"] == VERSION
    assert recipe["model"]["fingerprint"] == fingerprint(conv_net())
    assert [(s["group"], s["of"], s["width"]) for s in recipe["steps"]] == [
        ("conv2", 11, 6),
        ("fc1", 13, 5),
        ("conv1", 7, 4),
    ]


def test_the_recipe_ends_at_the_present_step():
    session = pruned()
    session.undo()
    assert len(session.recipe["steps"]) == 2


def test_a_fingerprint_from_before_layers_were_resolved_says_what_to_do():
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 8)), nn.Linear(8, 3))
    recipe = Session(normed, [torch.randn(4, 5)]).recipe
    recipe["model"]["fingerprint"] = "0" * 64
    with pytest.raises(RecipeError, match=r"earlier version .* take 0 apart .* start a new session"):
        replay(recipe, normed, [torch.randn(4, 5)])
    with pytest.raises(RecipeError) as error:
        replay(recipe, nn.Linear(5, 3), [torch.randn(4, 5)])
    assert "earlier version" not in str(error.value)


def test_fingerprints_see_every_value_and_name():
    model = conv_net()
    before = fingerprint(model)
    assert fingerprint(conv_net()) == before
    with torch.no_grad():
        model.fc2.bias[0] += 1e-6
    assert fingerprint(model) != before
    assert fingerprint(conv_net().to(torch.bfloat16)) != before


@pytest.mark.parametrize("procedure", ["simultaneous", "sequential"])
def test_replay_gives_the_same_network(procedure):
    session = pruned(procedure)
    recipe = json.loads(json.dumps(session.recipe))
    again = replay(recipe, conv_net(), X, [(X, Y)])
    assert equal_weights(again.model, session.model)
    assert [s.score for s in again.history] == [s.score for s in session.history]


@pytest.mark.parametrize("procedure", ["simultaneous", "sequential"])
def test_save_and_open_bring_everything_back(tmp_path, procedure):
    session = pruned(procedure)
    session.save(tmp_path / "saved")
    again = Session.open(tmp_path / "saved", conv_net(), X, evaluation=[(X, Y)])
    assert equal_weights(again.model, session.model)
    assert [(s.label, s.score, s.parameters) for s in again.history] == [
        (s.label, s.score, s.parameters) for s in session.history
    ]
    again.goto(1)
    session.goto(1)
    assert equal_weights(again.model, session.model)
    ours, theirs = again.preview("conv1", width=3), session.preview("conv1", width=3)
    assert ours == theirs


def test_the_data_s_name_comes_back(tmp_path):
    session = Session.example("digits-mlp")
    session.measure()
    session.save(tmp_path)
    assert Session.open(tmp_path).data_name == session.data_name == "scikit-learn digits"
    recipe = session.recipe
    del recipe["data"]  # as it was written before it had one
    assert replay(recipe, evaluation=lambda model: 0.5).data_name == "scikit-learn digits"
    other = replay(session.recipe, calibration=session.calibration, evaluation=lambda model: 0.5)
    assert other.data_name == "data of your own"
    own = Session(conv_net(), X, name="net", data_name="photos.zip")
    own.measure()
    own.save(tmp_path)
    assert Session.open(tmp_path, conv_net(), X).data_name == "photos.zip"
    assert replay(own.recipe, conv_net(), X, data_name="other.npy").data_name == "other.npy"


def test_files_are_written_whole(tmp_path):
    pruned().save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recipe.json", "tensors"]
    for path in (tmp_path / "tensors").iterdir():
        assert path.name == f"{hashlib.sha256(path.read_bytes()).hexdigest()}.safetensors"


def other_model():
    return conv_net(seed=5)


def test_another_model_is_refused_with_both_fingerprints(tmp_path):
    session = pruned()
    session.save(tmp_path)
    for attempt in (
        lambda: replay(session.recipe, other_model(), X),
        lambda: Session.open(tmp_path, other_model(), X),
    ):
        with pytest.raises(RecipeError) as error:
            attempt()
        assert fingerprint(other_model()) in str(error.value)
        assert fingerprint(conv_net()) in str(error.value)


def test_a_recipe_of_a_persons_own_model_needs_the_model_and_data():
    recipe = pruned().recipe
    with pytest.raises(ValueError, match="give the original model"):
        replay(recipe)
    with pytest.raises(ValueError, match="calibration"):
        replay(recipe, conv_net())


@pytest.mark.parametrize("name", ["recipe.json", "moments.safetensors", "model.safetensors"])
def test_truncated_files_are_named(tmp_path, name):
    save_earlier(pruned(), tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RecipeError, match=name):
        Session.open(tmp_path, conv_net(), X)


def test_a_missing_folder_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Session.open(tmp_path / "nowhere", conv_net(), X)


def test_weights_of_another_session_are_refused(tmp_path):
    session = pruned()
    save_earlier(session, tmp_path / "a")
    session.undo()
    save_earlier(session, tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").rename(tmp_path / "a" / "model.safetensors")
    with pytest.raises(RecipeError, match="do not fit"):
        Session.open(tmp_path / "a", conv_net(), X)


def broken(change):
    recipe = json.loads(json.dumps(pruned().recipe))
    change(recipe)
    return recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format="other"), "format"),
        (lambda r: r.update(version=99), "version 99"),
        (lambda r: r.update(model={}), "fingerprint"),
        (lambda r: r.update(procedure="x"), "procedure"),
        (lambda r: r.update(data=3), "'data' must be a name"),
        (lambda r: r.pop("steps"), "steps"),
        (lambda r: r["steps"].append(3), "step 4"),
        (lambda r: r["steps"][1].pop("lam"), "'lam'"),
        (lambda r: r["steps"][1].update(lam=-1.0), "λ must be positive"),
        (lambda r: r["steps"][0].update(kept=[0, 0, 1, 2, 3, 4]), "'kept'"),
        (lambda r: r["steps"][0].update(kept=[0, 1, 2, 3, 4, 11]), "'kept'"),
        (lambda r: r["steps"][0].update(width=5), "6 units are kept"),
        (lambda r: r["steps"][0].update(selection="x"), "selection"),
    ],
)
def test_damaged_recipes_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(broken(change))


def test_a_recipe_for_another_structure_is_refused():
    recipe = broken(lambda r: r["steps"][0].update(group="conv9"))
    with pytest.raises(ValueError, match="conv9"):
        replay(recipe, conv_net(), X)
    recipe = broken(lambda r: r["steps"][0].update(of=13))
    with pytest.raises(ValueError, match="13 units; here it has 11"):
        replay(recipe, conv_net(), X)


def test_a_recipe_of_an_example_takes_the_callers_data():
    session = Session.example("digits-cnn")
    again = replay(session.recipe, evaluation=lambda model: 0.125)
    assert (again.metric, again.history[0].score) == ("score", 0.125)


def test_moments_of_another_width_are_refused(tmp_path):
    session = pruned()
    save_earlier(session, tmp_path)
    from safetensors.torch import load_file, save_file

    moments = load_file(tmp_path / "moments.safetensors")
    moments["fc1/0.total"] = moments["fc1/0.total"][:5, :5].contiguous()
    save_file(moments, tmp_path / "moments.safetensors")
    with pytest.raises(RecipeError, match=r"moments\.safetensors has moments that do not fit fc1"):
        Session.open(tmp_path, conv_net(), X)


class Square(torch.nn.Module):
    """Outputs (n, 5, 5) that nothing says the axis of the classes of."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 11), torch.nn.ReLU(), torch.nn.Linear(11, 25))

    def forward(self, x):
        return self.body(x).unflatten(1, (5, 5))


def ambiguous():
    """Inputs (32, 4) and targets (32, 5)."""
    seeded = torch.Generator().manual_seed(2)
    return torch.randn(32, 4, generator=seeded), torch.randint(0, 5, (32, 5), generator=seeded)


def by_hand(axis):
    x, y = ambiguous()
    with torch.no_grad():
        return float((Square()(x).argmax(axis) == y).double().mean())


@pytest.mark.parametrize(("classes", "axis"), [("last", 2), ("second", 1)])
def test_how_targets_are_read_is_saved_with_the_session_and_its_branches(tmp_path, classes, axis):
    x, y = ambiguous()
    session = Session(Square(), x, [(x, y)], classes=classes, metric="token accuracy")
    session.measure()
    session.fork("thin")
    session.commit(session.preview("body.0", width=6))
    scores = [step.score for step in session.history]
    assert scores[0] == pytest.approx(by_hand(axis))
    assert by_hand(1) != by_hand(2)
    session.save(tmp_path / "saved")
    whole = json.loads((tmp_path / "saved" / "recipe.json").read_text())
    for recipe in (whole, whole["store"]["branches"][0]["recipe"]):
        assert recipe["targets"] == {"metric": "token accuracy", "classes": classes}
    again = Session.open(tmp_path / "saved", Square(), x, [(x, y)])
    assert [step.score for step in again.history] == scores
    assert again.asked == session.asked
    again.commit(again.preview("body.0", width=3))
    session.commit(session.preview("body.0", width=3))
    assert again.history[-1].score == session.history[-1].score
    again.switch("main")
    again.commit(again.preview("body.0", width=6))
    assert again.history[-1].score == scores[-1]
    again.save(tmp_path / "again")
    replayed = replay(tmp_path / "again" / "recipe.json", Square(), x, [(x, y)])
    assert [step.score for step in replayed.history] == scores
    # Its loss, for what learns from labels, is read the same way too.
    assert replayed.loss == session.loss


def test_what_is_asked_for_now_goes_before_what_was_saved(tmp_path):
    x, y = ambiguous()
    session = Session(Square(), x, [(x, y)], classes="last")
    session.measure()
    session.save(tmp_path)
    other = Session.open(tmp_path, Square(), x, [(x, y)], classes="second")
    assert other.asked == {"metric": None, "classes": "second"}
    again = replay(session.recipe, Square(), x, [(x, y)], classes="second")
    assert again.history[0].score == pytest.approx(by_hand(1))


@pytest.mark.parametrize(
    "asked", [{"metric": "F1"}, {"classes": "first"}, {"classes": 1}, ["last"], "last", None]
)
def test_a_reading_that_there_is_not_is_refused_with_its_place(asked):
    with pytest.raises(RecipeError, match=r"'targets' must say how.*\$\.targets"):
        read_recipe(pruned().recipe | {"targets": asked})


def test_a_branch_whose_targets_are_read_otherwise_is_refused(tmp_path):
    session = Session(conv_net(), X, [(X, Y)], metric="accuracy")
    session.measure()
    session.fork("other")
    save_earlier(session, tmp_path)
    file = tmp_path / "branches" / "1" / "recipe.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"targets": {"metric": "R²"}}))
    with pytest.raises(RecipeError, match="reading of targets"):
        Session.open(tmp_path, conv_net(), X)
