"""A few damaged files for each reader; the benchmark reads a hundred thousand."""

import io
import json
import os
import time
from collections import Counter

import fuzz
import fuzz_covered
import pytest
from fuzz_mutations import HOSTILE
from fuzz_readers import READERS, SEALED, Reader
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.bounds import FileError
from workbench.data.plain_json import parsed

SLOW = ("session opened whole",)  # a second an input


@pytest.mark.parametrize("name", [name for name in READERS if name not in SLOW])
def test_damaged_files_are_taken_or_named(name, tmp_path):
    reader = READERS[name]
    (tmp_path / "real").mkdir()
    reader.make(tmp_path / "real")
    assert fuzz.outcome(reader, tmp_path / "real") == ("accepted", "")
    found = [fuzz.tried(reader, tmp_path, index, 99) for index in range(20)]
    assert not [words for kind, words, _ in found if kind not in ("documented", "accepted")]
    assert Counter(kind for kind, *_ in found)["documented"] > 3


@pytest.mark.parametrize("name", SEALED)
def test_all_damages_of_sealed_files_are_found(name):
    row = fuzz.found_damages(name, 25, 7)
    assert row.counts == {"documented": 25}, row.faults


def _read(folder):
    kind = int((folder / "it").read_text()) % 4
    if kind == 1:
        raise FileError(f"{folder} is damaged")
    if kind == 2:
        raise KeyError("raw")
    if kind == 3:
        raise FileError("somewhere something is wrong")


@pytest.mark.parametrize(("end", "kind"), [(lambda: os._exit(3), "raw"), (lambda: time.sleep(30), "slow")])
def test_what_is_not_as_documented_is_counted(end, kind, monkeypatch):
    def read(folder):
        if (folder / "it").read_text() == "5":
            end()
        _read(folder)

    def number(content, draw):
        return str(draw.index).encode()

    monkeypatch.setattr(fuzz, "SECONDS", 1.0)
    reader = Reader(lambda at: (at / "it").write_text("0"), read, number)
    monkeypatch.setitem(fuzz.READERS, "it", reader)
    monkeypatch.setattr(fuzz.random, "Random", Indexed)
    row = fuzz.row_of("it", 12, 0)
    expected = Counter(accepted=3, documented=2, raw=3, unnamed=3) + Counter([kind])
    assert row.counts == expected
    assert row.inputs == 12


class Indexed:
    """Draws nothing by chance: it tells the number of the input."""

    def __init__(self, words):
        self.index = int(str(words).split()[-1])

    def choice(self, values):
        return values[0]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain, st.booleans())
def test_json_is_read_as_json_reads_it(values, escaped):
    text = json.dumps(values, ensure_ascii=escaped)
    try:
        text.encode()
        json.loads(text).__repr__().encode()
    except UnicodeEncodeError:
        return
    assert parsed(text, "it") == json.loads(text)


@given(st.text() | st.sampled_from([json.dumps(one) for one in HOSTILE]), st.integers(0, 200))
def test_any_text_is_json_or_a_told_error(text, depth):
    wrapped = "[" * depth + text + "]" * depth
    told = ""
    try:
        found = parsed(wrapped, "it")
    except FileError as error:
        told = str(error)
    assert told.startswith("it ") or found == json.loads(wrapped)


def test_an_input_of_the_guided_fuzzing_is_read_and_counted(tmp_path):
    out = io.StringIO()
    target = fuzz_covered.Target(READERS["npy"], tmp_path, out)
    target.seeds(tmp_path / "seeds")
    (real,) = (path.read_bytes() for path in (tmp_path / "seeds").iterdir())
    for data in (real, real[:40], b""):
        target(data)
    assert [json.loads(line)[0] for line in out.getvalue().splitlines()] == [
        "accepted", "documented", "documented",
    ]  # fmt: skip
