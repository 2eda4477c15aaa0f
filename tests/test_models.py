"""A model by name: factories of one's own, and the packages that know models by name."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from workbench.data.factories import made_by
from workbench.data.models import load_model

OWN = """
from helper_beside_my_net import WIDTH
import torch
from dataclasses import dataclass

@dataclass
class Sizes:
    inputs: int = WIDTH

class Net(torch.nn.Linear):
    def __init__(self, outputs=17):
        super().__init__(Sizes().inputs, outputs)

class Holder:
    make = Net

def needs(width, depth=2):
    return Net(width)

def fails():
    raise KeyError("no weights here")

def makes_none():
    return None

there = Net(5)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file with factories; its neighbour is found by its imports."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper_beside_my_net.py").write_text("WIDTH = 13\n")
    (folder / "my_net_of_tests.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder / "my_net_of_tests.py"
    for name in ("helper_beside_my_net", "my_net_of_tests", "_workbench_file_my_net_of_tests"):
        sys.modules.pop(name, None)


def package(monkeypatch, name, **contents):
    module = ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)
    return module


class TestFactories:
    @pytest.mark.parametrize("factory", ["Net", "Holder.make", "there"])
    def test_a_file_makes_a_model_ready_for_use(self, own, factory):
        searched = list(sys.path)
        model = load_model(f"{own}:{factory}")
        assert model.in_features == 13
        assert not model.training
        assert sys.path[: len(searched)] == searched  # its folder comes last, for what is imported later

    def test_a_module_of_the_current_folder_is_found(self, own, monkeypatch):
        monkeypatch.chdir(own.parent)
        assert load_model("my_net_of_tests:Net").out_features == 17

    def test_options_are_arguments(self, own):
        assert load_model(f"{own}:Net", options={"outputs": 7}).out_features == 7
        assert load_model(f"{own}:needs", options={"width": 11}).out_features == 11

    def test_a_checkpoint_brings_the_weights(self, own, tmp_path):
        weights = {"weight": torch.randn(17, 13), "bias": torch.randn(17)}
        save_file(weights, tmp_path / "own.safetensors")
        model = load_model(f"{own}:Net", checkpoint=tmp_path / "own.safetensors")
        assert torch.equal(model.weight, weights["weight"])

    @pytest.mark.parametrize(
        ("factory", "message"),
        [
            ("needs", "needs arguments that were not given: width"),
            ("fails", "failed: KeyError: 'no weights here'"),
            ("makes_none", "made a NoneType, not a torch module"),
            ("Sizes", "made a Sizes, not a torch module"),
            ("nothing", "has no function or class nothing"),
        ],
    )
    def test_a_factory_that_gives_no_model_is_told(self, own, factory, message):
        with pytest.raises(ValueError, match=message) as raised:
            load_model(f"{own}:{factory}")
        assert str(raised.value).startswith(f"{own}:{factory}")

    def test_options_for_what_is_there_already_are_refused(self, own):
        with pytest.raises(ValueError, match="takes no options"):
            load_model(f"{own}:there", options={"outputs": 3})

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("import sys\nsys.exit(3)", "SystemExit: 3"),
            ("def make(:", "SyntaxError"),
            ("1/0", "ZeroDivision"),
        ],
    )
    def test_a_file_that_cannot_be_imported_is_told(self, tmp_path, text, message):
        path = tmp_path / "broken_net.py"
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"cannot import .*broken_net\.py: {message}"):
            made_by(f"{path}:make")
        assert "_workbench_file_broken_net" not in sys.modules

    @pytest.mark.parametrize(
        "name", ["mynet", ":make", "mynet:", "mynet:two words", "no_such_module_of_mine:make"]
    )
    def test_names_that_lead_nowhere_are_told(self, name):
        with pytest.raises(ValueError, match=r"MODULE:FACTORY|cannot import no_such_module_of_mine"):
            load_model(name)


