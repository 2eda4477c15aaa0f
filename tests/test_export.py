"""Export: what is written computes the same and opens without the workbench."""

import json
import subprocess
import sys

import pytest
import torch
from exports import ONNX, Plain, apart, halved, needs_onnx, other_weights, outputs, small_session
from families import EACH, FAMILIES
from networks import conv_net, images
from safetensors.torch import load_file, save_file

import workbench as wb
from workbench.export import programs
from workbench.network.running import mapped


@pytest.mark.parametrize("name", EACH)
def test_every_family_comes_back_and_runs_as_a_program(name, tmp_path):
    family = FAMILIES[name]
    session = halved(family.build(), family.inputs(8))
    formats = ("safetensors", "pt2")
    if name in ONNX:
        needs_onnx()
        formats = (*formats, "onnx")  # compared with the network by export itself
    files = session.export(tmp_path / "out", formats=formats)
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    loaded = wb.load_pruned(other_weights(family.build()), tmp_path / "out")
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for count in (1, 5):
        inputs = family.inputs(count)
        expected = outputs(session.model, inputs)
        assert apart(outputs(loaded, inputs), expected) <= 1e-6
        assert apart(outputs(program, inputs), expected) <= 1e-5


def run_alone(code, *forbidden):
    """What `code` prints in a process of its own in which the packages `forbidden` cannot be imported."""
    walls = "".join(f"sys.modules[{name!r}] = None\n" for name in forbidden)
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys\n{walls}{code}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", ["bert", "lstm"])
def test_the_pt2_file_opens_with_torch_alone(name, tmp_path):
    family = FAMILIES[name]
    session = halved(family.build(), family.inputs(8))
    session.export(tmp_path / "out", formats=("pt2",))
    inputs = family.inputs(5)
    expected = outputs(session.model, inputs)
    named = inputs if isinstance(inputs, dict) else {"input": inputs}
    save_file(named | {"expected": expected[0]}, tmp_path / "given.safetensors")
    code = f"""
import torch
from safetensors.torch import load_file
given = load_file({str(tmp_path / "given.safetensors")!r})
expected = given.pop("expected")
model = torch.export.load({str(tmp_path / "out" / "model.pt2")!r}).module()
with torch.no_grad():
    found = model(given["input"]) if "input" in given else model(**given)
found = found[0] if isinstance(found, tuple) else found
assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
print("same")
"""
    assert run_alone(code, "workbench", "transformers", "families", "onnx") == ["same"]


def test_the_onnx_file_opens_with_onnxruntime_alone(tmp_path):
    needs_onnx()
    family = FAMILIES["lstm"]
    session = halved(family.build(), family.inputs(8))
    session.export(tmp_path / "out", formats=("onnx",))
    inputs = family.inputs(5)
    save_file(
        {"input": inputs, "expected": outputs(session.model, inputs)[0]}, tmp_path / "given.safetensors"
    )
    code = f"""
import onnxruntime
from safetensors.numpy import load_file
given = load_file({str(tmp_path / "given.safetensors")!r})
session = onnxruntime.InferenceSession({str(tmp_path / "out" / "model.onnx")!r})
[found] = session.run(None, {{"x": given["input"]}})
assert abs(found - given["expected"]).max() <= 1e-4 * abs(given["expected"]).max()
print("same")
"""
    assert run_alone(code, "workbench", "torch", "onnx", "onnxscript") == ["same"]


def test_an_onnx_file_is_one_file_with_named_ends_and_recurrent_layers_as_such(tmp_path):
    needs_onnx()
    import onnx

    family = FAMILIES["lstm"]
    halved(family.build(), family.inputs(8)).export(tmp_path / "out", formats=("onnx",))
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert "LSTM" in [node.op_type for node in model.graph.node]
    assert not any(len(tensor.external_data) for tensor in model.graph.initializer)
    ends = [(value.name, value.type.tensor_type.shape.dim[0].dim_param) for value in model.graph.input]
    ends += [(value.name, value.type.tensor_type.shape.dim[0].dim_param) for value in model.graph.output]
    assert ends == [("x", "batch"), ("output", "batch")]


