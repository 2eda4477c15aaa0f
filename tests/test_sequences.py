"""Hidden states and attention heads as units: their moments, and what removing a repeated one costs."""

import pytest
import torch
from torch import nn

from workbench.measure.moments import measure_moments
from workbench.network.finding.proof import find_groups
from workbench.network.rebuilt.explicit import explicit
from workbench.session.session import Session

KINDS = {"LSTM": (nn.LSTM, 4), "GRU": (nn.GRU, 3), "RNN": (nn.RNN, 1)}


class Recurrent(nn.Module):
    def __init__(self, kind, hidden, layers=1, both=False):
        super().__init__()
        self.rnn = kind(5, hidden, num_layers=layers, bidirectional=both, batch_first=True)
        self.head = nn.Linear(hidden * (1 + both), 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def repeat_units(rnn, gates):
    """The second half of the hidden units is a copy of the first, in what it receives and what it says."""
    half = rnn.hidden_size // 2
    with torch.no_grad():
        for name, tensor in rnn.named_parameters():
            by_gate = tensor.view(gates, rnn.hidden_size, -1)
            by_gate[:, half:] = by_gate[:, :half]
            if name.startswith("weight_hh"):
                tensor[:, half:] = 0.5 * tensor[:, half:]


def sequences(n=64, steps=11):
    return torch.randn(n, steps, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_moment_is_the_mean_over_time_of_the_hidden_state(kind):
    torch.manual_seed(0)
    model = Recurrent(KINDS[kind][0], 13).eval()
    x = sequences()
    with torch.no_grad():
        states = model.rnn(x)[0]
    before = torch.cat([torch.zeros(len(x), 1, 13), states[:, :-1]], 1).reshape(-1, 13).double()
    after = states.reshape(-1, 13).double()
    plain = explicit(model)
    (group, _) = find_groups(plain, x[:4])
    assert [reader.module for reader in group.readers] == ["rnn.layers.0.recurrent", "head"]
    assert {"rnn.layers.0.recurrent", "rnn.layers.0.input"} == {writer.module for writer in group.writers}
    recurrent, head = measure_moments(plain, [group], x)[group.name].moments
    torch.testing.assert_close(recurrent.matrix, before.T @ before / len(before), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(head.matrix, after.T @ after / len(after), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_repeated_hidden_units_cost_nothing(kind):
    torch.manual_seed(0)
    made, gates = KINDS[kind]
    model = Recurrent(made, 14).eval()
    repeat_units(model.rnn, gates)
    x = sequences()
    session = Session(model, x)
    session.measure()
    (name,) = [group.name for group in session.groups if group.prunable]
    trace = session.spectrum(name).trace
    choice = session.preview(name, width=7, lam=1e-9 * trace)
    assert choice.output_loss < 1e-6
    session.commit(choice)
    with torch.no_grad():
        torch.testing.assert_close(session.model(x), model(x), rtol=1e-4, atol=1e-5)


def test_two_layers_and_two_directions_are_groups_of_their_own():
    torch.manual_seed(0)
    session = Session(Recurrent(nn.LSTM, 13, layers=2, both=True).eval(), sequences())
    session.measure()
    names = [group.name for group in session.groups if group.prunable]
    assert len(names) == 4
    for width, name in zip((3, 5, 7, 11), names, strict=True):
        session.commit(session.preview(name, width=width))
    assert session.model(sequences(3, 7)).shape == (3, 7, 3)
    assert [session.group(name).width for name in names] == [3, 5, 7, 11]


@pytest.mark.parametrize("reconstruction", ["channel", "kernel", "original"])
def test_a_repeated_attention_head_costs_nothing(reconstruction):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 4, 20, dropout=0.0, batch_first=True).eval()
    size = 3
    with torch.no_grad():
        for start in (0, 12, 24):  # the queries', keys' and values' rows: head 2 says what head 0 says
            for tensor in (layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias):
                tensor[start + 2 * size : start + 3 * size] = tensor[start : start + size]
    x = torch.randn(64, 7, 12)
    session = Session(nn.Sequential(layer, nn.Linear(12, 3)).eval(), x)
    session.measure()
    heads = session.group("0.self_attn.q_proj")
    assert (heads.width, heads.readers[0].positions) == (4, size)
    trace = session.spectrum(heads.name).trace
    choice = session.preview(heads.name, width=3, lam=1e-9 * trace, reconstruction=reconstruction)
    assert set(choice.kept) in ({0, 1, 3}, {1, 2, 3})
    session.commit(choice)
    assert session.model[0].self_attn.num_heads == 3
    with torch.no_grad():
        torch.testing.assert_close(session.model(x), session.original(x), rtol=1e-4, atol=1e-5)
