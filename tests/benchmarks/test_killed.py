"""A few kills of real processes; the benchmark does hundreds."""

from pathlib import Path
from types import SimpleNamespace

import killed
import robust


def test_what_a_killed_process_said_to_be_saved_opens(tmp_path, monkeypatch):
    monkeypatch.setattr(killed, "SHORT", 0.05)  # so that something has been written
    found = killed.rounds(3, 0, tmp_path)
    assert found["kills"] == 3
    assert found["session: said to be done"] > 0
    assert found["kept: said to be done"] > 0
    assert not [words for words in found if "LOST" in words]
    assert found["leftovers"] == 0
    assert "3 kills at random moments; no files left" in killed.table(found)


def test_one_command_runs_every_part(monkeypatch):
    ran = []
    monkeypatch.setattr(robust.sys, "argv", ["robust.py", "--write"])
    monkeypatch.setattr(
        robust.subprocess, "run", lambda command, **_: ran.append(command) or SimpleNamespace(returncode=0)
    )
    monkeypatch.setattr(robust, "find_spec", lambda name: name == "atheris")
    assert robust.main() == 0
    assert all(Path(command[1]).is_file() and command[-1] == "--write" for command in ran)
    assert [Path(command[1]).name for command in ran] == [
        "killed.py", "survives.py", "fuzz.py", "fuzz_covered.py",
    ]  # fmt: skip
