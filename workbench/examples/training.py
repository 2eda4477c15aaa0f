"""Training of the built-in examples: ``python -m workbench.examples.training digits-cnn`` (or ``all``).

From a fixed seed, with deterministic algorithms and one thread: two runs on one machine write identical
files. Another processor or another version of PyTorch may round differently, and copies of a data set that
differ in order or in compression give other weights as well. The weights of digits-*, nn3-* and vgg13-* were
trained when what a shift brings in at an edge repeated the edge; today it mirrors the image, as in
fine-tuning, so a new training gives other weights, a few test images better or worse.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.data.batches import Batches
from workbench.data.checkpoints import load_checkpoint
from workbench.examples.catalogue import (
    WEIGHTS,
    build_model,
    example_names,
    example_spec,
    prepare,
)
from workbench.measure.evaluation import evaluate
from workbench.tuning.augmentation import augmented

SEED = 2020
THREADS = 1
ACCURACIES = "accuracy.json"


@dataclass(frozen=True)
class TrainingPlan:
    """How an example is trained: AdamW under a one-cycle learning rate.

    `shift` is the largest random translation in pixels, `flip` whether images are mirrored at random,
    `smoothing` the label smoothing, `decay` the weight decay; `bfloat16` computes products in that type.
    """

    epochs: int
    batch_size: int
    rate: float
    decay: float
    smoothing: float = 0.0
    shift: int = 0
    flip: bool = False
    bfloat16: bool = False


# digits-cnn decays strongly: its channels become redundant, and half of them can go without fine-tuning.
PLANS: dict[str, TrainingPlan] = {
    "digits-cnn": TrainingPlan(epochs=60, batch_size=64, rate=5e-3, decay=1.5, smoothing=0.05, shift=1),
    "digits-mlp": TrainingPlan(epochs=80, batch_size=32, rate=2e-3, decay=0.1, smoothing=0.05, shift=1),
    "nn3-mnist": TrainingPlan(epochs=12, batch_size=128, rate=1e-3, decay=0.05, shift=1),
    "nn3-cifar10": TrainingPlan(epochs=16, batch_size=250, rate=1e-3, decay=0.1, shift=2, flip=True),
    "vgg13-cifar10": TrainingPlan(
        20, 250, rate=3e-3, decay=0.1, smoothing=0.05, shift=4, flip=True, bfloat16=True
    ),
    "rnn-mnist": TrainingPlan(epochs=6, batch_size=128, rate=2e-3, decay=0.05),
    "vit-digits": TrainingPlan(epochs=150, batch_size=64, rate=1e-3, decay=0.1, smoothing=0.05, shift=1),
}


def train(
    name: str, data: Batches, steps: int | None = None, report: Callable[[str], None] | None = None
) -> nn.Module:
    """Train an example.

    The caller's random state, thread count and determinism settings are as before afterwards.

    Args:
        name: of the example.
        data: inputs as its model takes them, with targets.
        steps: ends the training after so many gradient steps.
        report: given a line of text an epoch.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: there is no such example, or the data has no targets.
    """
    example_spec(name)
    plan = PLANS[name]
    with _reproducible():
        layout = torch.channels_last if plan.bfloat16 else torch.contiguous_format
        model = build_model(name).train().to(memory_format=layout)  # type: ignore[call-overload]
        per_epoch = -(-data.examples // plan.batch_size)
        optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=plan.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=plan.rate, total_steps=plan.epochs * per_epoch, pct_start=0.2
        )
        done = 0
        for epoch in range(plan.epochs):
            total = 0.0
            for inputs, targets in _shuffled(data, plan):
                with torch.autocast("cpu", torch.bfloat16, enabled=plan.bfloat16):
                    loss = cross_entropy(model(inputs), targets, label_smoothing=plan.smoothing)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += float(loss.detach())
                done += 1
                if done == steps:
                    return model.eval()
            if report is not None:
                report(f"{name}: epoch {epoch + 1} of {plan.epochs}, loss {total / per_epoch:.4f}")
    return model.eval().to(memory_format=torch.contiguous_format)


@contextmanager
def _reproducible() -> Iterator[None]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_num_threads(threads)


def _shuffled(data: Batches, plan: TrainingPlan) -> Iterator[tuple[Any, Tensor]]:
    if data.targets is None:
        raise ValueError("training needs targets: give Batches(inputs, targets)")
    for index in torch.randperm(data.examples).split(plan.batch_size):
        yield augmented(data.inputs[index], plan.flip, plan.shift), data.targets[index]


def write_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights to a safetensors file, floating-point tensors as float16.

    Args:
        model: of which the state dict is written.
        path: of the file; its folder is made where it is missing.
    """
    tensors = {
        key: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for key, tensor in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors))  # save_file would leave the file to its owner alone


def train_and_write(name: str, folder: Path, report: Callable[[str], None] | None = None) -> float:
    """Train an example, and write its weights and its accuracy into a folder.

    Args:
        name: of the example.
        folder: for NAME.safetensors and accuracy.json.
        report: given a line of text an epoch.

    Returns:
        The accuracy of the written float16 weights on the whole test split.

    Raises:
        ValueError: there is no such example.
    """
    spec = example_spec(name)
    path = folder / f"{name}.safetensors"
    write_weights(train(name, prepare(spec, spec.load("train")), report=report), path)
    model = build_model(name)
    load_checkpoint(model, path)
    score = evaluate(model, prepare(spec, spec.load("test")))
    record = folder / ACCURACIES
    scores = json.loads(record.read_text()) if record.is_file() else {}
    scores[name] = round(score, 4)
    record.write_text(json.dumps(dict(sorted(scores.items())), indent=2) + "\n")
    return score


def main(arguments: Sequence[str] | None = None) -> None:
    """Train built-in examples and write their weights."""
    parser = argparse.ArgumentParser(prog="python -m workbench.examples.training", description=main.__doc__)
    names = [*example_names(), "all"]
    parser.add_argument("names", nargs="+", choices=names, metavar="name", help=", ".join(names))
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="default: the package's own")
    options = parser.parse_args(arguments)
    for name in example_names() if "all" in options.names else options.names:
        start = time.perf_counter()
        score = train_and_write(name, options.folder, report=print)
        print(f"{name}: accuracy {score:.4f} on the test split, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
