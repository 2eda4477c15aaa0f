"""The built-in examples: what they consist of, that they are trained, and that training is repeatable."""

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest
import torch
from safetensors.torch import load_file

from workbench.data.batches import Batches
from workbench.data.checkpoints import load_checkpoint
from workbench.examples import training
from workbench.examples.catalogue import (
    EXAMPLES,
    WEIGHTS,
    build_model,
    example_names,
    example_spec,
    load_example,
    prepare,
    weights_file,
)
from workbench.examples.datasets import cache_folder, load_cifar10, load_digits
from workbench.measure.evaluation import evaluate
from workbench.session.session import Session

DIGITS = ("digits-cnn", "digits-mlp", "vit-digits")
LEAST_ACCURACY = {
    "digits-cnn": 0.97,
    "digits-mlp": 0.97,
    "nn3-mnist": 0.98,
    "nn3-cifar10": 0.58,
    "vgg13-cifar10": 0.85,
    "rnn-mnist": 0.965,
    "vit-digits": 0.97,
}
PARAMETERS = {
    "digits-cnn": 90_090,
    "digits-mlp": 623_810,
    "nn3-mnist": 839_810,
    "nn3-cifar10": 1_526_210,
    "vgg13-cifar10": 2_356_458,
    "rnn-mnist": 28 * 128 + 128 * 128 + 2 * 128 + 128 * 10 + 10,
    "vit-digits": 64 * 5 + 16 * 64 + 2 * (4 * 65 * 64 + 65 * 128 + 129 * 64 + 4 * 64) + 2 * 64 + 65 * 10,
}


@pytest.fixture(scope="module")
def examples() -> dict:
    """All examples, loaded once."""
    if not os.environ.get("WORKBENCH_DATA") and not cache_folder().is_dir():
        pytest.fail(
            "no MNIST and CIFAR-10 here: set WORKBENCH_DATA to a folder that has them (see datasets.py)"
        )
    return {name: load_example(name) for name in example_names()}


@pytest.fixture(scope="module")
def digits() -> Batches:
    """The digits' training split, as both digits models take it."""
    return prepare(example_spec("digits-cnn"), load_digits("train"))


class TestBatches:
    def test_batches_can_be_gone_through_again(self):
        batches = Batches(torch.arange(17 * 3.0).view(17, 3), torch.arange(17), batch_size=5)
        for _ in range(2):
            parts = list(batches)
            assert [len(inputs) for inputs, _ in parts] == [5, 5, 5, 2]
            assert torch.equal(torch.cat([inputs for inputs, _ in parts]), batches.inputs)
            assert torch.equal(torch.cat([targets for _, targets in parts]), batches.targets)
        assert len(batches) == 4
        assert batches.examples == 17

    @pytest.mark.parametrize(("inputs", "targets", "size"), [(3, 2, 1), (0, 0, 1), (3, 3, 0), (3, 3, -5)])
    def test_what_cannot_be_batched_is_refused(self, inputs, targets, size):
        with pytest.raises(ValueError, match=r"needed|empty|1 or more"):
            Batches(torch.zeros(inputs, 2), torch.zeros(targets), size)

    def test_images_are_normalised_and_shuffled_with_their_labels(self):
        images = load_digits("test")
        batches = prepare(example_spec("digits-cnn"), images)
        assert float(batches.inputs.max()) == 1.0
        assert not torch.equal(batches.targets, images.labels)
        found = {
            image.mul(16).byte().numpy().tobytes(): int(k) for image, k in zip(*vars_of(batches), strict=True)
        }
        for image, label in zip(images.pixels, images.labels, strict=True):
            assert found[image.numpy().tobytes()] == int(label)


