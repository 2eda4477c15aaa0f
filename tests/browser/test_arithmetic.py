"""The page's arithmetic, run as the modules it is, equals Python's: spectra, widths, costs, roundings."""

import math
import random

import numpy as np
import pytest
import torch
from front_modules import ADDRESS, FILES, run

from workbench.network.cost_model import CostModel, Term, Total
from workbench.pruning.budget import GroupBudget, Limits, widths_at
from workbench.spectral.bounds import (
    generalisation_bias,
    generalisation_variance,
    guaranteed_width,
    suggested_width,
)
from workbench.spectral.spectrum import Spectrum
from workbench.widgets.frontier import memory_values


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_a_module_that_the_browser_links(modules, file):
    names = modules.evaluate("async (file) => Object.keys(await import(file))", ADDRESS + file)
    assert names


def test_math_and_cost_export_plain_functions(modules):
    expected = {
        "math.js": {
            "traceOf",
            "degreesOfFreedom",
            "lamForWidth",
            "suggestedWidth",
            "guaranteedWidth",
            "biasAndVariance",
        },
        "cost.js": {"portion", "costAt", "memoryAt", "allowedWidth", "widthsAt"},
    }
    for file, names in expected.items():
        assert set(modules.evaluate("async (f) => Object.keys(await import(f))", ADDRESS + file)) == names


def test_degrees_of_freedom_and_the_lambda_of_a_width(modules):
    generator = torch.Generator().manual_seed(3)
    random.seed(3)
    cases = []
    for m in (1, 2, 13, 64, 257):
        samples = torch.randn(m + 5, m, generator=generator, dtype=torch.float64)
        samples *= torch.logspace(0, -6, m, dtype=torch.float64)
        spectrum = Spectrum.of(samples.T @ samples)
        for _ in range(20):
            lam = spectrum.trace * 10 ** random.uniform(-9, 0)
            cases.append((spectrum, lam, random.uniform(0.1, 0.95) * spectrum.rank))
    answers = run(
        modules,
        "math.js",
        "const v = Float64Array.from(one.values); const N = m.degreesOfFreedom(v, one.lam);"
        " return [N, m.lamForWidth(v, one.width), m.suggestedWidth(v, one.lam), m.guaranteedWidth(N)];",
        [{"values": s.eigenvalues.tolist(), "lam": lam, "width": width} for s, lam, width in cases],
    )
    for (spectrum, lam, width), (freedom, solved, suggested, guaranteed) in zip(cases, answers, strict=True):
        expected = spectrum.degrees_of_freedom(lam)
        assert freedom == pytest.approx(expected, rel=1e-12)
        assert spectrum.degrees_of_freedom(solved) == pytest.approx(width, rel=1e-9)
        assert suggested == suggested_width(expected, spectrum.width)
        assert guaranteed == guaranteed_width(expected)


def test_the_lambda_of_a_width_that_no_lambda_has_is_the_floor(modules):
    low_rank = Spectrum.of(torch.diag(torch.tensor([2.0, 1.0, 0.0, 0.0], dtype=torch.float64)))
    cases = [{"values": low_rank.eigenvalues.tolist(), "width": width} for width in (2, 3, 4)]
    body = "return m.lamForWidth(Float64Array.from(one.values), one.width);"
    assert run(modules, "math.js", body, cases) == [low_rank.lam_for(width) for width in (2, 3, 4)]
    assert run(modules, "math.js", body, [{"values": [0.0, 0.0], "width": 1}]) == [0.0]


def test_bias_and_variance(modules):
    rng = random.Random(7)
    cases = []
    for groups in (1, 2, 5):
        spectra = [random_group(rng)[0] for _ in range(groups)]
        stretch = {
            "factors": [10 ** rng.uniform(-1, 3) for _ in spectra],
            "inputs": rng.randint(1, 90),
            "outputs": rng.randint(1, 90),
        }
        for _ in range(10):
            cases.append((spectra, stretch, rng.randint(2, 10**6), 10 ** rng.uniform(-9, 0)))
    answers = run(
        modules,
        "math.js",
        "const spectra = one.spectra.map((v) => Float64Array.from(v));"
        " const found = m.biasAndVariance(spectra, one.stretch, one.n, one.lam);"
        " return [found.bias, found.variance];",
        [{"spectra": [s.tolist() for s in a], "stretch": b, "n": n, "lam": lam} for a, b, n, lam in cases],
    )
    for (spectra, stretch, samples, relative), found in zip(cases, answers, strict=True):
        lams = [relative * math.fsum(values) for values in spectra]
        freedom = [
            math.fsum(values / (values + lam)) if lam else 0.0
            for values, lam in zip(spectra, lams, strict=True)
        ]
        kept = [suggested_width(n, len(values)) for n, values in zip(freedom, spectra, strict=True)]
        widths = [stretch["inputs"], *kept, stretch["outputs"]]
        expected = generalisation_bias(lams, stretch["factors"]), generalisation_variance(widths, samples)
        assert found == pytest.approx(expected, rel=1e-9)


