"""What Python and the page both need to know, said once: the page imports it as the module constants.js."""

from __future__ import annotations

import json
from typing import Any

from workbench.course.glossary import term
from workbench.pruning.choice import DEFAULT_THETA, RECONSTRUCTIONS
from workbench.pruning.damage import SHARES as DAMAGE_SHARES
from workbench.pruning.problem import BUDGET_LAM
from workbench.pruning.theory_sweeps import LAMS
from workbench.session.session import PROCEDURES
from workbench.spectral.bounds import COUNT_TOLERANCE
from workbench.spectral.regression import FIT_LAM
from workbench.spectral.selection import GREEDY, SELECTIONS, SWAPPED

LAM_MIN, LAM_MAX = 1e-10, 1.0  # of λ / Tr Σ, the ends of the sliders
START_LAM = 1e-3
REQUEST = ("lam", "width", "theta", "selection", "reconstruction", "reestimate", "position", "revision")
# What the page moves ahead of the kernel: no echo, which would pull a drag back, but see hearing.py.
AHEAD = ("lam", "width", "theta", "widths", "locks", "budget_lam", "goal", "ways", "tuning")
OPTIONS = ("theta", "selection", "reconstruction", "reestimate")  # how a group is pruned, wherever
FITTED = ("kernel", "original")  # reconstructions whose fit takes λ up to FIT_LAM alone
BIASED = "original"  # the reconstruction that gives readers a bias that they had not
LED_BY_LAM = (GREEDY, SWAPPED, "leverage")  # selections that take other units at another λ

MULTIPLES = (1, 8, 16)
REFINED = (0, 30, 120, 600)  # seconds that the rule "damage" may measure plans
GOAL: dict[str, Any] = {
    "target": "50 %", "unit": "macs", "minimum": 1, "multiple": MULTIPLES[0], "refine": REFINED[0],
}  # fmt: skip
SESSION_UNITS = {"macs": "macs", "parameters": "parameters", "ms": "seconds", "mb": "megabytes"}

SHARES = tuple(sorted(DAMAGE_SHARES, reverse=True))  # of a group's width, in the sensitivity sweep
RATIOS = (1.5, 2.0, 3.0, 5.0)  # times fewer MACs than the original
BUDGET = "budget"  # compared at the budget tab's widths, and not by a rule at RATIOS
WAYS: dict[str, Any] = {
    "selections": ["greedy", "leverage", "random", "magnitude-l1"],
    "reconstructions": ["none", "channel"],
    "reestimate": False,
    "theta": DEFAULT_THETA,
    "at": BUDGET,
}
NOT_COMPARED = "reader-l2"
NEEDS_LABELS = "taylor"
SHORT_WORDS = ("apoz", "mean-activation")  # short enough to share a line in the form of a comparison

AT_LAM, AS_COMMITTED = "lam", "committed"  # of which pruned network the theory tab speaks

SETTINGS: dict[str, Any] = {
    "amount": "1", "unit": "epochs", "rate": "0.001", "batch": "128", "distill": "0", "match": "0",
    "flips": False, "shifts": "0",
}  # fmt: skip
AMOUNTS = ("epochs", "steps")
FLIPS_AGAINST = (("before", "against the step before"), ("original", "against the original"))
FLIPS_PAGE = 24  # examples that changed, shown at once, and how many more each time

