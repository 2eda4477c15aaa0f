"""The built-in examples: a trained model, the data to measure it on and the data to score it on.

Trained weights lie in `weights/` as float16 safetensors, written by `training.py`; the accuracies beside
them (`accuracy.json`) were measured after that rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.data.batches import Batches
from workbench.data.checkpoints import load_checkpoint
from workbench.data.legend import Legend
from workbench.data.progress import Progress
from workbench.data.randomness import OwnRandomness
from workbench.examples.architectures import NN3, VGG13, DigitsCNN, DigitsViT, RowRNN
from workbench.examples.datasets import Images, load_cifar10, load_digits, load_mnist

WEIGHTS = Path(__file__).parent / "weights"
ORDER_SEED = 8


@dataclass(frozen=True, eq=False)
class Example:
    """A model in eval mode, with what is needed to prune it and to score it.

    `calibration` and `evaluation` are disjoint; `example_input` is one input, (1, channels, height, width).
    """

    name: str
    title: str
    description: str
    model: nn.Module
    calibration: Batches
    evaluation: Batches
    example_input: Tensor
    data_name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ExampleSpec:
    """What an example is made of, before anything is loaded.

    `build` gives the untrained module, `load` a split of the data; inputs are (pixels - mean) / std with
    `mean` and `std` a number a channel, in pixel units. `per_class` is how many training images of each
    class the calibration takes (None: all of them).
    """

    title: str
    description: str
    data_name: str
    build: Callable[[], nn.Module]
    load: Callable[..., Images]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    per_class: int | None


EXAMPLES: dict[str, ExampleSpec] = {
    "digits-cnn": ExampleSpec(
        title="Small convolutional network on digits",
        description="Three convolutions with batch normalisation and two linear layers, on 8 × 8 digits: "
        "four unit groups of different kinds. It needs no download.",
        data_name="scikit-learn digits",
        build=DigitsCNN,
        load=load_digits,
        mean=(0.0,),
        std=(16.0,),
        per_class=None,
    ),
    "digits-mlp": ExampleSpec(
        title="NN3 on digits",
        description="The paper's fully connected network (hidden layers of 300, 1000 and 300 units), on "
        "8 × 8 digits. It needs no download.",
        data_name="scikit-learn digits",
        build=lambda: NN3(8 * 8),
        load=load_digits,
        mean=(0.0,),
        std=(16.0,),
        per_class=None,
    ),
    "nn3-mnist": ExampleSpec(
        title="NN3 on MNIST",
        description="The paper's fully connected network (hidden layers of 300, 1000 and 300 units), on "
        "MNIST: the fast-falling spectrum of its Figure 1.",
        data_name="MNIST",
        build=lambda: NN3(28 * 28),
        load=load_mnist,
        mean=(33.32,),
        std=(78.57,),
        per_class=200,
    ),
    "nn3-cifar10": ExampleSpec(
        title="NN3 on CIFAR-10",
        description="The paper's fully connected network (hidden layers of 300, 1000 and 300 units), on "
        "CIFAR-10: the slowly falling spectrum of its Figure 1.",
        data_name="CIFAR-10",
        build=lambda: NN3(3 * 32 * 32),
        load=load_cifar10,
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
        per_class=200,
    ),
    "vgg13-cifar10": ExampleSpec(
        title="VGG-13 on CIFAR-10",
        description="The paper's VGG-13 at half its width, with batch normalisation, on CIFAR-10: ten "
        "convolutions in a row, each a unit group.",
        data_name="CIFAR-10",
        build=VGG13,
        load=load_cifar10,
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
        per_class=200,
    ),
    "rnn-mnist": ExampleSpec(
        title="Recurrent network on MNIST",
        description="A recurrent layer of 128 units that reads each image row by row, on MNIST: its "
        "recurrent matrix writes and reads the same units.",
        data_name="MNIST",
        build=RowRNN,
        load=load_mnist,
        mean=(33.32,),
        std=(78.57,),
        per_class=200,
    ),
    "vit-digits": ExampleSpec(
        title="Small vision transformer on digits",
        description="Two blocks of attention and MLP on 16 patches of 8 × 8 digits: a head is a unit. It "
        "needs no download.",
        data_name="scikit-learn digits",
        build=DigitsViT,
        load=load_digits,
        mean=(0.0,),
        std=(16.0,),
        per_class=None,
    ),
}


def example_names() -> tuple[str, ...]:
    """The names that `load_example` takes."""
    return tuple(EXAMPLES)


def example_spec(name: str) -> ExampleSpec:
    """What an example is made of.

    Args:
        name: a key of `EXAMPLES`.

    Returns:
        Its entry.

    Raises:
        ValueError: there is no such example; the message lists them.
    """
    try:
        return EXAMPLES[name]
    except KeyError:
        raise ValueError(f"there is no example {name!r}; choose one of {', '.join(EXAMPLES)}") from None


def build_model(name: str) -> nn.Module:
    """The untrained module of an example.

    Args:
        name: a key of `EXAMPLES`.

    Returns:
        A new module, in training mode.

    Raises:
        ValueError: there is no such example.
    """
    return example_spec(name).build()


def load_example(name: str, progress: Progress | None = None) -> Example:
    """A built-in example: its trained model, freshly built, with calibration and evaluation data.

    Calibration is the digits' training split (1,347 images), or 200 training images of every class of MNIST
    or CIFAR-10; evaluation is the whole test split. Both are in a fixed random order.

    Args:
        name: a key of `EXAMPLES`.
        progress: called as ``progress(done, total, what)`` while files are read or downloaded.

    Returns:
        The example, its model in evaluation mode.

    Raises:
        ValueError: there is no such example (the message lists them), or a file of weights or data is
            malformed (the message names it).
        DownloadError: the data is not on this machine and cannot be downloaded.
    """
    spec = example_spec(name)
    with OwnRandomness(0).drawing():  # layers draw weights before they get theirs
        model = build_model(name)
    load_checkpoint(model, weights_file(name))
    calibration = spec.load("train", per_class=spec.per_class, progress=progress)
    evaluation = spec.load("test", progress=progress)
    batches = prepare(spec, calibration)
    return Example(
        name=name,
        title=spec.title,
        description=spec.description,
        model=model.eval(),
        calibration=batches,
        evaluation=prepare(spec, evaluation),
        example_input=batches.inputs[:1].clone(),
        data_name=spec.data_name,
        classes=calibration.classes,
    )


def prepare(spec: ExampleSpec, images: Images) -> Batches:
    """Images as an example's model takes them.

    The order is a fixed shuffle, because some files are sorted by class and a batch should not be.

    Args:
        spec: of the example, with its mean and std.
        images: as a loader gives them.

    Returns:
        Float32 inputs (n, channels, height, width), and int64 targets (n,).
    """
    generator = torch.Generator().manual_seed(ORDER_SEED)
    order = torch.randperm(len(images), generator=generator)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    inputs = images.pixels[order].float().sub_(mean).div_(std)  # (x − mean)/std   (n, channels, h, w)
    white = float(images.pixels.max()) or 1.0  # 16 of scikit-learn's digits, else 255
    in_ones = (tuple(value / white for value in values) for values in (spec.mean, spec.std))
    return Batches(inputs, images.labels[order], legend=Legend(images.classes, *in_ones))


def weights_file(name: str) -> Path:
    """Where the trained weights of the example `name` lie."""
    return WEIGHTS / f"{name}.safetensors"
