"""Which attributes of its own a module's code multiplies by, read off its source."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache

from workbench.network.rebuilt.code_names import functions_of_forward
from workbench.network.rebuilt.products import (
    LEFT,
    LEFT_BLOCKS,
    LINEAR,
    RIGHT,
    RIGHT_BLOCKS,
    Axes,
    axes_of_equation,
)

Order = tuple[tuple[int, ...], ...]  # axes of a parameter that are blocks, outputs and inputs of a layer
MATMUL, ADDED = {"matmul", "mm", "bmm", "mv"}, {"addmm", "baddbmm"}
AS_IT_IS = {"to", "type", "type_as", "float", "double", "contiguous", "cuda", "cpu"}
TURNED = {"t", "T", "mT"}
DEPTH = 6  # names of names


@lru_cache(maxsize=1024)
def multiplied(kind: type, axes: tuple[tuple[str, int], ...]) -> dict[str, Order]:
    """Names among `axes`, with how many axes each has, by which forward multiplies in one way; and which.

    Args:
        kind: the module's class.
        axes: pairs (attribute, number of axes).

    Returns:
        The order of each one's axes, as those of blocks, of outputs and of inputs. None of attributes that
        are multiplied in two ways, an encoder and its transpose say: no one layer could stand for both.
    """
    counts = dict(axes)
    ways: dict[str, set[Order]] = {}
    written: set[str] = set()
    for function in functions_of_forward(kind):
        with suppress(OSError, TypeError, SyntaxError):  # no source, as of what is typed at a prompt
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
            written |= {
                part.attr  # of self.w and self.w.data, both
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
                for part in (node, node.value)
                if isinstance(part, ast.Attribute)
            }
            for name, order in _Reader(tree, counts).found():
                ways.setdefault(name, set()).add(order)
    return {
        name: next(iter(orders)) for name, orders in ways.items() if len(orders) == 1 and name not in written
    }


class _Reader:
    """Products in the source of one function."""

    def __init__(self, tree: ast.AST, counts: Mapping[str, int]):
        self.tree, self.counts = tree, counts
        first = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
        given = [*first.args.posonlyargs, *first.args.args] if first is not None else []
        self.own = given[0].arg if given else ""
        self.sources: dict[str, list[ast.expr]] = {}  # what stands under a name of its own
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._take(target, [node.value])
            elif isinstance(node, (ast.For, ast.comprehension)) and isinstance(
                node.iter, (ast.Tuple, ast.List)
            ):
                self._take(node.target, node.iter.elts)

    def _take(self, target: ast.expr, values: list[ast.expr]) -> None:
        if isinstance(target, ast.Name):
            self.sources.setdefault(target.id, []).extend(values)

    def found(self) -> Iterator[tuple[str, Order]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
                yield from self._matmul(node.left, node.right)
            elif isinstance(node, ast.Call):
                yield from self._call(node)

    def _call(self, node: ast.Call) -> Iterator[tuple[str, Order]]:
        name = _last_name(node.func)
        given = list(node.args)
        if isinstance(node.func, ast.Attribute) and name in MATMUL and len(given) == 1:
            given.insert(0, node.func.value)  # x.matmul(w)
        if name in MATMUL and len(given) == 2:
            yield from self._matmul(*given)
        elif name in ADDED and len(given) == 3:
            yield from self._matmul(*given[1:])
        elif name == "linear":
            named = [word.value for word in node.keywords if word.arg == "weight"]
            for weight in [*given[1:2], *named]:
                yield from self._one(weight, {2: LINEAR})
        elif name == "einsum" and len(given) == 3:
            for equation in (arg for arg in (given[0], given[2]) if isinstance(arg, ast.Constant)):
                operands = [arg for arg in given if arg is not equation]
                for place, swapped in ((1, False), (0, True)):
                    axes = axes_of_equation(_in_letters(str(equation.value)), swapped)
                    if axes is not None:
                        yield from self._one(operands[place], {len(axes.weight): axes})

    def _matmul(self, left: ast.expr, right: ast.expr) -> Iterator[tuple[str, Order]]:
        yield from self._one(right, {2: RIGHT, 3: RIGHT_BLOCKS})
        yield from self._one(left, {2: LEFT, 3: LEFT_BLOCKS})

    def _one(self, weight: ast.expr, ways: Mapping[int, Axes]) -> Iterator[tuple[str, Order]]:
        for name, turned in self._attributes(weight):
            count = self.counts[name]
            if count in ways:
                axes = list(range(count))
                if turned:
                    axes[-2:] = axes[:-3:-1]
                yield name, tuple(tuple(axes[at] for at in part) for part in ways[count].order)

    def _attributes(self, node: ast.expr, depth: int = 0) -> Iterator[tuple[str, bool]]:
        """Attributes of `self` that an expression may show, and whether the last two axes are exchanged."""
        if depth > DEPTH:
            return
        if isinstance(node, ast.Name):
            for value in self.sources.get(node.id, ()):
                yield from self._attributes(value, depth + 1)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            for name, turned in self._attributes(node.func.value, depth + 1):
                if node.func.attr in AS_IT_IS:
                    yield name, turned
                elif node.func.attr in TURNED or (
                    node.func.attr == "transpose" and _swaps_last(node.args, self.counts[name])
                ):
                    yield name, not turned
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == self.own and node.attr in self.counts:
                yield node.attr, False
            elif node.attr in TURNED:
                yield from ((name, not turned) for name, turned in self._attributes(node.value, depth + 1))


def _in_letters(equation: str) -> str:
    """An equation whose axes are words with spaces between, as einops takes them, with a letter for each."""
    words = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", equation))
    first = equation.partition(",")[0].strip()
    if " " not in first or all(len(word) == 1 for word in words):
        return equation
    letters = {word: chr(ord("a") + at) for at, word in enumerate(words)}
    return re.sub(r"[A-Za-z_]\w*", lambda found: letters[found[0]], equation)


def _swaps_last(args: list[ast.expr], count: int) -> bool:
    try:
        given = {int(ast.literal_eval(arg)) % count for arg in args}
    except (ValueError, TypeError, ZeroDivisionError):
        return False
    return given == {count - 2, count - 1}


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