def equal_spectrum(m, units):
    """m equal eigenvalues, and the relative λ at which N(λ) is `units` to the last digit of the sum."""
    return np.ones(m), (m / units - 1) / m


def random_group(rng):
    """A spectrum and a λ relative to its trace, a third of them with N(λ) a whole number."""
    m = rng.choice([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 64, 100])
    if rng.random() < 0.1:
        return np.zeros(m), 10 ** rng.uniform(-10, 0)
    if rng.random() < 0.35 and m > 1:
        return equal_spectrum(m, rng.randint(1, m - 1))
    values = np.sort(10 ** np.array([rng.uniform(-12, 2) for _ in range(m)]))[::-1]
    if rng.random() < 0.2:
        values[rng.randint(1, m) :] = 0.0
    return values, 10 ** rng.uniform(-10, 0)


def random_limits(rng):
    minimum = rng.choice([1, 1, 2, 5, 8, 13, 40, 500])
    return minimum, rng.choice([1, 1, 2, 3, 8, 16, 32, 500])


def slow_width(values, lam, minimum, multiple):
    """The least width that may be had and holds N(λ): by trying every one. Independent of both sides."""
    m, trace = len(values), math.fsum(values)
    freedom = math.fsum(mu / (mu + lam * trace) for mu in values if mu > 0)
    may = [w for w in range(1, m + 1) if w == m or (w % multiple == 0 and w >= min(minimum, m))]
    return next(w for w in may if w == m or w >= freedom - 1e-9 * m)


def test_the_width_at_a_lambda_under_limits_is_the_same_and_the_least_that_holds_n(modules):
    rng, cases = random.Random(5), []
    for _ in range(400):
        minimum, multiple = random_limits(rng)
        groups = []
        lam = 10 ** rng.uniform(-10, 0)
        for _ in range(rng.randint(1, 6)):
            values, own = random_group(rng)
            lam = own if rng.random() < 0.6 else lam
            lock = rng.randint(1, len(values)) if rng.random() < 0.2 else None
            groups.append((values, lock))
        cases.append((groups, lam, minimum, multiple))
    answers = run(
        modules,
        "cost.js",
        "const group = ({ values, lock }) => ({ eigenvalues: Float64Array.from(values), lock });"
        " const groups = one.groups.map(group);"
        " return m.widthsAt(groups, one.lam, { minimum: one.minimum, multiple: one.multiple });",
        [
            {
                "groups": [{"values": v.tolist(), "lock": lock} for v, lock in groups],
                "lam": lam,
                "minimum": low,
                "multiple": q,
            }
            for groups, lam, low, q in cases
        ],
    )
    for (groups, lam, minimum, multiple), found in zip(cases, answers, strict=True):
        budgets = [GroupBudget(str(i), len(v), np.zeros(len(v) + 1), v) for i, (v, _) in enumerate(groups)]
        locks = {str(i): lock for i, (_, lock) in enumerate(groups) if lock is not None}
        kernel = widths_at(budgets, lam, Limits(locks, minimum, multiple))
        assert list(kernel.values()) == found, (lam, minimum, multiple)
        for (values, lock), width in zip(groups, found, strict=True):
            assert width == (slow_width(values, lam, minimum, multiple) if lock is None else lock)


