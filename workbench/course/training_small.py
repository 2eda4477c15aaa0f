"""Is a pruned network better than one of its size that starts afresh? Both are trained here, and scored.

``python -m workbench.course.training_small`` writes the record that the notebook on what lies beyond draws:
the digits network at a quarter and an eighth of its widths, after 3 to 90 epochs, from five seeds.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from torch import nn

from workbench.data.randomness import OwnRandomness
from workbench.session.session import Session
from workbench.tuning.finetuning import finetune
from workbench.tuning.settings import Tuning

# The better of 3e-3 and 1e-2 for each, by test accuracy after few epochs: it flatters both alike.
TUNING_RATE, SCRATCH_RATE = 3e-3, 1e-2
BATCH = 64
RECORD = "training_small.json"
WAYS = "fine-tuned", "from scratch"
EXAMPLE, DIVISORS, EPOCHS, SEEDS = "digits-cnn", (4, 8), (3, 10, 30, 90), 5  # of the record


@dataclass(frozen=True)
class Trial:
    """One small network, trained from several seeds, in two ways for as many epochs.

    Attributes:
        parameters: of the small network.
        epochs: of training, fine-tuning and from scratch alike.
        pruned: the score after pruning, before any training.
        tuned: scores after fine-tuning what was pruned, one a seed.
        scratch: scores of networks of the same widths that started from random weights, one a seed.
    """

    parameters: int
    epochs: float
    pruned: float
    tuned: tuple[float, ...]
    scratch: tuple[float, ...]

    def told(self) -> tuple[str, ...]:
        """A row of a table: parameters, epochs, and mean ± spread of each way."""
        ways = (f"{mean:.3f} ± {spread:.3f}" for mean, spread in map(mean_and_spread, self.ways))
        return (f"{self.parameters:,}", f"{self.epochs:g}", f"{self.pruned:.3f}", *ways)

    @property
    def ways(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.tuned, self.scratch


def trained(session: Session, epochs: float, seeds: Iterable[int]) -> Trial:
    """Fine-tune the session's present network, and train one of the same widths from random weights.

    The last network counts in both ways, not the best on the way, and the session is not changed. Learning
    rates are `TUNING_RATE` and `SCRATCH_RATE`; the original's own training is not counted as a cost.

    Args:
        session: with a pruned network, evaluation data, and calibration or training data with targets.
        epochs: of training, the same for both.
        seeds: of the order of examples, and of the random weights.

    Returns:
        The scores.

    Raises:
        ValueError: there is no evaluation data, there are no targets or seeds, or a layer cannot be started
            afresh.
    """
    pruned, many = session.evaluate(), list(seeds)
    if pruned is None or not many:
        raise ValueError("a comparison needs scores: give the session evaluation data, and one seed or more")
    tuned: list[float] = []
    scratch: list[float] = []
    for seed in many:
        for rate, scores in ((TUNING_RATE, tuned), (SCRATCH_RATE, scratch)):
            start = session.model if scores is tuned else started_afresh(session.model, seed)
            data = session.calibration if session.training is None else session.training
            settings = Tuning(epochs=epochs, rate=rate, seed=seed, batch=BATCH)
            scores.append(
                float(session.evaluate(finetune(start, data, settings, loss=session.loss).model) or 0)
            )
    return Trial(session.parameters, epochs, pruned, tuple(tuned), tuple(scratch))


def started_afresh(model: nn.Module, seed: int) -> nn.Module:
    """A copy with random weights, drawn as torch draws them for a new layer of each size.

    Args:
        model: is not changed.
        seed: of the weights; the caller's generators are not moved.

    Returns:
        The copy, in the model's mode.

    Raises:
        ValueError: a module has parameters of its own and no `reset_parameters`; the message names it.
    """
    fresh = copy.deepcopy(model)
    with OwnRandomness(seed).drawing():
        for name, module in fresh.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise ValueError(
                    f"{name or 'the network'} ({type(module).__name__}) has parameters and no "
                    "reset_parameters(): give it one that draws them anew"
                )
    return fresh


def mean_and_spread(scores: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard deviation with n − 1 in the denominator; of one score that is NaN."""
    values = np.asarray(scores, dtype=float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def means_and_spreads(trials: Sequence[Trial]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The curves of a figure: mean and spread of each way, a number a trial."""
    told = {way: [mean_and_spread(trial.ways[index]) for trial in trials] for index, way in enumerate(WAYS)}
    means, spreads = ({way: [pair[k] for pair in pairs] for way, pairs in told.items()} for k in (0, 1))
    return means, spreads


def gap(first: Sequence[float], second: Sequence[float]) -> float:
    """How far apart two means are, in standard errors of their difference (Welch's t).

    Args:
        first: scores, two or more that are not all equal, or `second` is so.
        second: scores, two or more.

    Returns:
        (mean₁ − mean₂) / √(s₁²/n₁ + s₂²/n₂): beyond about 3, chance hardly explains it.
    """
    (one, s), (two, t) = mean_and_spread(first), mean_and_spread(second)
    return (one - two) / float(np.sqrt(s**2 / len(first) + t**2 / len(second)))


def recorded() -> dict[int, list[Trial]]:
    """What this module's command wrote: divisor of every width → trials, fewest epochs first."""
    text = files("workbench.course").joinpath("results", RECORD).read_text("utf-8")
    found: dict[str, list[dict]] = json.loads(text)["trials"]
    return {int(key): [_trial(trial) for trial in trials] for key, trials in found.items()}


def _trial(read: dict) -> Trial:
    return Trial(**{**read, "tuned": tuple(read["tuned"]), "scratch": tuple(read["scratch"])})


def main() -> None:
    """Train and write the record into the package."""
    found: dict[int, list[dict]] = {}
    session = Session.example(EXAMPLE)
    session.measure()
    for divisor in DIVISORS:
        session.reset()
        session.commit_plan({g.name: g.width // divisor for g in session.groups if g.prunable})
        found[divisor] = []
        for epochs in EPOCHS:
            trial = trained(session, epochs, range(SEEDS))
            found[divisor].append(asdict(trial))
            print(divisor, *trial.told(), sep="  ", flush=True)
    path = Path(__file__).parent / "results" / RECORD
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"example": EXAMPLE, "trials": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
