"""From what was written back to steps, branches and networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from workbench.network.running import one_line
from workbench.session.recipe import RecipeStep, RefitStep, TuneStep


@dataclass(frozen=True)
class SavedBranch:
    """A branch as it was written: its steps, the scores (the start's first), the weights at its end.

    Those weights replace the recomputed ones: rounding on another machine is no matter. `tuned`: the weights
    after each fine-tuning, by its place among the steps.
    """

    name: str
    steps: Sequence[RecipeStep | TuneStep | RefitStep]
    scores: Sequence[float | None]
    weights: Mapping[str, Tensor]
    tuned: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)

    def shared(self, other: SavedBranch) -> int:
        """How many steps both begin with, up to a fine-tuning: its settings do not say what it led to."""
        count = 0
        scores = zip(self.scores[1:], other.scores[1:], strict=False)
        for mine, its, (a, b) in zip(self.steps, other.steps, scores, strict=False):
            if mine != its or a != b or isinstance(mine, TuneStep):
                break
            count += 1
        return count


def _loaded(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` with these weights. Raises ValueError where they do not fit."""
    model = copy.deepcopy(model)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"the saved weights do not fit the recipe: {one_line(error)}") from error
    return model


def _same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Bit for bit, NaN for NaN."""
    mine, its = a.state_dict(), b.state_dict()
    return all(torch.equal(mine[key].nan_to_num(), its[key].nan_to_num()) for key in mine)