# Words of the menus and buttons: what stands there, what it is called elsewhere, and its hint.
SELECTION_WORDS = {
    GREEDY: ("greedy (spectral)", "greedy", ""),
    SWAPPED: (
        "greedy, swaps [beyond]",
        "greedy-swap",
        "Beyond the paper: a kept and a lost unit change places while the combined loss falls",
    ),
    "leverage": ("leverage sampling", "leverage", ""),
    "random": ("random", "random", ""),
    "magnitude-l1": ("magnitude, L1", "L1", ""),
    "magnitude-l2": ("magnitude, L2", "L2", ""),
    "reader-l2": ("reader's columns, L2", "reader-l2", ""),
    "apoz": ("APoZ", "apoz", ""),
    "mean-activation": ("mean activation", "mean", ""),
    "taylor": ("Taylor", "taylor", "Activation × gradient of the training loss; needs labels"),
}
RECONSTRUCTION_WORDS = {
    "channel": ("Â, the paper's", "Â", "The reader takes the lost units' part through the kept ones"),
    "kernel": (
        "kernel: patches [beyond]",
        "kernel",
        "Beyond the paper: least squares on the reader's patches, one pass over the calibration data at Try "
        "and Commit",
    ),
    "original": (
        "original: against the unpruned network [beyond]",
        "original",
        "Beyond the paper: least squares against the unpruned network's outputs, with a bias, one pass a "
        "reader at Try and Commit",
    ),
    "none": ("none", "none", "The kept units' weights stay as they are"),
}
RULE_WORDS = {
    "equal": ("Equal share", "equal share", "Every group keeps the same share of its units"),
    "shared": ("One λ", "one λ for all", "Every group keeps ⌈N(λ)⌉ units, at one λ relative to its trace"),
    "least": (
        "Least loss",
        "least loss per cost [beyond]",
        "Units go one at a time where the output loss rises least for the cost saved [beyond the paper]",
    ),
    "damage": (
        "Least damage",
        "least damage [beyond]",
        "The widths whose pruning changes the outputs least by measurement: each group alone at some widths, "
        "without labels [beyond the paper]",
    ),
}
# The term of the glossary that explains an option of the menus, or a rule.
TERM_OF = {name: term(name).name for name in (*SELECTIONS, *RECONSTRUCTIONS, *RULE_WORDS) if name != "none"}
TERM_OF["leverage"] = "leverage sampling"  # the selection, not the scores
UNIT_WORDS = {"macs": "MACs", "parameters": "parameters", "ms": "ms", "mb": "MB"}  # of a target
# How targets are read; "" is the default, which is nobody's word.
METRIC_WORDS = {
    "": ("as the targets say", "Classes, labels or values, as the targets and outputs fit"),
    "accuracy": ("accuracy", "The class of the largest output is the target; of tokens and pixels too"),
    "token accuracy": ("token accuracy", "The same, over the tokens of every example"),
    "pixel accuracy": ("pixel accuracy", "The same, over the pixels of every example"),
    "label accuracy": ("label accuracy", "Every output is yes or no by itself"),
    "R²": ("R²", "Targets are values: the share of their variance that the outputs explain"),
}
CLASSES_WORDS = {
    "": ("the axis that fits", "Where both fit, the network is asked"),
    "last": ("last axis", "Outputs (n, length, classes)"),
    "second": ("second axis", "Outputs (n, classes, length)"),
}
FORMAT_WORDS = {
    "safetensors": ("model.safetensors", "weights and shapes, with recipe and README"),
    "pt2": ("model.pt2", "opens with torch alone"),
    "onnx": ("model.onnx", "opens with ONNX Runtime alone"),
}


def page_constants() -> dict[str, Any]:
    """The constants by their names in the page, as values that JSON has; menus are [name, words, …, hint]."""
    return {
        "LAM_MIN": LAM_MIN,
        "LAM_MAX": LAM_MAX,
        "FIT_LAM": FIT_LAM,
        "BUDGET_LAM": BUDGET_LAM,
        "COUNT_TOLERANCE": COUNT_TOLERANCE,
        "REQUEST": REQUEST,
        "OPTIONS": OPTIONS,
        "AHEAD": AHEAD,
        "FITTED": FITTED,
        "BIASED": BIASED,
        "LED_BY_LAM": LED_BY_LAM,
        "PROCEDURES": PROCEDURES,
        "SELECTIONS": [[name, *SELECTION_WORDS[name]] for name in SELECTION_WORDS if name in SELECTIONS],
        "RECONSTRUCTIONS": [[name, *RECONSTRUCTION_WORDS[name]] for name in RECONSTRUCTIONS],
        "TERM_OF": TERM_OF,
        "RULES": [[name, *words] for name, words in RULE_WORDS.items()],
        "UNITS": list(UNIT_WORDS.items()),
        "MULTIPLES": MULTIPLES,
        "REFINED": REFINED,
        "SHARES": SHARES,
        "RATIOS": RATIOS,
        "BUDGET": BUDGET,
        "WAYS": WAYS,
        "NOT_COMPARED": NOT_COMPARED,
        "SWEPT_LAMS": LAMS,
        "AT_LAM": AT_LAM,
        "AS_COMMITTED": AS_COMMITTED,
        "NEEDS_LABELS": NEEDS_LABELS,
        "SHORT_WORDS": SHORT_WORDS,
        "SWAPPED": SWAPPED,
        "SETTINGS": SETTINGS,
        "AMOUNTS": AMOUNTS,
        "FLIPS_AGAINST": FLIPS_AGAINST,
        "FLIPS_PAGE": FLIPS_PAGE,
        "METRICS": [[name, *words] for name, words in METRIC_WORDS.items()],
        "CLASSES": [[name, *words] for name, words in CLASSES_WORDS.items()],
        "FORMATS": [[name, *words] for name, words in FORMAT_WORDS.items()],
    }


def constants_module() -> str:
    """The text of constants.js: an export a line."""
    lines = [
        f"export const {name} = {json.dumps(value, ensure_ascii=False)};"
        for name, value in page_constants().items()
    ]
    return "\n".join(["// Made by workbench/widgets/constants.py.", "", *lines, ""])