class TestArguments:
    def test_weights_come_from_one_place(self, own, tmp_path):
        with pytest.raises(ValueError, match="not both"):
            load_model("torchvision:resnet18", weights="default", checkpoint=tmp_path / "x.pt")
        with pytest.raises(ValueError, match=r"give the weights of .* as a checkpoint file"):
            load_model(f"{own}:Net", weights="default")

    def test_a_missing_checkpoint_is_told_before_anything_is_built(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
            load_model("no_such_module_of_mine:make", checkpoint=tmp_path / "nowhere.pt")

    def test_a_model_is_not_its_name(self):
        with pytest.raises(TypeError, match="by its name, such as 'mynet:make', not by a Linear"):
            load_model(nn.Linear(2, 3))


class TestPackages:
    @pytest.mark.parametrize(
        ("name", "extra"), [("torchvision", "vision"), ("timm", "vision"), ("transformers", "hub")]
    )
    def test_a_missing_package_names_its_extra(self, monkeypatch, name, extra):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ValueError, match=rf'pip install "spectral-pruning-workbench\[{extra}\]"'):
            load_model(f"{name}:anything")

    def test_a_package_that_does_not_import_is_told(self, tmp_path, monkeypatch):
        (tmp_path / "timm.py").write_text("raise RuntimeError('operator nms does not exist')")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "timm", raising=False)
        with pytest.raises(ValueError, match=r"timm is installed, but cannot be imported .*nms"):
            load_model("timm:anything")

    @pytest.mark.parametrize(
        ("weights", "passed"), [(None, None), ("default", "DEFAULT"), ("IMAGENET1K_V1", "IMAGENET1K_V1")]
    )
    def test_torchvision_builds_by_name(self, monkeypatch, weights, passed):
        calls = []

        def get_model(name, weights=None, **options):
            calls.append((name, weights, options))
            return nn.Linear(13, options["num_classes"])

        models = SimpleNamespace(get_model=get_model, list_models=lambda: ["resnet18", "resnet34", "vgg16"])
        package(monkeypatch, "torchvision", models=models)
        model = load_model("torchvision:resnet18", weights=weights, options={"num_classes": 17})
        assert (model.out_features, model.training) == (17, False)
        assert calls == [("resnet18", passed, {"num_classes": 17})]
        with pytest.raises(
            ValueError, match=r"no model 'resnet19' in torchvision; did you mean resnet\d\d or"
        ):
            load_model("torchvision:resnet19")
        with pytest.raises(ValueError, match="resnet18 cannot be loaded: KeyError: 'num_classes'"):
            load_model("torchvision:resnet18")

    def test_timm_builds_by_name(self, monkeypatch):
        calls = []

        def create_model(name, pretrained=False, **options):
            calls.append((name, pretrained, options))
            return nn.Linear(13, 17)

        package(monkeypatch, "timm", create_model=create_model, list_models=lambda: ["resnet18"])
        load_model("timm:resnet18")
        load_model("timm:resnet18.a1_in1k", weights="default", options={"in_chans": 1})
        load_model("timm:hf-hub:someone/net")
        assert calls == [
            ("resnet18", False, {}),
            ("resnet18.a1_in1k", True, {"in_chans": 1}),
            ("hf-hub:someone/net", False, {}),
        ]
        with pytest.raises(ValueError, match="no model 'qqq' in timm, which has 1 models"):
            load_model("timm:qqq")
        with pytest.raises(ValueError, match="take 'default' or none"):
            load_model("timm:resnet18", weights="a1_in1k")

    def test_a_download_that_fails_is_told(self, monkeypatch):
        def create_model(*_, **__):
            raise OSError("no route to host")

        package(monkeypatch, "timm", create_model=create_model, list_models=lambda: ["resnet18"])
        with pytest.raises(ValueError, match="timm:resnet18 cannot be loaded: OSError: no route to host"):
            load_model("timm:resnet18", weights="default")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 20, "num_attention_heads": 2, "intermediate_size": 17, "vocab_size": 31}
    config = transformers.BertConfig(num_hidden_layers=1, max_position_embeddings=13, **sizes)
    model = transformers.BertForSequenceClassification(config)
    folder = tmp_path_factory.mktemp("tiny-bert")
    model.save_pretrained(folder)
    return folder, model


class TestTransformers:
    def test_the_class_is_the_configurations_own(self, tiny):
        folder, saved = tiny
        model = load_model(f"transformers:{folder}", weights="default")
        assert type(model) is type(saved)
        assert not model.training
        assert torch.equal(model.classifier.weight, saved.classifier.weight)

    def test_without_weights_it_is_untrained_until_a_checkpoint(self, tiny):
        folder, saved = tiny
        untrained = load_model(f"transformers:{folder}")
        assert not torch.equal(untrained.classifier.weight, saved.classifier.weight)
        model = load_model(f"transformers:{folder}", checkpoint=folder / "model.safetensors")
        assert torch.equal(model.classifier.weight, saved.classifier.weight)

    def test_class_and_configuration_are_options(self, tiny):
        options = {"class": "AutoModelForTokenClassification", "num_labels": 7}
        model = load_model(f"transformers:{tiny[0]}", options=options)
        assert (type(model).__name__, model.classifier.out_features) == ("BertForTokenClassification", 7)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"options": {"class": "AutoModelForJuggling"}}, "no model class 'AutoModelForJuggling'"),
            ({"options": {"trust_remote_code": True}}, "never run here"),
            ({"weights": "best"}, "take 'default' or none"),
            ({"options": {"num_labels": 7}, "weights": "default"}, "cannot be loaded"),
        ],
    )
    def test_what_transformers_cannot_do_is_told(self, tiny, arguments, message):
        with pytest.raises(ValueError, match=message):
            load_model(f"transformers:{tiny[0]}", **arguments)

    def test_a_folder_that_is_not_there_is_told(self, tmp_path):
        pytest.importorskip("transformers")
        with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
            load_model(f"transformers:{tmp_path}/nowhere")
