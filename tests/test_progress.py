"""How far a piece of work is, on a stream: lines in a log, a bar on a terminal."""

import io

from command_line import Terminal

from workbench.data import progress as progress_module
from workbench.data.progress import progress_on


def test_a_log_gets_a_line_when_a_piece_of_work_is_done():
    stream = io.StringIO()
    with progress_on(stream) as progress:
        for done in (1, 2, 3):
            progress(done, 3, f"measuring moments, {done * 8} examples")
        progress(1, 3, "scoring, 8 examples")
        progress(2, 3, "scoring, 16 examples")
        progress(7, None, "downloading a.bin")
        progress(1, 1, "one thing")
        progress(1, 1, "another thing")
    assert stream.getvalue().splitlines() == [
        "measuring moments, 24 examples (3 of 3)",
        "scoring, 16 examples (2 of 3)",
        "downloading a.bin (7)",
        "one thing (1 of 1)",
        "another thing (1 of 1)",
    ]


def test_a_log_is_not_silent_for_long(monkeypatch):
    monkeypatch.setattr(progress_module, "PATIENCE", -1.0)
    stream = io.StringIO()
    with progress_on(stream) as progress:
        for done in (1, 2, 1, 2):
            progress(done, 2, "measuring")
    assert stream.getvalue().splitlines() == ["measuring (1 of 2)", "measuring (2 of 2)"] * 2


def test_a_terminal_gets_a_bar_and_a_fresh_line_after_it():
    stream = Terminal()
    with progress_on(stream) as progress:
        for done in range(1, 6):
            progress(done, 5, "measuring moments")
    last = stream.getvalue().split("\r")[-1]
    assert last.startswith("measuring moments: 100%|")
    assert " 5/5 " in last
    assert last.endswith("\n")


def test_nothing_is_written_where_nothing_is_told():
    for stream in (io.StringIO(), Terminal()):
        with progress_on(stream):
            pass
        assert stream.getvalue() == ""
