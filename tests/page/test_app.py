"""The screen's button for a page: a command of the state, told and asked as those beside it."""

from reading_pages import values_of
from sessions import conv_session

import workbench
from workbench.page.app import Workbench
from workbench.widgets.modules import joined


def written(state, **rest):
    state._handle_custom_msg({"command": "page", **rest}, [])
    assert state.wait(60)
    return state


def test_the_button_writes_a_page_asks_before_it_replaces_and_says_where(tmp_path):
    state = Workbench(conv_session(name="my/net"))
    assert state.pages
    state = written(state, folder=str(tmp_path / "new" / "folder"), replace=False)
    (file,) = (tmp_path / "new" / "folder").iterdir()
    assert file.name == "my-net.html"
    assert (state.error, state.question) == ("", {})
    assert str(file) in state.notice
    assert values_of(file.read_text(encoding="utf-8"))["title"] == "my/net"
    file.write_text("mine")
    written(state, folder=str(file.parent), replace=False)
    assert state.question["command"] == "page"
    assert str(file) in state.question["words"]
    assert file.read_text() == "mine"
    written(state, folder=str(file.parent), replace=True)
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_folder_that_is_a_file_is_told_on_the_card(tmp_path):
    (tmp_path / "file").write_text("mine")
    state = written(Workbench(conv_session()), folder=str(tmp_path / "file"), replace=False)
    assert (state.error_at, "is a file: name a folder" in state.error) == ("export", True)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_public_workbench_has_the_button():
    assert workbench.Workbench is Workbench
    assert Workbench._esm == joined("workbench.js")
    assert '"page"' in Workbench._esm
