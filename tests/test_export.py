"""Export: what is written computes the same, opens without the workbench, and is whole or not there."""

import json
import os
import subprocess
import sys
import threading

import pytest
import torch
from families import FAMILIES
from networks import conv_net, images
from safetensors.torch import load_file, save_file
from torch import nn

import workbench as wb
from workbench.measure import Cancelled
from workbench.network.running import call, mapped, tensors_of
from workbench.session import export as export_module
from workbench.session import programs
from workbench.session.programs import distance

ONNX = ("lenet", "vit", "bert", "gru", "bidirectional-rnn", "dataclass-output")
TO_ONNX = ("onnx", "onnxscript", "onnxruntime")


def needs_onnx():
    for package in TO_ONNX:
        pytest.importorskip(package)


def halved(model, inputs, **options):
    """A session in which half of every group that can be pruned is gone."""
    session = wb.Session(model, [(inputs, None)], **options)
    session.measure()
    for group in session.groups:
        if group.prunable and group.width > 1:
            choice = session.preview(
                group.name, width=group.width // 2, selection="magnitude-l1", reconstruction="none"
            )
            session.commit(choice)
    return session


def small_session():
    return halved(conv_net(), images(8), name="small")


def outputs(model, inputs):
    with torch.no_grad():
        return tensors_of(call(model, inputs))


def apart(found, expected):
    assert len(found) == len(expected)
    return max(map(distance, found, expected))


def other_weights(model):
    """The same class with numbers of its own, as someone has who builds it anew."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(0.25)
    return model


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", FAMILIES)
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
    """Run `code` in a process of its own in which the packages `forbidden` cannot be imported."""
    walls = "".join(f"sys.modules[{name!r}] = None\n" for name in forbidden)
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys\n{walls}{code}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


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
"""
    run_alone(code, "workbench", "transformers", "families", "onnx")


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
"""
    run_alone(code, "workbench", "torch", "onnx", "onnxscript")


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


class Plain(nn.Module):
    """Without biases, and with a buffer that state dicts leave out."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(13, 17, bias=False)
        self.register_buffer("scale", torch.linspace(0.5, 2, 17), persistent=False)
        self.register_buffer("shift", torch.zeros(5), persistent=False)
        self.fc2 = nn.Linear(17, 5, bias=False)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)) * self.scale) + self.shift


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


# What cannot be written -----------------------------------------------------------------------------


class Rows(nn.Module):
    """Goes through its examples one by one, which leaves their number in the program."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(13, 17), nn.Linear(17, 5)

    def forward(self, x):
        return self.fc2(torch.stack([torch.relu(self.fc1(row)) for row in x]))


class Random(Rows):
    """With numbers drawn at random in evaluation mode too."""

    def forward(self, x):
        hidden = torch.relu(self.fc1(x))
        return self.fc2(hidden) + 0 * hidden.sum() + torch.rand(()) * 3


@pytest.mark.parametrize(
    ("model", "words"),
    [(Rows, "any batch size: .*constant"), (Random, "does not compute what the network does")],
)
def test_what_is_no_program_says_why_and_leaves_nothing(model, words, tmp_path, capfd):
    torch.manual_seed(0)
    session = wb.Session(model(), torch.randn(8, 13))
    with pytest.raises(ValueError, match=words) as caught:
        session.export(tmp_path / "out", formats=("pt2",))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
    session.export(tmp_path / "out")  # its weights can be written all the same
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'pth'.*safetensors, pt2, onnx"):
        small_session().export(tmp_path / "out", formats=("pt2", "pth"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"onnxscript.*spectral-pruning-workbench\[onnx\]"):
        small_session().export(tmp_path / "out", formats="onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_example_that_does_not_go_through_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"does not run on an example input of \(2, 9, 6, 6\)"):
        small_session().export(tmp_path / "out", example_input=torch.zeros(2, 9, 6, 6))
    assert list(tmp_path.iterdir()) == []


# Whole or not at all --------------------------------------------------------------------------------


def test_a_program_that_fails_leaves_no_file(tmp_path, monkeypatch):
    session = small_session()

    def fail(*_):
        raise ValueError("no such operation")

    monkeypatch.setattr(export_module, "write_onnx", fail)
    monkeypatch.setattr(export_module, "onnx_packages", list)
    with pytest.raises(ValueError, match="no such operation"):
        session.export(tmp_path / "a" / "b", formats=("pt2", "onnx"))
    assert list(tmp_path.iterdir()) == []
    session.export(tmp_path / "a" / "b")
    before = contents(tmp_path / "a" / "b")
    session.undo()
    with pytest.raises(ValueError, match="no such operation"):
        session.export(tmp_path / "a" / "b", formats=("pt2", "onnx"))
    assert contents(tmp_path / "a" / "b") == before


@pytest.mark.parametrize("moves", range(9))
def test_a_disk_that_fails_half_way_leaves_the_earlier_export(moves, tmp_path, monkeypatch):
    session = small_session()
    session.export(tmp_path, formats=("pt2",))
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    session.undo()
    replace, left = os.replace, [moves]

    def fail(source, target):
        left[0] -= 1
        if left[0] == -1:
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr(export_module.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        session.export(tmp_path)
    assert contents(tmp_path) == before


def test_a_place_that_cannot_be_written_is_left_alone(tmp_path):
    session = small_session()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        session.export(tmp_path / "file")
    with pytest.raises(OSError):
        session.export(tmp_path / "file" / "below")
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if not os.access(closed, os.W_OK):  # to an administrator nothing is closed
        with pytest.raises(PermissionError):
            session.export(closed)
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_cancelled_export_leaves_no_file(after, tmp_path):
    session, cancel, told = small_session(), threading.Event(), []

    def progress(done, total, what):
        told.append((done, total, what))
        if done == after:
            cancel.set()

    if after == 2:
        session.export(tmp_path / "out", progress=progress, cancel=cancel)  # too late: it is there
        assert told[-1][0] == told[-1][1]
        return
    with pytest.raises(Cancelled):
        session.export(tmp_path / "out", formats=("pt2",), progress=progress, cancel=cancel)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_and_other_files_stay(tmp_path):
    session = small_session()
    session.export(tmp_path, formats=("pt2",))
    (tmp_path / "notes.txt").write_text("mine")
    session.undo()
    session.export(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    # The program was of another network than the weights that are there now.
    assert names == {"model.safetensors", "architecture.json", "recipe.json", "README.md", "notes.txt"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    loaded = wb.load_pruned(conv_net(), tmp_path)
    assert apart(outputs(loaded, images(3)), outputs(session.model, images(3))) <= 1e-6


def test_files_of_others_are_in_the_way(tmp_path):
    session = small_session()
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"README\.md that is not of an export.*replace=True"):
        session.export(tmp_path)
    assert contents(tmp_path) == {"README.md": b"mine"}
    session.export(tmp_path, replace=True)
    wb.load_pruned(conv_net(), tmp_path)


def test_a_saved_session_is_not_written_over(tmp_path):
    session = small_session()
    session.save(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="not of an export"):
        session.export(tmp_path)
    assert contents(tmp_path) == before


# Coming back ----------------------------------------------------------------------------------------


class Other(nn.Module):
    """Not what was pruned."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 5)


