"""A day of work in a loop, and what grows in the process meanwhile; what commits take beside a network."""

import gc
import os
import random
import threading

import psutil
import torch
from surviving import data, measured
from torch import nn

import workbench as wb
from workbench.network.tensors import give_back_memory
from workbench.session.autosave import Autosave
from workbench.widgets.app import Workbench

SECONDS_TO_END = 5.0  # of a thread that was told to


def resident():
    """Bytes of this process that are in memory."""
    gc.collect()
    give_back_memory()
    return psutil.Process().memory_info().rss


def open_files():
    """Files, sockets and the like that this process has open."""
    process = psutil.Process()
    return process.num_handles() if os.name == "nt" else process.num_fds()


def wait_for_ends(before):
    """Until threads that were not there `before` have ended: a closed writer works on for a moment."""
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS_TO_END)


def hour(session, home, draw):
    """Commits, undos, branches, previews, plans, comparisons, saves, and a view opened and closed."""
    saves, number = Autosave(session, home / "kept"), 0
    view = Workbench(session, autosave=False)
    for _ in range(6):
        group = draw.choice([one for one in session.groups if one.prunable and one.width > 2])
        for width in range(1, group.width):
            session.preview(group.name, width=width)
        session.commit(session.preview(group.name, width=group.width - 1))
        number += 1
    session.undo()
    session.fork("another")
    session.plan(300, "macs", "equal")
    widest = max((one for one in session.groups if one.prunable), key=lambda one: one.width)
    session.compare({widest.name: widest.width - 1}, ("greedy",), ("none",))
    session.save(home / "saved")
    wb.Session.open(home / "saved", session.original, data(), data())
    saves.wait()
    saves.close()
    view.close()
    session.reset()
    session.switch("main")
    session.drop("another")
    session.reset()
    return number


def day(hours, home, seed):
    """Resident bytes, threads and open files after each of so many `hour`s on one session."""
    session, draw, found, before = measured(), random.Random(seed), [], set(threading.enumerate())
    for _ in range(hours):
        hour(session, home, draw)
        wait_for_ends(before)
        found.append((resident(), threading.active_count(), open_files()))
    return found


def growth(found):
    """The most that the last third has over the most of the one before, each of what `day` counts."""
    third = len(found) // 3
    middle, last = found[third : 2 * third], found[2 * third :]
    return [max(one[i] for one in last) - max(one[i] for one in middle) for i in range(3)]


def wide_network(parameters, width=2048):
    """A perceptron of about so many parameters, in layers of `width`."""
    torch.manual_seed(0)
    layers = [nn.Linear(31, width), nn.ReLU()]
    for _ in range(round(parameters / width**2)):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 7)).eval()


def in_tensors():
    """Bytes of all tensors that are alive in this process; what is shared counts once."""
    gc.collect()
    alive = [one for one in gc.get_objects() if type(one) in (torch.Tensor, nn.Parameter)]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in alive}
    return sum(storages.values())


def taken_by_commits(network, inputs, commits):
    """Bytes of tensors that so many commits take beside the measured session's, and those of one network."""
    session = wb.Session(network, inputs)
    session.measure()
    names = [group.name for group in session.groups if group.prunable]
    before = in_tensors()
    for number in range(commits):
        name = names[number % len(names)]
        session.commit(session.preview(name, width=session.group(name).width - 8))
    after, size = in_tensors(), sum(p.nbytes for p in session.original.parameters())
    return after - before, size
