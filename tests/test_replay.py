"""Replaying tells how far it is, and stops when it is asked to, at any of its passes."""

import json
import os
import signal
import subprocess
import sys
from threading import Event

import pytest
from networks import conv_net, images
from sessions import TARGETS

from workbench.data.progress import Cancelled
from workbench.session.replay import replay
from workbench.session.session import Session
from workbench.tuning.settings import Tuning

X = images(64)
BATCHES = [(X[i : i + 16], TARGETS[i : i + 16]) for i in range(0, 64, 16)]


@pytest.fixture(scope="module")
def recipe():
    session = Session(conv_net(), BATCHES, BATCHES)
    session.measure()
    session.commit(session.preview("conv2", width=6))
    session.finetune(tuning=Tuning(steps=4))
    session.refit()
    return session.recipe


def told(recipe, cancel=None, at=-1):
    seen = []

    def progress(done, total, what):
        seen.append(what.partition(",")[0])
        if len(seen) == at:
            cancel.set()

    return seen, lambda: replay(recipe, conv_net(), BATCHES, BATCHES, progress, cancel=cancel)


def test_each_step_is_told(recipe):
    seen, run = told(recipe)
    assert run().position == 3
    told_once = [what for what in dict.fromkeys(seen) if what != "opening"]
    assert told_once[:5] == [
        "measuring moments",
        "scoring",
        "replaying",
        "step 1 of 3: scoring",
        "step 2 of 3: fine-tuning",
    ]
    assert told_once[-1] == "step 3 of 3: scoring"
    assert any("refitting fc1" in what for what in told_once)


def test_it_stops_wherever_it_is_asked_to(recipe):
    seen, run = told(recipe)
    run()
    stops = {what: index + 1 for index, what in reversed(list(enumerate(seen)))}
    for what, at in stops.items():
        cancel = Event()
        now, run = told(recipe, cancel, at)
        with pytest.raises(Cancelled):
            run()
        assert now[-1] == what
        assert len(now) < len(seen)


SCRIPT = """
import sys, time, torch
sys.path[:0] = {paths!r}
from networks import conv_net, images
X = images(64)
class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 4000
    def __getitem__(self, index):
        if index == 64:
            print("begun", flush=True)
        time.sleep(0.005)
        return X[index % 64], index % 5
def data():
    return torch.utils.data.DataLoader(Slow(), batch_size=8)
"""


def test_ctrl_c_ends_it_at_the_command_line(recipe, tmp_path, repository):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    paths = [str(repository), str(repository / "tests")]
    (tmp_path / "slow.py").write_text(SCRIPT.format(paths=paths))
    command = [sys.executable, "-m", "workbench", "replay", "recipe.json"]
    command += ["--model", "slow.py:conv_net", "--calibration", "slow.py:data"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
