"""What measuring costs, against a forward pass and one float32 product XᵀX for each distinct reader input.

`python tests/benchmarks/measuring.py [--write]` takes two minutes on one core. All weights are random.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import results
import torch
from family_images import CifarResNet
from torch import Tensor, nn

from workbench.data.batches import BATCH_SIZE, as_batches
from workbench.examples.architectures import NN3
from workbench.measure.moments import measure_moments
from workbench.network.finding.proof import find_groups
from workbench.network.groups import UnitGroup
from workbench.network.running import Inputs, batch_length, call, received
from workbench.spectral.moment import Moment
from workbench.spectral.products import Sums


def resnet20(examples: int = BATCH_SIZE) -> tuple[nn.Module, Inputs]:
    return CifarResNet(20), torch.randn(examples, 3, 32, 32)


def nn3() -> tuple[nn.Module, Inputs]:
    return NN3(784), torch.randn(BATCH_SIZE, 784)


def vit(width: int = 192, heads: int = 3, size: int = 64) -> tuple[nn.Module, Inputs]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=width, num_hidden_layers=4, num_attention_heads=heads, intermediate_size=4 * width,
        image_size=size, patch_size=8,
    )  # fmt: skip
    return ViTForImageClassification(config), {"pixel_values": torch.randn(16, 3, size, size)}


def llama(width: int = 256, heads: int = 4, tokens: int = 64) -> tuple[nn.Module, Inputs]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=512, hidden_size=width, num_hidden_layers=4, num_attention_heads=heads,
        num_key_value_heads=heads // 2, intermediate_size=688 * width // 256, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config), {"input_ids": torch.randint(3, 512, (16, tokens))}


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {
    "ResNet-20": resnet20,
    "NN3": nn3,
    "a small ViT": vit,
    "a small LLaMA": llama,
}


# Network, sizes, batches. NN3 twice: fewer samples than units, up to 1,000, are multiplied in float64.
ROWS: list[tuple[str, dict[str, int], int]] = [
    ("ResNet-20", {"examples": 64}, 4),
    ("ResNet-20", {}, 4),
    ("NN3", {}, 4),
    ("NN3", {}, 40),
    ("a small ViT", {}, 4),
    ("a small LLaMA", {}, 4),
]


def opened(name: str, **sizes: int) -> tuple[nn.Module, Inputs, list[UnitGroup]]:
    """A network with random weights, a batch, and its prunable groups."""
    torch.manual_seed(0)
    model, inputs = NETWORKS[name](**sizes)
    model.eval()
    groups = find_groups(model, inputs)
    return model, inputs, [group for group in groups if group.prunable]


def caught(model: nn.Module, inputs: Inputs, groups: list[UnitGroup], use: Callable) -> None:
    """Run the model; `use(group, index, tensor)` gets what every reader of every group receives."""
    handles = [
        model.get_submodule(reader.module).register_forward_pre_hook(
            lambda _m, args, kwargs, group=group, index=index: use(group, index, received(args, kwargs)),
            with_kwargs=True,
        )
        for group in groups
        for index, reader in enumerate(group.readers)
    ]
    try:
        with torch.no_grad():
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


def distinct(model: nn.Module, inputs: Inputs, groups: list[UnitGroup]) -> list[Tensor]:
    """The samples, (n, m) float32, of every group at each tensor that readers of it receive."""
    seen: list[tuple[Tensor, str, list[int], Tensor]] = []  # tensors are held, so that each stays itself

    def keep(group: UnitGroup, index: int, tensor: Tensor) -> None:
        columns = group.readers[index].columns.flatten().tolist()
        if not any(one is tensor and (name, c) == (group.name, columns) for one, name, c, _ in seen):
            samples = group.readers[index].samples(tensor).float().contiguous()
            seen.append((tensor, group.name, columns, samples))

    caught(model, inputs, groups, keep)
    return [samples for *_, samples in seen]


def in_float64(
    model: nn.Module, batches: list[Inputs], groups: list[UnitGroup]
) -> dict[tuple[str, int], Moment]:
    """The definition, and what measuring was: every reader by itself, a sample a row, in float64."""
    found: dict[tuple[str, int], Moment] = {}

    def add(group: UnitGroup, index: int, tensor: Tensor) -> None:
        samples = group.readers[index].samples(tensor.detach())
        if not torch.isfinite(samples).all():
            raise ValueError(f"{group.readers[index].module} receives NaN or Inf")
        found.setdefault((group.name, index), Moment.zeros(group.width)).update(samples)
        if index == 0:
            (samples != 0).sum(0).double()
            samples.abs().sum(0, dtype=torch.float64)

    for inputs in batches:
        caught(model, inputs, groups, add)
    return found


def seconds(call_: Callable[[], Any]) -> float:
    """Processor time: other work on the machine comes and goes."""
    start = time.process_time()
    call_()
    return time.process_time() - start


def costs(name: str, sizes: dict[str, int], count: int, rounds: int = 7) -> dict[str, float]:
    """Seconds of a forward pass and of the limit; measuring, and in float64, as multiples of the limit."""
    model, inputs, groups = opened(name, **sizes)
    samples = distinct(model, inputs, groups)
    data = as_batches([(inputs, None)] * count)
    parts: dict[str, Callable[[], Any]] = {
        "forward": lambda: [caught(model, inputs, [], print) for _ in range(count)],
        "products": lambda: [one.T @ one for _ in range(count) for one in samples],
        "in float64": lambda: in_float64(model, [inputs] * count, groups),
        "measuring": lambda: measure_moments(model, groups, data),
    }
    found: list[dict[str, float]] = []
    for _ in range(rounds + 1):  # turn by turn, the first to warm up
        found.append({part: seconds(run) for part, run in parts.items()})
    # The least of many: what other work on the machine adds is added to all.
    least = {part: min(one[part] for one in found[1:]) for part in parts}
    limit = least["forward"] + least["products"]
    return {
        "forward": least["forward"],
        "limit": limit,
        "in float64": least["in float64"] / limit,
        "measuring": least["measuring"] / limit,
    }


def off(name: str, count: int = 1, **sizes: int) -> float:
    """The largest difference of an entry from the definition's, as a share of the trace."""
    model, inputs, groups = opened(name, **sizes)
    found = measure_moments(model, groups, as_batches([(inputs, None)] * count))
    worst = 0.0
    for (group, index), moment in in_float64(model, [inputs] * count, groups).items():
        difference = (found[group].moments[index].matrix - moment.matrix).abs().max()
        worst = max(worst, float(difference / moment.matrix.trace()))
    return worst


