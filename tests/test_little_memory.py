"""Where memory ends, the words say what for, how much and what helps, and the session is as it was."""

import random
import re
import subprocess
import sys
import weakref

import pytest
import torch
from little_memory import ERRORS, Memory
from surviving import OPERATIONS, about_process, held_by, measured, told_of

from workbench.data.surviving import OutOfMemoryError, memory_error, size_in

# One of each kind: a pass over the data, gradients, a fit, a plan, training; the command tries them all.
COMPUTING = ("measure", "measure_gradients", "commit", "plan", "finetune")


def words_of(work, at, error):
    try:
        with Memory(at, error):
            work()
    except OutOfMemoryError as told:
        return str(told)
    return ""


@pytest.mark.parametrize("name", COMPUTING)
def test_out_of_memory_is_said_and_nothing_is_changed(name, tmp_path):
    operation, draw = OPERATIONS[name], random.Random(name)
    session = operation.make()
    with Memory() as memory:
        operation.run(session, tmp_path)
    after, told = told_of(session), 0
    for at, (kind, error) in zip(
        draw.choices(range(memory.count), k=len(ERRORS)), ERRORS.items(), strict=True
    ):
        session, process = operation.make(), about_process()
        before = told_of(session)
        words = words_of(lambda: operation.run(session, tmp_path), at, error)  # noqa: B023
        if words:
            told += 1
            assert re.match(r"out of memory while [\w ]+.*Nothing was changed\. What helps: ", words)
            assert kind == "Python" or "4.3 GB" in words or "4.29 GiB" in words
        assert (about_process(), held_by(session)) == (process, [])
        assert told_of(session) in (before, after)
        if told_of(session) == before:
            operation.run(session, tmp_path)
            assert told_of(session) == after
    assert told  # where an operation is tried and another way is found, that is as well


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("you tried to allocate 4294967296 bytes. Error", "4.3 GB"),
        ("Tried to allocate 20.00 MiB. GPU", "20.00 MiB"),
        ("Unable to allocate 7.45 GiB for an array", "7.45 GiB"),
        ("no words", ""),
        ("you tried to allocate 12 bytes", "12 bytes"),
    ],
)
def test_how_much_was_asked_for(words, size):
    assert size_in(words) == size


def test_an_error_of_another_kind_is_none_of_memory():
    assert memory_error(RuntimeError("shapes differ")) is None
    assert memory_error(OSError(28, "no space left")) is None
    assert memory_error(OSError(12, "Cannot allocate memory")) is not None
    later = ValueError("does not go through the model")
    later.__cause__ = MemoryError()
    assert memory_error(later) is later.__cause__


def test_the_failed_call_keeps_no_memory_alive():
    session, kept = measured(), []

    class Loader:
        draws_nothing = True

        def __iter__(self):
            held = torch.zeros(100, 2, 4, 4)
            kept.append(weakref.ref(held))
            yield held, torch.zeros(100, dtype=torch.int64)
            raise MemoryError("Unable to allocate 7.45 GiB for an array")

    session.evaluation = Loader()
    with pytest.raises(OutOfMemoryError, match=r"scoring: 7\.45 GiB were asked for"):
        session.evaluate()
    assert kept[0]() is None


CHILD = """
import resource, sys
sys.path[:0] = {path!r}
import torch
import workbench as wb
from surviving import told_of
torch.set_num_threads(1)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 9000), torch.nn.ReLU(), torch.nn.Linear(9000, 2))
session = wb.Session(net, torch.randn(5, 3))
before = told_of(session)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, -1))
try:
    session.measure()
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert told_of(session) == before
print("as before")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is the system's own")
def test_real_memory_that_ends():
    code = CHILD.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    words, end = done.stdout.splitlines()
    assert re.match(r"out of memory while measuring: \d+\.\d MB were asked for, more than there is", words)
    assert end == "as before"
