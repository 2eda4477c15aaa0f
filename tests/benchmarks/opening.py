"""How long a session takes to open, against a forward pass of the batch it is given, and in how many passes.

`python tests/benchmarks/opening.py [--write]` takes some minutes on one core. Only digits-cnn is trained.
"""

import resource
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import results
import torch
from families import FAMILIES
from family_images import CifarResNet
from torch import nn

import workbench as wb
from workbench.data.batches import as_batches, first_inputs
from workbench.examples.catalogue import load_example
from workbench.network.running import Inputs, batch_length, call, tensors_of

EXAMPLES, LARGE = 64, 8


def digits() -> tuple[nn.Module, Inputs]:
    example = load_example("digits-cnn")
    return example.model, first_inputs(as_batches(example.calibration))[:EXAMPLES]


def resnet(depth: int) -> tuple[nn.Module, Inputs]:
    torch.manual_seed(0)
    return CifarResNet(depth).eval(), torch.randn(EXAMPLES, 3, 32, 32)


def family(name: str) -> tuple[nn.Module, Inputs]:
    return FAMILIES[name].build(), FAMILIES[name].inputs(EXAMPLES)


def vit_tiny() -> tuple[nn.Module, Inputs]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
    return ViTForImageClassification(config).eval(), {"pixel_values": torch.randn(LARGE, 3, 224, 224)}


def bert_base() -> tuple[nn.Module, Inputs]:
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(BertConfig()).eval()
    return model, {"input_ids": torch.randint(0, 30_000, (LARGE, 128))}


def gpt2_small() -> tuple[nn.Module, Inputs]:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(use_cache=False)).eval()
    return model, {"input_ids": torch.randint(0, 50_000, (LARGE, 128))}


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {
    "digits-cnn": digits,
    "ResNet-20": lambda: resnet(20),
    "ResNet-56": lambda: resnet(56),
    "a small ViT": lambda: family("vit"),
    "a small BERT": lambda: family("bert"),
}
WHOLE: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {  # of the sizes that people use
    "ViT-Tiny": vit_tiny,
    "BERT-base": bert_base,
    "GPT-2 small": gpt2_small,
}


def passes(model: nn.Module, inputs: Inputs) -> Counter[tuple[int, str]]:
    """Forward passes of an opening, by examples and by type: 'float64', 'float32', or the inputs' own."""
    found: Counter[tuple[int, str]] = Counter()

    def note(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        given = args if args else kwargs
        kind = next((p.dtype for p in module.parameters()), tensors_of(given)[0].dtype)
        found[batch_length(given), str(kind).removeprefix("torch.")] += 1

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        wb.Session(model, [inputs])
    finally:
        handle.remove()
    return found


def seconds(call_: Callable[[], Any], repeats: int) -> float:
    """The median of several runs' processor time: other work on the machine comes and goes."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call_()
        times.append(time.process_time() - start)
    return statistics.median(times)


def opening_against_a_pass(model: nn.Module, inputs: Inputs, repeats: int = 7) -> tuple[float, float]:
    """Seconds to open, and how many forward passes of the batch take as long."""
    with torch.no_grad():
        call(model, inputs)
        once = seconds(lambda: call(model, inputs), repeats)
    wb.Session(model, [inputs])
    opened = seconds(lambda: wb.Session(model, [inputs]), repeats)
    return opened, opened / once


class Peak:
    """The most memory that the process has while something runs, beyond what it had before; bytes."""

    def __init__(self, call_: Callable[[], Any]):
        self.over, self._over, before = 0, threading.Event(), resident()
        watch = threading.Thread(target=self._watch, args=(before,))
        watch.start()
        try:
            call_()
        finally:
            self._over.set()
            watch.join()

    def _watch(self, before: int) -> None:
        while not self._over.wait(0.005):
            self.over = max(self.over, resident() - before)


def resident() -> int:
    """Bytes of the process in memory; Linux tells."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def whole_row(name: str) -> str:
    """A line of the second table: a network of full size, and its memory as a multiple of the network's."""
    torch.manual_seed(0)
    model, inputs = WHOLE[name]()
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    peak = Peak(lambda: wb.Session(model, [inputs])).over
    taken, ratio = opening_against_a_pass(model, inputs, repeats=1)
    return (
        f"| {name} | {size / 2**20:.0f} MB | {taken:.1f} s | {ratio:.1f} | {passes(model, inputs).total()} "
        f"| {1 + peak / size:.1f} |"
    )


def main() -> None:
    asked = results.options(__doc__).parse_args()
    torch.set_num_threads(1)
    lines = [
        f"| network | opening | in passes of {EXAMPLES} examples | its passes, and of how many examples |",
        "|---|---:|---:|---|",
    ]
    for name, make in NETWORKS.items():
        model, inputs = make()
        taken, ratio = opening_against_a_pass(model, inputs)
        found = passes(model, inputs)
        parts = sorted(found.items(), reverse=True)
        said = ", ".join(f"{count} of {size} in {kind}" for (size, kind), count in parts)
        lines.append(f"| {name} | {taken:.3f} s | {ratio:.1f} | {found.total()}: {said} |")
    results.show("opening", "\n".join(lines), asked.write)
    lines = [
        f"| network | weights | opening | in passes of {LARGE} | passes | peak memory, in networks |",
        "|---|---:|---:|---:|---:|---:|",
        *map(whole_row, WHOLE),
    ]
    results.show("opening-whole", "\n".join(lines), asked.write)


if __name__ == "__main__":
    main()
