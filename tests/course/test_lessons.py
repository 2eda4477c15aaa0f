"""The notebooks of the course have one form and one notation, and what they point to is there."""

import re
from pathlib import Path

import nbformat
import pytest

COURSE = Path(__file__).parents[2] / "notebooks" / "course"
SOURCES = sorted((COURSE / "source").glob("*.ipynb"))


def prose(path):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_opens_and_closes_like_the_others(path):
    first, text = prose(path)[0], "\n".join(prose(path))
    number = int(path.name[:2])
    assert first.startswith(f"# {number} · ")
    assert "**What you will be able to do**" in first
    assert 3 <= len(re.findall(r"^\d\. ", first, re.M)) <= 5
    assert "**Builds on**: " in first
    assert text.count("**Predict") >= 3
    assert 3 <= len(re.findall(rf"\*\*Exercise {number:02d}\.\d\*\*", text)) <= 5
    assert "(pencil" in text
    code = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert len([source for source in code if source.startswith("words(")]) == 1  # of the glossary
    for heading in ("## Words of this notebook", "## What to remember", "## References"):
        assert text.count(heading) == 1
    for one in SOURCES:
        if int(one.name[:2]) == number + 1:
            title = prose(one)[0].partition("\n")[0].removeprefix("# ")
            assert f"**Next**: [{title}]({one.name})" in text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_its_links_lead_to_notebooks_and_its_symbols_are_the_course_s(path):
    text = "\n".join(prose(path))
    for name in re.findall(r"\]\(([^):]+\.ipynb)\)", text):
        assert (COURSE / name).is_file(), name
    for other, usual in (
        (r"\varphi", r"\phi"),
        (r"\mathrm{Tr}", r"\operatorname{Tr}"),
        (r"m^#", "m^\\sharp"),
    ):
        assert other not in text, f"the course writes {usual}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_lecturer_s_page_gives_the_same_title_and_time(path):
    title, minutes = re.search(
        r"^# \d · (.+)$[\s\S]*\*\*Time\*\*: (\d+) minutes", prose(path)[0], re.M
    ).groups()
    (row,) = [line for line in (COURSE / "README.md").read_text().splitlines() if f"]({path.name})" in line]
    assert row.split("|")[2].strip().startswith(f"[{title}]")
    assert row.split("|")[4].strip() == minutes