def widened():
    model = conv_net()
    model.conv2 = nn.Conv2d(7, 19, 3, padding=1, bias=False)
    return model


def without_a_layer():
    model = conv_net()
    del model.conv2
    return model


def another_layer():
    model = conv_net()
    model.conv2 = nn.Linear(7, 11)
    return model


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Other, "is a Other in the model given"),
        (widened, r"'conv2' had weight \(11, 7.* has weight \(19, 7"),
        (without_a_layer, "'conv2' is missing"),
        (another_layer, "'conv2' was a Conv2d .* is a Linear"),
    ],
)
def test_another_network_is_refused_with_the_layer_and_both_widths(build, words, tmp_path):
    small_session().export(tmp_path)
    with pytest.raises(ValueError, match=words):
        wb.load_pruned(build(), tmp_path)


def test_a_layer_that_did_not_change_must_fit_too(tmp_path):
    session = wb.Session(conv_net(), images(8))
    session.export(tmp_path)
    with pytest.raises(ValueError, match=r"conv2\.weight has shape \(11, 7"):
        wb.load_pruned(widened(), tmp_path)
    with pytest.raises(ValueError, match=r"the model has no place for conv2\.weight"):
        wb.load_pruned(without_a_layer(), tmp_path)


def edited(key, value):
    def edit(folder):
        path = folder / "architecture.json"
        architecture = json.loads(path.read_text())
        owner, keys = architecture, key.split("/")
        for part in keys[:-1]:
            owner = owner[part]
        owner[keys[-1]] = value
        path.write_text(json.dumps(architecture))

    return edit


def cut(file):
    def edit(folder):
        path = folder / file
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return edit


def dropped(name):
    def edit(folder):
        path = folder / "model.safetensors"
        left = {key: value.clone() for key, value in load_file(path).items() if key != name}
        save_file(left, path)

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (cut("architecture.json"), r"architecture\.json is not a whole JSON file"),
        (cut("model.safetensors"), r"model\.safetensors is not a whole safetensors file"),
        (dropped("fc1.bias"), r"the file lacks fc1\.bias"),
        (edited("format", "zip"), "'format' must be"),
        (edited("version", 2), "version 2; this workbench reads version 1"),
        (edited("layers", []), "'layers'"),
        (edited("aliases", {"a": 1}), "'aliases'"),
        (edited("layers/conv2", {"class": "Conv2d"}), "layer 'conv2' lacks"),
        (edited("layers/conv2/tensors/weight", [5, "3"]), "not a list of whole numbers"),
        (edited("layers/conv2/tensors/weight", [10**12, 10**6]), r"conv2\.weight has shape"),
        (edited("layers/conv2/tensors/forward", [3]), "cannot have a tensor 'forward'"),
        (edited("layers/conv2/attributes", {"forward": 1}), "no such whole number"),
        (edited("layers/conv2/attributes", {"in_channels": "os"}), "in_channels = 'os'"),
    ],
)
def test_a_damaged_export_is_named(edit, words, tmp_path):
    small_session().export(tmp_path)
    edit(tmp_path)
    with pytest.raises(ValueError, match=words):
        wb.load_pruned(conv_net(), tmp_path)


@pytest.mark.parametrize("file", ["architecture.json", "model.safetensors"])
def test_a_missing_file_is_named(file, tmp_path):
    small_session().export(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        wb.load_pruned(conv_net(), tmp_path)


def test_a_resized_batch_repeats_its_examples_and_leaves_what_is_no_batch():
    inputs = (torch.arange(3), {"table": torch.ones(13, 17)})
    longer = programs.resized(inputs, 5)
    assert longer[0].tolist() == [0, 1, 2, 0, 1]
    assert longer[1]["table"].shape == (13, 17)
    assert torch.equal(mapped(longer, lambda t: t)[0], longer[0])