def vars_of(batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    return batches.inputs, batches.targets


class TestExamples:
    def test_names(self):
        assert example_names() == (
            *("digits-cnn", "digits-mlp", "nn3-mnist", "nn3-cifar10", "vgg13-cifar10", "rnn-mnist"),
            "vit-digits",
        )
        assert set(training.PLANS) == set(EXAMPLES)

    @pytest.mark.parametrize("load", [load_example, build_model])
    def test_an_unknown_name_lists_the_known_ones(self, load):
        with pytest.raises(ValueError, match=r"no example 'vgg'; choose one of digits-cnn, .*vit-digits"):
            load("vgg")

    @pytest.mark.parametrize("name", EXAMPLES)
    def test_an_example_is_complete(self, examples, name):
        example = examples[name]
        assert example.name == name
        assert example.title
        assert example.description
        assert example.data_name
        assert not example.model.training
        assert len(example.classes) == 10
        assert example.example_input.shape == (1, *example.calibration.inputs.shape[1:])
        assert example.model(example.example_input).shape == (1, 10)
        assert sum(parameter.numel() for parameter in example.model.parameters()) == PARAMETERS[name]
        assert {parameter.dtype for parameter in example.model.parameters()} == {torch.float32}
        with pytest.raises(FrozenInstanceError):
            example.model = None

    @pytest.mark.parametrize(
        ("name", "calibration", "evaluation"),
        [
            ("digits-cnn", 1347, 450),
            ("digits-mlp", 1347, 450),
            ("nn3-mnist", 2000, 10_000),
            ("nn3-cifar10", 2000, 10_000),
            ("vgg13-cifar10", 2000, 10_000),
            ("rnn-mnist", 2000, 10_000),
            ("vit-digits", 1347, 450),
        ],
    )
    def test_amounts_of_data(self, examples, name, calibration, evaluation):
        assert examples[name].calibration.examples == calibration
        assert examples[name].evaluation.examples == evaluation
        # A shuffled batch has nearly all classes; files sorted by class would give one.
        assert all(len(targets.unique()) >= 8 for _, targets in list(examples[name].evaluation)[:-1])

    @pytest.mark.parametrize("name", EXAMPLES)
    def test_inputs_are_centred_and_scaled(self, examples, name):
        inputs = examples[name].calibration.inputs
        if example_spec(name).data_name == "scikit-learn digits":
            assert float(inputs.min()) == 0.0
            assert float(inputs.max()) == 1.0
        else:
            assert inputs.mean((0, 2, 3)).abs().max() < 0.05
            assert (inputs.std((0, 2, 3)) - 1).abs().max() < 0.05

    @pytest.mark.parametrize("name", EXAMPLES)
    def test_shipped_weights_reach_their_accuracy(self, examples, name):
        given = examples[name].evaluation
        score = evaluate(examples[name].model, (given.inputs[:2000], given.targets[:2000]))
        assert score >= LEAST_ACCURACY[name]
        recorded = json.loads((WEIGHTS / training.ACCURACIES).read_text())
        assert score == pytest.approx(recorded[name], abs=0.02)

    def test_every_model_is_built_afresh(self, examples):
        again = load_example("digits-cnn")
        with torch.no_grad():
            again.model.fc1.weight.zero_()
        assert float(examples["digits-cnn"].model.fc1.weight.detach().abs().sum()) > 0
        assert torch.equal(again.calibration.inputs, examples["digits-cnn"].calibration.inputs)

    def test_layers_have_telling_names(self):
        mlp = [name for name, _ in build_model("nn3-mnist").named_children()]
        cnn = [name for name, _ in build_model("digits-cnn").named_children()]
        assert mlp == ["fc1", "fc2", "fc3", "fc4"]
        assert [name for name in cnn if name[-1].isdigit()] == [
            *("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "fc1", "fc2"),
        ]

    def test_hidden_units_heads_and_mlp_units_can_be_pruned(self):
        """The recurrent matrix is writer and reader; a layer norm mixes the stream, which so stays whole."""
        found = {}
        for name, shape in (("rnn-mnist", (2, 1, 28, 28)), ("vit-digits", (2, 1, 8, 8))):
            session = Session(build_model(name).eval(), torch.randn(shape))
            found |= {group.name: group for group in session.groups}
        can = {name: group.width for name, group in found.items() if group.prunable}
        heads = {f"block{k}.attention.q_proj": 8 for k in (1, 2)}
        assert can == {"rnn.layers.0.input": 128, **heads, "block1.fc1": 128, "block2.fc1": 128}
        hidden = found["rnn.layers.0.input"]
        assert [writer.module for writer in hidden.writers] == [
            "rnn.layers.0.input",
            "rnn.layers.0.recurrent",
        ]
        assert [reader.module for reader in hidden.readers] == ["rnn.layers.0.recurrent", "classifier"]
        assert "LayerNorm" in found["patches"].why_not

    def test_mnist_spectrum_falls_faster_than_that_of_cifar10(self, examples):
        """Figure 1a of the paper: the third hidden layer, eigenvalues over the largest."""
        ratio = {}
        for name in ("nn3-mnist", "nn3-cifar10"):
            seen = []
            hook = examples[name].model.fc4.register_forward_pre_hook(
                lambda _, inputs, seen=seen: seen.append(inputs[0])
            )
            with torch.no_grad():
                for inputs, _ in examples[name].calibration:
                    examples[name].model(inputs)
            hook.remove()
            units = torch.cat(seen).double()
            eigenvalues = torch.linalg.eigvalsh(units.T @ units).flip(0)
            ratio[name] = float(eigenvalues[49] / eigenvalues[0])
        assert ratio["nn3-cifar10"] > 5 * ratio["nn3-mnist"]

    def test_progress_is_reported_while_files_are_read(self, examples):
        seen = []
        load_cifar10("train", per_class=50, progress=lambda *report: seen.append(report))
        assert all(done <= total for done, total, _ in seen)


class TestWeights:
    def test_files_are_small_and_half_precision(self):
        files = [weights_file(name) for name in EXAMPLES]
        assert sum(file.stat().st_size for file in files) < 12e6
        for file in files:
            floating = {tensor.dtype for tensor in load_file(file).values() if tensor.is_floating_point()}
            assert floating == {torch.float16}

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "some.safetensors"
        path.write_bytes(weights_file("digits-cnn").read_bytes())
        return path

    @pytest.mark.parametrize("keep", [0, 5, 100, 3001, -1])
    def test_a_cut_file_is_named(self, file, keep):
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(ValueError, match=r"some\.safetensors is not a whole safetensors file"):
            load_checkpoint(build_model("digits-cnn"), file)

    def test_a_file_of_something_else_is_named(self, file):
        file.write_bytes(b"\xff" * 5000)
        with pytest.raises(ValueError, match=r"some\.safetensors"):
            load_checkpoint(build_model("digits-cnn"), file)

    def test_weights_of_another_model_are_refused(self):
        with pytest.raises(ValueError, match=r"does not fit NN3, which has 8 keys: .*bn1"):
            load_checkpoint(build_model("digits-mlp"), weights_file("digits-cnn"))


class TestTraining:
    @pytest.mark.parametrize("name", DIGITS)
    def test_two_runs_write_identical_files(self, digits, name, tmp_path):
        for folder in ("first", "second"):
            training.write_weights(training.train(name, digits, steps=2), tmp_path / folder / "w.safetensors")
        assert (tmp_path / "first/w.safetensors").read_bytes() == (
            tmp_path / "second/w.safetensors"
        ).read_bytes()

    def test_training_leaves_the_callers_settings_alone(self, digits):
        torch.manual_seed(5)
        expected, threads = torch.rand(3), torch.get_num_threads()
        torch.manual_seed(5)
        training.train("digits-mlp", digits, steps=1)
        assert torch.equal(torch.rand(3), expected)
        assert torch.get_num_threads() == threads
        assert not torch.are_deterministic_algorithms_enabled()

    def test_steps_lower_the_loss(self, digits):
        def loss(steps):
            model = training.train("digits-cnn", digits, steps=steps)
            with torch.no_grad():
                return float(torch.nn.functional.cross_entropy(model(digits.inputs), digits.targets))

        assert loss(40) < 0.8 * loss(1)

    def test_written_weights_are_the_model_rounded(self, digits, tmp_path):
        model = training.train("digits-cnn", digits, steps=1)
        training.write_weights(model, tmp_path / "w.safetensors")
        again = build_model("digits-cnn")
        load_checkpoint(again, tmp_path / "w.safetensors")
        for key, tensor in again.state_dict().items():
            torch.testing.assert_close(tensor, model.state_dict()[key], atol=1e-6, rtol=1e-3)

    def test_accuracies_are_recorded_beside_the_weights(self, tmp_path, monkeypatch):
        short = training.TrainingPlan(epochs=1, batch_size=450, rate=1e-3, decay=0.0)
        monkeypatch.setitem(training.PLANS, "digits-mlp", short)
        monkeypatch.setitem(training.PLANS, "digits-cnn", short)
        lines = []
        score = training.train_and_write("digits-mlp", tmp_path, lines.append)
        training.train_and_write("digits-cnn", tmp_path)
        recorded = json.loads((tmp_path / training.ACCURACIES).read_text())
        assert list(recorded) == ["digits-cnn", "digits-mlp"]
        assert recorded["digits-mlp"] == pytest.approx(score, abs=1e-4)
        assert lines[0].startswith("digits-mlp: epoch 1 of 1, loss ")

    def test_the_command_line(self, tmp_path, monkeypatch, capsys):
        short = training.TrainingPlan(epochs=1, batch_size=450, rate=1e-3, decay=0.0)
        monkeypatch.setitem(training.PLANS, "digits-mlp", short)
        training.main(["digits-mlp", "--folder", str(tmp_path)])
        assert "digits-mlp: accuracy 0." in capsys.readouterr().out
        assert (tmp_path / "digits-mlp.safetensors").is_file()
        with pytest.raises(SystemExit):
            training.main(["vgg"])
        assert "invalid choice: 'vgg'" in capsys.readouterr().err


def test_an_example_is_measured_without_the_seconds_that_large_libraries_take_to_import():
    """Neither torch's compiler nor scikit-learn, each longer to import than the rest takes."""
    code = "import sys, workbench as wb; session = wb.Session.example('digits-cnn'); session.measure()\n"
    code += "session.commit(session.preview('conv2', width=9)); session.evaluate(); session.damage((0.5,))\n"
    code += (
        "print({'torch._dynamo', 'sklearn', 'scipy.stats', 'torch.onnx', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
