"""How much faster a pruned network is fine-tuned with its convolutions laid out channels last, on the CPU."""

from time import process_time

import pytest
import torch
from cifar_resnets import resnet

from workbench.session.session import Session
from workbench.tuning import finetuning as finetune_module
from workbench.tuning.layout import lay_channels_last
from workbench.tuning.settings import Tuning

LAYOUTS = {"plain": lambda *given: False, "channels last": lay_channels_last}


@pytest.mark.parametrize("match", [0.0, 1.0], ids=["labels", "activations"])
def test_fine_tuning_a_pruned_resnet20_is_faster_channels_last(match, monkeypatch, capsys):
    inputs, labels = torch.randn(128, 3, 32, 32), torch.arange(128) % 10
    session = Session(resnet(20), inputs)
    session.measure()
    session.commit_plan(session.plan(session.macs / 2, rule="equal"))
    seconds = {layout: [] for layout in LAYOUTS}
    for _ in range(2):
        for layout, done in LAYOUTS.items():
            monkeypatch.setattr(finetune_module, "lay_channels_last", done)
            start = process_time()
            session.finetune([(inputs, labels)], Tuning(steps=8, match=match))
            seconds[layout].append(process_time() - start)
            session.undo()
    ratio = min(seconds["plain"]) / min(seconds["channels last"])
    with capsys.disabled():
        following = "activations" if match else "labels"
        print(f"\nResNet-20 at half its MACs, following {following}: {ratio:.2f} times as fast channels last")
    assert ratio > 1
