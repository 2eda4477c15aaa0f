"""Sizes in code of a file that somebody edits: comments may change, other code is told apart."""

import importlib.util

import pytest
import torch
from attention_kinds import Network

import workbench as wb

TEXT = '''import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.qkv, self.o = 24, nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x):
        """What it does."""
        B, N, C = x.shape
        if N == 1: return x
        q, k, v = self.qkv(x).split(self.n, dim=2)
        q = q.view(B, N, 4, C // 4).transpose(1, 2)
        k = k.view(B, N, 4, C // 4).transpose(1, 2)
        v = v.view(B, N, 4, C // 4).transpose(1, 2)
        y = (q @ k.mT).softmax(-1) @ v
        return self.o(y.transpose(1, 2).reshape(B, N, C))
'''


@pytest.fixture
def exported(tmp_path):
    """(the folder, (network from other code) → what it is with the weights of the pruned one, the latter)."""

    def written(text):
        path = tmp_path / "code.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("code_in_a_file", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.manual_seed(0)
        return Network(module.Attention()).eval()

    session = wb.Session(written(TEXT), [torch.randn(4, 5, 7)])
    session.measure()
    session.commit(session.preview("attn.qkv", width=2))
    session.export(tmp_path / "export")
    return lambda text: wb.load_pruned(written(text), tmp_path / "export"), session.model


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("        q = q", "        # a comment\n\n        q = q"),
        lambda text: text.replace('What it does."""', 'What it does.\n\n        And why.\n        """'),
        lambda text: text.replace('        """What it does."""\n', ""),
        lambda text: text.replace(", ", ",").replace(" // ", "//"),
        lambda text: text.replace("    def forward", "    @torch.no_grad()\n    def forward"),
        lambda text: text.replace("class", "import math\n\n\nclass"),
    ],
)
def test_comments_spaces_and_what_wraps_a_function_may_change(exported, change):
    loaded, pruned = exported
    x = torch.randn(3, 8, 7)
    assert torch.equal(loaded(change(TEXT))(x), pruned(x))


@pytest.mark.parametrize(
    "new", ["        C = int(C)\n        q = q", "        q, k, v = v, q, k\n        q = q"]
)
def test_other_code_is_told_from_the_pruned_one(exported, new):
    loaded, _ = exported
    with pytest.raises(RuntimeError, match="the code of Attention is not the one that was pruned"):
        loaded(TEXT.replace("        q = q", new))(torch.randn(3, 8, 7))


def test_a_forward_that_passes_its_work_over_is_the_pruned_code_all_the_same(exported):
    loaded, pruned = exported
    one = torch.randn(3, 1, 7)
    network = loaded(TEXT)
    network(torch.randn(3, 8, 7))
    for other in (network, pruned, network.train()):
        assert torch.equal(other(one), network(one))
    with pytest.raises(RuntimeError, match="mat1 and mat2") as told:
        pruned(torch.randn(3, 8, 9))
    assert "pruned" not in str(told.value)