def test_a_program_holds_neither_data_nor_paths(tmp_path, repository):
    needs_onnx()
    session = halved(conv_net(), images(8) + 3)
    session.export(tmp_path / "out", formats=("pt2", "onnx"))
    for file in ("model.pt2", "model.onnx"):
        written = (tmp_path / "out" / file).read_bytes()
        assert str(repository).encode() not in written
        assert b"site-packages" not in written
    args, _ = torch.export.load(tmp_path / "out" / "model.pt2").example_inputs
    assert not args[0].any()


def test_exporters_keep_silent(tmp_path, capfd, recwarn):
    needs_onnx()
    small_session().export(tmp_path / "out", formats=("pt2", "onnx"))
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert not list(recwarn)


def test_tied_tensors_are_written_once_and_come_back_tied(tmp_path):
    family = FAMILIES["gpt"]
    halved(family.build(), family.inputs(8)).export(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert "wte.weight" in weights
    assert "lm_head.weight" not in weights
    loaded = wb.load_pruned(family.build(), tmp_path)
    assert loaded.lm_head.weight is loaded.wte.weight


def test_a_bias_that_a_reconstruction_added_comes_back(tmp_path):
    inputs = torch.randn(64, 13)
    session = wb.Session(Plain(), inputs)
    session.measure()
    session.commit(session.preview("fc1", width=7, reconstruction="original"))
    session.export(tmp_path)
    assert session.model.fc2.bias is not None
    loaded = wb.load_pruned(Plain(), tmp_path)
    assert loaded.fc2.bias.requires_grad
    assert apart(outputs(loaded, inputs), outputs(session.model, inputs)) <= 1e-6


def test_a_buffer_outside_the_state_dict_comes_back_where_it_was_cut(tmp_path):
    inputs = torch.randn(8, 13)
    session = halved(Plain(), inputs)
    assert session.model.scale.shape == (8,)
    session.export(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == {"fc1.weight", "fc2.weight", "scale"}
    loaded = wb.load_pruned(Plain(), tmp_path)
    assert "scale" not in loaded.state_dict()
    assert apart(outputs(loaded, inputs), outputs(session.model, inputs)) <= 1e-6


def test_number_types_are_kept(tmp_path):
    session = halved(conv_net().double(), images(8).double())
    session.export(tmp_path, formats=("pt2",))
    loaded = wb.load_pruned(conv_net(), tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float64}


def test_the_model_given_is_not_changed_and_what_comes_back_is_in_evaluation_mode(tmp_path):
    small_session().export(tmp_path)
    model = conv_net().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loaded = wb.load_pruned(model, tmp_path)
    assert model.training
    assert not any(module.training for module in loaded.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_session_is_not_changed(tmp_path):
    session = small_session()
    before = {key: value.clone() for key, value in session.model.state_dict().items()}
    session.export(tmp_path, formats=("pt2",))
    assert all(torch.equal(before[key], value) for key, value in session.model.state_dict().items())
    assert all(p.device == before[key].device for key, p in session.model.named_parameters())


def test_an_earlier_point_of_the_history_is_exported_as_it_was(tmp_path):
    session = small_session()
    session.reset()
    session.export(tmp_path)
    architecture = json.loads((tmp_path / "architecture.json").read_text())
    assert architecture["layers"] == {}
    assert json.loads((tmp_path / "recipe.json").read_text())["steps"] == []
    assert (
        apart(outputs(wb.load_pruned(conv_net(), tmp_path), images(3)), outputs(session.model, images(3)))
        == 0
    )


def test_the_description_says_what_changed_and_what_goes_in_and_out(tmp_path):
    small_session().export(tmp_path)
    architecture = json.loads((tmp_path / "architecture.json").read_text())
    conv2 = architecture["layers"]["conv2"]
    assert conv2["class"] == "Conv2d"
    assert conv2["original"]["weight"][:2] == [11, 7]
    assert conv2["tensors"]["weight"][:2] == [5, 3]
    assert conv2["attributes"] == {"in_channels": 3, "out_channels": 5}
    assert [part["shape"][0] for part in (*architecture["inputs"], *architecture["outputs"])] == ["batch"] * 2
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert architecture["fingerprint"] == recipe["model"]["fingerprint"]


def test_the_names_of_outputs_are_those_of_the_fields(tmp_path):
    family = FAMILIES["dataclass-output"]
    halved(family.build(), family.inputs(8)).export(tmp_path)
    architecture = json.loads((tmp_path / "architecture.json").read_text())
    assert [part["name"] for part in architecture["outputs"]] == ["features", "logits"]


def test_the_readme_has_the_numbers_and_runs(tmp_path):
    needs_onnx()
    x = images(8)
    session = halved(conv_net(), x, evaluation=[(x, torch.zeros(8, dtype=torch.long))])
    session.export(tmp_path, formats=("onnx", "pt2"))
    text = (tmp_path / "README.md").read_text()
    assert f"{session.history[0].parameters:,} | {session.parameters:,}" in text
    assert f"{session.history[0].score:.4f} | {session.history[-1].score:.4f}" in text
    assert text.count("```python") == 3
    assert all(file.name in text for file in tmp_path.iterdir() if file.name != "README.md")


def test_a_dictionary_in_any_order_and_a_batch_of_one_will_do(tmp_path):
    needs_onnx()
    family = FAMILIES["bert"]
    session = halved(family.build(), family.inputs(8))
    turned = dict(reversed(family.inputs(1).items()))
    session.export(tmp_path, formats=("pt2", "onnx"), example_input=turned)
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    assert apart(outputs(loaded, family.inputs(7)), outputs(session.model, family.inputs(7))) <= 1e-5


class WithTable(Plain):
    """With an input that is not one an example, as long as the batch that is traced."""

    def forward(self, x, table):
        return super().forward(x) + table.sum(0)


def test_an_input_that_is_the_same_for_all_examples_stays_as_it_is():
    x, table = torch.randn(8, 13), torch.randn(programs.TRACED, 5)
    portable = programs.Portable.of(WithTable(), (x, table))
    assert [part["shape"] for part in portable.inputs] == [["batch", 13], [programs.TRACED, 5]]
    program = programs.traced(portable).module()
    with torch.no_grad():
        assert torch.equal(program(x[:5], table), portable.model(x[:5], table))


def test_a_resized_batch_repeats_its_examples_and_leaves_what_is_no_batch():
    inputs = (torch.arange(3), {"table": torch.ones(13, 17)})
    longer = programs.resized(inputs, 5)
    assert longer[0].tolist() == [0, 1, 2, 0, 1]
    assert longer[1]["table"].shape == (13, 17)
    assert torch.equal(mapped(longer, lambda t: t)[0], longer[0])


class EachAlone(Plain):
    """Returns a tensor an example, as detectors do; `where` they stand beside others."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def forward(self, x):
        out = super().forward(x)
        alone = list(out.unbind(0))
        mean = out.mean()
        return {
            "first": {"alone": alone, "mean": mean},
            "last": {"mean": mean, "alone": tuple(alone)},
            "only": alone,
            "boxes": [{"box": one, "score": one.sum()} for one in alone],
        }[self.where]


@pytest.mark.parametrize("where", ["first", "last", "only", "boxes"])
def test_a_network_that_returns_a_tensor_an_example_comes_back(where, tmp_path):
    torch.manual_seed(0)
    model, x = EachAlone(where).eval(), torch.randn(5, 13)
    session = halved(model, x)
    session.export(tmp_path / "out")
    loaded = wb.load_pruned(other_weights(EachAlone(where)), tmp_path / "out")
    assert apart(outputs(loaded, x[:3]), outputs(session.model, x[:3])) <= 1e-6
    written = json.loads((tmp_path / "out" / "architecture.json").read_text(encoding="utf-8"))
    assert len(written["outputs"]) == len(outputs(session.model, x))
    with pytest.raises(ValueError, match="any batch size"):
        session.export(tmp_path / "program", formats=("pt2",))
