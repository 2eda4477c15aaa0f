"""What a network would cost at other widths, without building it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from workbench.network.cost import Cost
from workbench.network.groups import UnitGroup, is_grouped
from workbench.network.layers import is_linear_layer, layer_weight, output_count


@dataclass(frozen=True)
class Term:
    """A part of the network whose cost depends on widths: (rows left) · (columns left) of its whole.

    `rows`, `columns`: of the whole; `lost_rows`, `lost_columns`: (group index, rows a unit) pairs.
    `parameters`, `macs`: at full size, spread evenly over rows · columns; `biases`: parameters a row beside;
    `new_biases`: those that a row gets once columns are lost, where readers are given a bias. `name`: the
    module.
    """

    name: str
    rows: int
    columns: int
    parameters: int
    macs: int
    biases: int
    lost_rows: tuple[tuple[int, int], ...]
    lost_columns: tuple[tuple[int, int], ...]
    new_biases: int = 0


@dataclass(frozen=True)
class CostModel:
    """Exact parameters and MACs of a network as a function of its groups' widths.

    `groups` and `widths`: the prunable groups' names and present widths, the order of every list of widths
    below. A test holds it against the cost of pruned networks.
    """

    groups: tuple[str, ...]
    widths: tuple[int, ...]
    parameters: int
    macs: int
    terms: tuple[Term, ...]

    @classmethod
    def of(cls, model: nn.Module, groups: Sequence[UnitGroup], cost: Cost) -> CostModel:
        """`cost` is `count_cost` of `model`; groups that are not prunable stay as they are."""
        prunable = [group for group in groups if group.prunable]
        rows: dict[str, list[tuple[int, int]]] = {}
        columns: dict[str, list[tuple[int, int]]] = {}
        terms: list[Term] = []
        for index, group in enumerate(prunable):
            for writer in (*group.writers, *group.norms):
                rows.setdefault(writer.module, []).append((index, writer.rows.shape[1]))
            for reader in group.readers:
                columns.setdefault(reader.module, []).append((index, reader.positions))
            for part in group.held:
                if is_linear_layer(
                    model.get_submodule(part.module)
                ):  # training mode's own: its rows may go too
                    columns.setdefault(part.module, []).append((index, part.indices.shape[1]))
                    continue
                tensor = getattr(model.get_submodule(part.module), part.tensor)
                if isinstance(tensor, nn.Parameter):
                    whole, each = tensor.shape[part.dim], part.indices.shape[1]
                    name = f"{part.module}.{part.tensor}".lstrip(".")
                    terms.append(Term(name, whole, 1, tensor.numel(), 0, 0, ((index, each),), ()))
            if group.work:
                work = group.work * group.width
                terms.append(Term(group.name, group.width, 1, 0, work, 0, ((index, 1),), ()))
        for name in dict.fromkeys([*rows, *columns]):
            own = cost.by_module.get(name, (0, 0))
            module = model.get_submodule(name)
            terms.append(_term(name, module, own, tuple(rows.get(name, ())), tuple(columns.get(name, ()))))
        return cls(
            tuple(group.name for group in prunable),
            tuple(group.width for group in prunable),
            cost.parameters,
            cost.macs,
            tuple(terms),
        )

    def total(self, widths: Mapping[str, int], biased: bool = False) -> tuple[int, int]:
        """(parameters, MACs) where each group named in `widths` keeps so many units, the others all.

        `biased`: every reader of fewer units has a bias then, also one that had none, as the reconstruction
        "original" leaves it.
        """
        lost = [m - widths.get(name, m) for name, m in zip(self.groups, self.widths, strict=True)]
        parameters, macs = self.parameters, self.macs
        for term in self.terms:
            less, work = saved(term, lost, biased)
            parameters, macs = parameters - less, macs - work
        return parameters, macs


def saved(term: Term, lost: Sequence[int], biased: bool = False) -> tuple[int, int]:
    """(parameters, MACs) that a term loses where group i loses `lost[i]` units; `biased` as for `total`."""
    rows = sum(lost[index] * each for index, each in term.lost_rows)
    columns = sum(lost[index] * each for index, each in term.lost_columns)
    whole = term.rows * term.columns
    gone = whole - (term.rows - rows) * (term.columns - columns)
    added = term.new_biases * (term.rows - rows) if biased and columns else 0
    return term.parameters * gone // whole + term.biases * rows - added, term.macs * gone // whole


def _term(
    name: str, module: Any, own: tuple[int, int], rows: tuple[tuple[int, int], ...], columns: tuple
) -> Term:
    if is_grouped(module) or not (is_linear_layer(module) or isinstance(module, nn.Embedding)):
        return Term(name, output_count(module), 1, own[0], own[1], 0, rows, ())
    weight = layer_weight(module)
    bias = 1 if getattr(module, "bias", None) is not None else 0
    outputs, inputs = weight.shape[:2]
    return Term(name, outputs, inputs, weight.numel(), own[1], bias, rows, columns, 1 - bias)


def cost_saved(
    cost: Cost, group: UnitGroup, width: int, model: nn.Module, biased: bool = False
) -> tuple[int, int]:
    """(parameters, MACs) that go when `group` keeps `width` of its units, without building the model.

    `cost` is `count_cost` of `model`; `biased` as for `CostModel.total`.
    """
    whole = CostModel.of(model, [group], cost)
    if not whole.groups:
        return 0, 0
    parameters, macs = whole.total({group.name: width}, biased)
    return cost.parameters - parameters, cost.macs - macs


class Total:
    """A cost as a function of the widths, with its terms' coefficients as plain numbers."""

    def __init__(
        self,
        model: CostModel,
        whole: float,
        each: Callable[[Term], tuple[float, float]],
        biased: bool = False,
        new_bias: Callable[[Term], float] = lambda term: term.new_biases,
        beside: Sequence[tuple[Term, float, float]] = (),
    ):
        """`each`: what a row·column of a term costs, and a row beside; `beside`: more terms, with these two.

        `new_bias`: what a bias costs a row that gets one.
        """
        self.model, self.whole, self.biased = model, whole, biased
        self.terms = [*((term, *each(term)) for term in model.terms), *beside]
        self.new_bias = [new_bias(term) for term, _, _ in self.terms]
        self.touching: list[list[int]] = [[] for _ in model.groups]
        for index, (term, _, _) in enumerate(self.terms):
            for group in {g for g, _ in (*term.lost_rows, *term.lost_columns)}:
                self.touching[group].append(index)

    def of_term(self, index: int, widths: Sequence[int]) -> float:
        """What term `index` costs."""
        term, product, row = self.terms[index]
        rows, columns = term.rows, term.columns
        for group, each in term.lost_rows:
            rows -= (self.model.widths[group] - widths[group]) * each
        for group, each in term.lost_columns:
            columns -= (self.model.widths[group] - widths[group]) * each
        if self.biased and columns < term.columns:
            row += self.new_bias[index]
        return product * rows * columns + row * rows

    def total(self, widths: Sequence[int]) -> float:
        fixed = self.whole - sum(self.of_term(i, self.model.widths) for i in range(len(self.terms)))
        return fixed + sum(self.of_term(i, widths) for i in range(len(self.terms)))

    def saving(self, group: int, width: int, widths: list[int]) -> float:
        """What goes when `group` goes from its present width to `width`."""
        before = sum(self.of_term(i, widths) for i in self.touching[group])
        present, widths[group] = widths[group], width
        after = sum(self.of_term(i, widths) for i in self.touching[group])
        widths[group] = present
        return before - after


def spread(term: Term, amount: float) -> float:
    return amount / (term.rows * term.columns)
