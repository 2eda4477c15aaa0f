"""Two jobs at once on one session give what they give one after the other: no pass is seen by the other."""

import hashlib
import itertools
import time
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from labelled import weights
from networks import mlp

from workbench.network.latency import measure_latency
from workbench.session.session import Session
from workbench.tuning.settings import Tuning

X = torch.randn(640, 6, generator=torch.Generator().manual_seed(3))
Y = torch.arange(640) % 3
REFUSED = ("fine-tuning is running", "preview it again")  # since the other job was there meanwhile


class Slow:
    """Batches that let another thread go on before each."""

    def __len__(self):
        return 10

    def __iter__(self):
        for part in range(10):
            time.sleep(5e-4)
            yield X[64 * part : 64 * part + 64], Y[64 * part : 64 * part + 64]


def session():
    torch.manual_seed(3)
    made = Session(mlp(6, 9, 7, 3), Slow(), Slow())
    made.measure()
    return made


def measure(s, folder):
    s.measure()
    return [(m.count, plain(m.matrix)) for one in s.original_statistics().values() for m in one.moments]


def evaluate(s, folder):
    return s.evaluate()


def try_choice(s, folder):
    return s.try_choice(s.preview("0", width=4, reconstruction="original"))


def export(s, folder):
    return [contents(file) for file in s.export(folder / "export", ("safetensors", "pt2"))[:2]]


def compare(s, folder):
    found = s.compare({"0": 3, "2": 3}, ["greedy", "random"], ["kernel", "original"])
    return [(row.selection, row.score) for row in found.rows]


def sensitivity(s, folder):
    found = s.sensitivity((0.5,), reconstruction="original")
    return plain(found.scores), plain(found.losses)


def commit(s, folder):
    step = s.commit(s.preview("2", width=5, reconstruction="original"))
    return step.label, step.score


def finetune(s, folder):
    return s.finetune(tuning=Tuning(steps=4, match=1.0)).score


def save(s, folder):
    s.save(folder / "saved")
    return sorted(path.name for path in (folder / "saved" / "tensors").iterdir())  # each says what it holds


def plan(s, folder):
    return s.plan(0.5 * s.history[0].macs).widths


def latency(s, folder):
    s.plan(1e-9, "seconds")
    measure_latency(s.model, s.example_input)


def remeasure_gradients(s, folder):
    s.measure_gradients()
    return s.has_gradients


JOBS = (
    measure, evaluate, try_choice, export, compare, sensitivity, commit, finetune, save, plan, latency,
    remeasure_gradients,
)  # fmt: skip


def plain(values):
    return np.asarray(values).tolist()


def contents(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def ran(job, s, folder):
    """What the job gave, or the words of its error."""
    folder.mkdir(exist_ok=True)
    try:
        return job(s, folder)
    except ValueError as error:
        return f"refused: {error}"


def left(s):
    """What the session holds afterwards."""
    moments = [plain(m.matrix) for one in s.original_statistics().values() for m in one.moments]
    scores = [step.score for step in s.history]
    return {key: plain(value) for key, value in weights(s).items()}, moments, scores


def agree(a, b) -> bool:
    """The same to the bit but for the weights: while torch exports, optimisers of the whole process sum in
    another order."""
    mine, its = a[0], b[0]
    if a[1:] != b[1:] or [np.shape(value) for value in mine.values()] != [np.shape(v) for v in its.values()]:
        return False
    return all(np.allclose(mine[key], its[key], rtol=1e-5, atol=1e-7) for key in mine)


def hooks(s) -> int:
    models = (s._history.original.model, s._history.present.model)
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(m, table)) for model in models for m in model.modules() for table in tables)


@pytest.mark.parametrize(
    ("one", "other"),
    list(itertools.combinations_with_replacement(JOBS, 2)),
    ids=lambda job: job.__name__,
)
def test_two_jobs_at_once_give_what_they_give_in_turn(one, other, tmp_path):
    results, states = ([], []), []
    for first, second, places in ((one, other, (0, 1)), (other, one, (1, 0))):
        s = session()
        for job, place in zip((first, second), places, strict=True):
            results[place].append(ran(job, s, tmp_path / f"{len(states)}{place}"))
        states.append(left(s))
    s, start = session(), Barrier(2)
    found = [None, None]

    def run(job, place):
        start.wait(20)
        found[place] = ran(job, s, tmp_path / f"at-once-{place}")

    threads = [Thread(target=run, args=(job, place)) for place, job in enumerate((one, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [isinstance(value, str) and any(words in value for words in REFUSED) for value in found]
    assert sum(refused) <= 1
    for value, expected, gone in zip(found, results, refused, strict=True):
        assert gone or value in expected
    if any(refused):  # then nothing but the other was done
        s_alone = session()
        ran((one, other)[refused.index(False)], s_alone, tmp_path)
        states.append(left(s_alone))
    assert any(agree(left(s), state) for state in states)
    assert hooks(s) == 0