def random_model(rng):
    """A cost model of layers that share groups, some of them huge, as embeddings are."""
    widths = [rng.choice([1, 2, 3, 7, 16, 64, 4096]) for _ in range(rng.randint(1, 5))]
    terms = []
    for index in range(rng.randint(1, 8)):
        sides = []
        for _ in range(2):
            lost = tuple(
                (group, rng.choice([1, 1, 9, 49]))
                for group in sorted(rng.sample(range(len(widths)), rng.randint(0, min(2, len(widths)))))
            )
            extra = rng.choice([0, 0, 1, 10, 30_011]) or int(not lost)
            sides.append((sum(widths[group] * each for group, each in lost) + extra, lost))
        (rows, lost_rows), (columns, lost_columns) = sides
        parameters = rows * columns * rng.choice([0, 1, 1, 9]) + rng.choice([0, 0, 5])
        macs = rows * columns * rng.choice([0, 1, 196, 12_544]) + rng.choice([0, 0, 17])
        bias = rng.choice([0, 1])
        terms.append(
            Term(str(index), rows, columns, parameters, macs, bias, lost_rows, lost_columns, 1 - bias)
        )
    parameters = 10**6 + sum(t.parameters + t.rows for t in terms)
    macs = 10**7 + sum(t.macs for t in terms)
    names = tuple(str(i) for i in range(len(widths)))
    return CostModel(names, tuple(widths), parameters, macs, tuple(terms))


def test_costs_of_random_widths_agree_to_the_last_unit(modules):
    rng, cases = random.Random(7), []
    for _ in range(300):
        model = random_model(rng)
        cases.append(
            (model, [rng.choice([1, m, rng.randint(1, m)]) for m in model.widths], rng.random() < 0.5)
        )
    sent = []
    for model, widths, biased in cases:
        terms = [
            [t.rows, t.columns, t.parameters, t.macs, t.biases, t.new_biases, t.lost_rows, t.lost_columns]
            for t in model.terms
        ]
        budget = {"widths": model.widths, "parameters": model.parameters, "macs": model.macs, "terms": terms}
        sent.append({"budget": budget, "widths": widths, "biased": biased})
    body = "return m.costAt(one.budget, one.widths, one.biased);"
    for (model, widths, biased), found in zip(cases, run(modules, "cost.js", body, sent), strict=True):
        assert model.macs < 2**53
        named = dict(zip(model.groups, widths, strict=True))
        assert (found["parameters"], found["macs"]) == model.total(named, biased)
        assert all(share["macs"] >= 0 for share in found["shares"])


def test_megabytes_of_random_widths_agree(modules):
    rng, sent, expected = random.Random(11), [], []
    for _ in range(100):
        model, biased = random_model(rng), rng.random() < 0.5
        widths = [rng.randint(1, m) for m in model.widths]
        size = rng.choice([1, 2, 4]) / 1e6
        memory = Total(model, 3e9 * size, lambda t, size=size: (size, 5 * size), biased, lambda t, s=size: s)
        sent.append(
            {
                "memory": memory_values(memory, 1.0),
                "present": model.widths,
                "widths": widths,
                "biased": biased,
            }
        )
        expected.append(memory.total(widths))
    body = "return m.memoryAt(one.memory, one.present, one.widths, one.biased);"
    assert run(modules, "cost.js", body, sent) == pytest.approx(expected, rel=1e-12)


def test_the_predicted_change_is_one_less_the_decay_of_all_groups(modules):
    line = {"names": ["a", "b"], "widths": [2, 1], "now": 0.25}
    sent = [{"line": line, "curves": [9, 0.5, 0, 7, 0], "at": at} for at in ({"a": 1}, {"a": 1, "b": 0}, {})]
    body = "return m.predictedChange(one.line, one.curves, (name) => one.at[name]);"
    expected = [1 - math.exp(-0.75), 1 - math.exp(-7.75), 1 - math.exp(-0.25)]
    assert run(modules, "frontier.js", body, sent) == pytest.approx(expected)


def test_a_portion_is_whole_where_no_double_holds_the_product(modules):
    whole, gone = 128_256 * 4096, 128_255 * 4093
    left = -pow(gone, -1, whole) % whole  # left · gone is one less than a multiple of whole
    cases = [[3 * whole + left, gone, whole], [3 * whole + left + 1, gone, whole]]
    cases += [[7, 3, 5], [0, 4, 9], [10, 10, 10]]
    answers = run(modules, "cost.js", "return m.portion(...one);", cases)
    assert answers == [amount * gone // whole for amount, gone, whole in cases]
