"""torch-pruning on a network of the census: each group alone, against zeroed columns of its readers."""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from census_networks import Network
from census_row import EXAMPLES, in_double, outputs, said, within
from census_table import PRECISE, ROUGH, Row
from silencing import difference, lively
from torch import Tensor, nn

from workbench.network.running import call

SHARE = 0.3  # of its units that a group loses
SECONDS = 10.0  # of the processor, after which no other group is tried
GROUPING = 6.0  # seconds of the processor for listing the groups, which for some networks never ends
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


class Beside:
    """What torch-pruning makes of a network that it is given with nothing but an example."""

    def __init__(self, network: Network, keep: Callable[[Row], None]):
        self.keep = keep
        torch.manual_seed(0)
        self.model, self.limit = lively(network.build()), PRECISE
        example = network.inputs(EXAMPLES, network.sizes[0])
        self.example = in_double(example)
        try:
            self.whole = outputs(self.model, self.example)
        except Exception:  # it makes float32 numbers on its way
            self.model, self.limit, self.example = self.model.float(), ROUGH, example
            self.whole = outputs(self.model, self.example)
        self.row: Row = {"right": 0, "differs": 0, "breaks": 0, "output": 0, "share": 0.0, "stage": "opening"}
        self.went: dict[tuple[int, int], Tensor] = {}

    def run(self) -> Row:
        self.keep(self.row)
        try:
            start = time.process_time()
            self.graph = self._graph()
            self.row["open seconds"] = time.process_time() - start
            with within(GROUPING):
                groups = self._groups()
        except Exception as error:
            self.row |= {"error": said(error), "stage": "done"}
            self.keep(self.row)
            return self.row
        self.row["groups"] = len(groups)
        end = time.process_time() + SECONDS
        for root, act, width in groups:
            if time.process_time() > end:
                self.row["not tried"] = len(groups) - sum(self.row[k] for k in KINDS)
                break
            self.row[self._tried(root, act, width)] += 1
        self.row |= {"share": self._share(), "stage": "done"}
        self.keep(self.row)
        return self.row

    def _graph(self) -> Any:
        import torch_pruning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch_pruning.DependencyGraph().build_dependency(
                self.model, self.example, forward_fn=call, verbose=False
            )

    def _groups(self) -> list[tuple[nn.Module, Any, int]]:
        """Every group by the layer at its root, with how many channels that has."""
        found = []
        for group in self.graph.get_all_groups(root_module_types=list(LAYERS)):
            dependency, indices = group[0]
            found.append((dependency.target.module, dependency.handler, len(indices)))
        return found

    def _tried(self, root: nn.Module, act: Any, width: int) -> str:
        """What pruning some channels of one group does; the network is put back afterwards."""
        if width < 2:
            return "breaks"
        lost = sorted(random.Random(0).sample(range(width), max(1, int(SHARE * width))))
        kept_as_is, parameters = snapshot(self.model), False
        try:
            group = self.graph.get_pruning_group(root, act, lost)
            parameters = any(not isinstance(d.target.module, nn.Module) for d, _ in group)
            expected = self._zeroed(group)
            group.prune()
            ours = outputs(self.model, self.example)
        except Exception:
            return "breaks"
        finally:
            put_back(kept_as_is)
            if parameters:
                self.graph = self._graph()
        if [t.shape for t in ours] != [t.shape for t in self.whole]:
            return "output"
        if not difference(ours, expected) < self.limit:
            return "differs"
        self._note(self.graph.get_pruning_group(root, act, list(range(width))))
        return "right"

    def _zeroed(self, group: Any) -> list[Tensor]:
        """What the network returns with the columns zeroed that the group takes from its readers."""
        before: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for module, indices in ((d.target.module, i) for d, i in group if is_reading(d)):
                weight = module.weight
                before.append((weight, weight.clone()))
                weight.index_fill_(input_axis(module), torch.as_tensor(indices), 0.0)
            try:
                return outputs(self.model, self.example)
            finally:
                for weight, values in reversed(before):
                    weight.copy_(values)

    def _note(self, group: Any) -> None:
        for dependency, indices in group:
            module = dependency.target.module
            weight = getattr(module, "weight", None)
            if not isinstance(module, nn.Module) or weight is None:
                continue
            axis = input_axis(module) if is_reading(dependency) else output_axis(module)
            for name, tensor in module.named_parameters(recurse=False):
                if name == "weight" or not is_reading(dependency):
                    part = axis if name == "weight" else 0
                    gone = self.went.setdefault(
                        (id(tensor), part), torch.zeros(tensor.shape[part], dtype=torch.bool)
                    )
                    gone[[i for i in indices if i < len(gone)]] = True

    def _share(self) -> float:
        """Of the parameters, those in rows or columns of groups that were right."""
        gone = total = 0
        for tensor in self.model.parameters():
            total += tensor.numel()
            left = tensor.numel()
            for axis in (0, 1):
                mask = self.went.get((id(tensor), axis))
                if mask is not None:
                    left = left * int((~mask).sum()) // len(mask)
            gone += tensor.numel() - left
        return gone / total


KINDS = ("right", "differs", "breaks", "output")


def is_reading(dependency: Any) -> bool:
    module = dependency.target.module
    return isinstance(module, LAYERS) and "in_channels" in getattr(dependency.handler, "__name__", "")


def input_axis(module: nn.Module) -> int:
    return 0 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 1


def output_axis(module: nn.Module) -> int:
    return 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0


def snapshot(model: nn.Module) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Every module's attributes, with the tables of its tensors; no tensor is copied."""
    tables = ("_parameters", "_buffers", "_modules")
    return [(m, m.__dict__ | {key: copy.copy(m.__dict__[key]) for key in tables}) for m in model.modules()]


def put_back(kept: list[tuple[nn.Module, dict[str, Any]]]) -> None:
    for module, attributes in kept:
        module.__dict__.clear()
        module.__dict__.update(attributes)
