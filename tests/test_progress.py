"""How far a piece of work is, on a stream: lines in a log, a bar on a terminal."""

import io

from command_line import Terminal

from workbench.data import progress as progress_module
from workbench.data.progress import Pace, after_each, progress_on


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


class Clock:
    """A clock that stands unless it is moved."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress_module.time, "monotonic", lambda: self.now)


class TestPace:
    def test_time_left_follows_from_the_time_that_a_step_took(self, monkeypatch):
        clock, pace = Clock(monkeypatch), Pace()
        told = []
        for done in range(26):
            told.append(pace.left(done, 25))
            clock.now += 2.0
        assert told[:2] == [None, None]  # one step, and a few seconds, tell too little
        assert told[2:] == [2.0 * (25 - done) for done in range(2, 26)]

    def test_another_piece_of_work_has_a_pace_of_its_own(self, monkeypatch):
        clock, pace = Clock(monkeypatch), Pace()
        for done, total in ((0, 9), (3, 9), (9, 9)):
            pace.left(done, total)
            clock.now += 30.0
        for total in (9, 40):  # less is done than before, then another total
            assert pace.left(1, total) is None
            clock.now += 4.0
            assert pace.left(3, total) == 2.0 * (total - 3)
            clock.now += 1.0
        assert pace.left(4, None) is None

    def test_a_log_says_what_is_left_where_it_is_known(self, monkeypatch):
        clock, stream = Clock(monkeypatch), io.StringIO()
        with progress_on(stream) as progress:
            for done in range(5):
                progress(done, 200, "measuring damage")
                clock.now += 12.0
        assert stream.getvalue().splitlines() == [
            "measuring damage (3 of 200, about 39 min left)",
            "measuring damage (4 of 200, about 39 min left)",
        ]


def test_what_comes_after_each_is_told_once_it_is_there():
    whole, told, heard = iter((0, 0, 1, 1, 3)), [], []
    progress = after_each(
        lambda *words: heard.append(words), lambda: next(whole), lambda: told.append(len(heard))
    )
    for done in range(4):
        progress(done, 4, "sweeping")
    assert told == [1, 3]
    assert len(heard) == 4