def work(name: str, **sizes: int) -> Counter[str]:
    """What a batch takes, counted.

    Tensors multiplied, distinct tensors that readers receive, readers, numbers that readers receive, and
    how many of these were made float64.
    """
    return counted(*opened(name, **sizes))


def shared(width: int) -> Counter[str]:
    """The same of a layer whose output three others read, as queries, keys and values are read."""

    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(7, width)
            self.q, self.k, self.v = (nn.Linear(width, 5) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.stem(x).relu()
            return self.q(hidden) * self.k(hidden) + self.v(hidden)

    torch.manual_seed(0)
    model, inputs = Three().eval(), torch.randn(101, 7)
    groups = [group for group in find_groups(model, inputs) if group.prunable]
    return counted(model, inputs, groups)


def counted(model: nn.Module, inputs: Inputs, groups: list[UnitGroup]) -> Counter[str]:
    """What measuring a batch takes, as `work` says."""
    samples = distinct(model, inputs, groups)
    found = Counter(
        distinct=len(samples), received=sum(one.numel() for one in samples),
        readers=sum(len(group.readers) for group in groups),
    )  # fmt: skip
    take, double = Sums.take, Tensor.double

    def multiplied(self: Sums, activations: Tensor, activity: bool = False) -> None:
        found["multiplied"] += 1
        take(self, activations, activity)

    def converted(self: Tensor) -> Tensor:
        found["converted"] += self.numel()
        return double(self)

    with mock.patch.object(Sums, "take", multiplied), mock.patch.object(Tensor, "double", converted):
        measure_moments(model, groups, as_batches([(inputs, None)]))
    return found


def main() -> None:
    asked = results.options(__doc__).parse_args()
    torch.set_num_threads(1)
    lines = [
        "| network | examples | forward passes | limit | in float64, reader by reader | measuring | off by |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, sizes, count in ROWS:
        cost = costs(name, sizes, count)
        lines.append(
            f"| {name} | {count} × {batch_length(opened(name, **sizes)[1])} "
            f"| {1000 * cost['forward']:.0f} ms "
            f"| {cost['limit'] / cost['forward']:.2f} × forward | {cost['in float64']:.2f} × limit "
            f"| {cost['measuring']:.2f} × limit | {off(name, count, **sizes):.0e} |"
        )
    results.show("measuring", "\n".join(lines), asked.write)


if __name__ == "__main__":
    main()
