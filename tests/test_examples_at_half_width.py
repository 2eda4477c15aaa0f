"""Every built-in example with all its groups at half width, no fine-tuning: the README's table."""

import pytest

from workbench.examples.catalogue import EXAMPLES
from workbench.session.replay import replay
from workbench.session.session import Session

POINTS_LOST = {"digits-cnn": 0.03, "digits-mlp": 0.03, "nn3-mnist": 0.01, "nn3-cifar10": 0.05}


@pytest.mark.parametrize("name", [n for n in EXAMPLES if n in POINTS_LOST])  # VGG-13: the benchmark's
def test_half_width_keeps_most_of_the_accuracy(name, tmp_path, capsys):
    session = Session.example(name)
    session.measure()
    original = session.history[0]
    for group in [g for g in session.groups if g.prunable]:
        session.commit(session.preview(group.name, width=group.width // 2))
    score, left = session.evaluate(), session.parameters / original.parameters
    with capsys.disabled():
        print(f"\n{name}: accuracy {original.score:.4f} → {score:.4f}, parameters left {left:.1%}")
    assert score >= original.score - POINTS_LOST[name]
    assert left <= 0.45
    session.save(tmp_path)
    again = replay(tmp_path / "recipe.json")
    assert again.evaluate() == score
    assert again.parameters == session.parameters
