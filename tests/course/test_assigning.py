"""The student's and the worked notebook come from one source; what is committed is what the source says."""

from pathlib import Path

import nbformat
import pytest

from workbench.course.assigning import SOLUTIONS, SourceError, assigned, main, written

COURSE = Path(__file__).resolve().parents[2] / "notebooks" / "course"
SOLVED = '''def share(mu, lam):
    """μ/(μ+λ)."""
    # BEGIN SOLUTION
    return mu / (mu + lam)
    # END SOLUTION


answer = share(2.0, 1.0)  # SOLUTION
# BEGIN SOLUTION NO PROMPT
secret = 1
# END SOLUTION
""" # BEGIN PROMPT
mine = 0
"""; # END PROMPT'''


def cell(kind, source):
    return getattr(nbformat.v4, f"new_{kind}_cell")(source)


def question(*inner):
    return [cell("raw", "# BEGIN QUESTION\nname: q1"), *inner, cell("raw", "# END QUESTION")]


def solution(kind, source):
    return [cell("raw", "# BEGIN SOLUTION"), cell(kind, source), cell("raw", "# END SOLUTION")]


def source_with(tmp_path, cells):
    (tmp_path / "source").mkdir(exist_ok=True)
    file = tmp_path / "source" / "01-a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    return file


def sources_of(notebook):
    return [one.source for one in notebook.cells]


def test_solutions_are_taken_out_or_left_in(tmp_path):
    tests = [cell("raw", "# BEGIN TESTS"), cell("code", "hidden()"), cell("raw", "# END TESTS")]
    cells = [cell("raw", "# ASSIGNMENT CONFIG\nx: 1"), cell("markdown", "# Title")]
    cells += question(cell("markdown", "Ask"), *solution("code", SOLVED), cell("code", "check()"), *tests)
    cells += question(*solution("markdown", "Because."))
    file = source_with(tmp_path, cells)
    out = 'def share(mu, lam):\n    """μ/(μ+λ)."""\n    ...\n\n\nanswer = ...\nmine = 0'
    handed = sources_of(assigned(file, worked=False))
    assert handed == ["# Title", "Ask", out, "check()", "_Write your answer here, in place of this line._"]
    worked = sources_of(assigned(file, worked=True))
    assert worked[0:2] == ["# Title", "Ask"]
    assert "return mu / (mu + lam)" in worked[2]
    assert "secret = 1" in worked[2]
    assert "SOLUTION" not in "".join(worked)
    assert "mine" not in worked[2]
    assert worked[3:] == ["check()", "Because."]
    code = compile(worked[2], "worked", "exec")
    space = {}
    exec(code, space)
    assert space["answer"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (question(*solution("code", "answer = 1")), "would be handed out"),
        ([cell("raw", "# BEGIN QUESTION")], "is not ended"),
        ([cell("raw", "# END QUESTION")], "ends what was not begun"),
        ([cell("raw", "# BEGIN MAGIC")], "conventions"),
        ([cell("raw", "")], "conventions"),
    ],
)
def test_a_malformed_source_is_told_with_its_place(tmp_path, cells, told):
    file = source_with(tmp_path, cells)
    with pytest.raises(SourceError, match=told) as error:
        assigned(file, worked=False)
    assert str(file) in str(error.value)


def test_no_notebook_and_no_sources(tmp_path):
    with pytest.raises(SourceError, match="holds no notebooks"):
        written(tmp_path)
    file = source_with(tmp_path, [])
    file.write_text("{")
    with pytest.raises(SourceError, match="cannot be read"):
        assigned(file, worked=True)


def test_the_command_writes_and_checks(tmp_path, capsys):
    source_with(tmp_path, question(*solution("code", "answer = 1  # SOLUTION")))
    assert main([str(tmp_path), "--check"]) == 1
    assert not (tmp_path / "01-a.ipynb").exists()
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0
    (tmp_path / SOLUTIONS / "01-a.ipynb").write_text("{}")
    capsys.readouterr()
    assert main([str(tmp_path), "--check"]) == 1
    assert SOLUTIONS in capsys.readouterr().out
    assert main([str(tmp_path / "nothing")]) == 2


def test_what_is_committed_is_what_the_sources_say():
    texts = written(COURSE)
    assert {path.name for path in texts} == {path.name for path in (COURSE / "source").glob("*.ipynb")}
    for path, text in texts.items():
        assert path.read_text("utf-8") == text, f"python -m workbench.course.assigning {COURSE.name}"
    strays = {p for f in (COURSE, COURSE / SOLUTIONS) for p in f.glob("*.ipynb")} - set(texts)
    assert strays == set()
