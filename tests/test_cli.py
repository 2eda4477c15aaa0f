"""The `workbench` command: its help, its servers and its notebooks."""

import json
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from command_line import run
from jupyter_client.kernelspec import NoSuchKernel

from workbench.cli import main
from workbench.serve import launch
from workbench.serve.app import Page
from workbench.serve.lab import LAB_LAYOUT, LAB_SETTINGS, NoDelayConnection
from workbench.serve.launch import LaunchError, OwnKernelSpecs, free_port, working_notebooks


@pytest.fixture
def taken_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Notebooks as an installed wheel has them, and an empty current folder."""
    source = tmp_path / "share" / "notebooks"
    (source / "course").mkdir(parents=True)
    (source / "workbench.ipynb").write_text("shipped")
    (source / "course" / "one.ipynb").write_text("shipped")
    (source / ".ipynb_checkpoints").mkdir()
    (source / ".ipynb_checkpoints" / "workbench.ipynb").write_text("old")
    monkeypatch.setattr(launch, "shipped_notebooks", lambda: (source, False))
    monkeypatch.chdir(tmp_path)
    return source


def test_help_names_every_command(repository):
    done = run("--help", cwd=repository)
    assert done.returncode == 0
    assert all(f"\n    {command} " in done.stdout for command in ("lab", "app", "measure", "replay", "page"))


def test_version_is_printed(repository):
    done = run("--version", cwd=repository)
    assert (done.returncode, done.stdout.split()[0]) == (0, "workbench")


def test_help_loads_nothing_heavy(repository):
    code = (
        "import sys\nfrom workbench.cli import main\n"
        "try:\n    main(['lab', '--help'])\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'numpy', 'jupyterlab', 'voila', 'jupyter_server'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("command", ["lab", "app"])
def test_taken_port_is_told_in_a_line(command, taken_port, tmp_path, capsys):
    code = main([command, "--no-browser", "--port", str(taken_port), "--notebooks", str(tmp_path)])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith(f"workbench: port {taken_port} cannot be used: ")
    assert error.count("\n") == 1


def test_another_notebook_of_the_folder_can_be_opened(shipped):
    notebooks = launch.working_notebooks(None)
    assert launch.notebook_in(notebooks, "course/one.ipynb") == "course/one.ipynb"
    assert launch.notebook_in(notebooks, launch.NOTEBOOK) == launch.NOTEBOOK
    for wrong in ("course/two.ipynb", "../share/notebooks/workbench.ipynb", "course", "/etc/hostname"):
        with pytest.raises(LaunchError, match=r"there are course/one\.ipynb, workbench\.ipynb"):
            launch.notebook_in(notebooks, wrong)


def test_impossible_port_is_refused():
    with pytest.raises(LaunchError, match="port 70000"):
        free_port(70000)


def test_free_port_can_be_listened_on():
    with socket.socket() as listening:
        port = free_port(None)
        listening.bind(("127.0.0.1", port))
        assert listening.getsockname()[1] == port


def test_a_checkout_works_in_its_own_notebooks(repository):
    assert working_notebooks(None) == repository / "notebooks"


def test_missing_notebooks_are_copied_and_the_users_stay(shipped, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "workbench.ipynb").write_text("edited")
    assert working_notebooks(mine) == mine
    assert (mine / "workbench.ipynb").read_text() == "edited"
    assert (mine / "course" / "one.ipynb").read_text() == "shipped"
    assert not (mine / ".ipynb_checkpoints").exists()


def test_an_installed_workbench_makes_a_folder_here(shipped, tmp_path):
    assert working_notebooks(None) == tmp_path / "workbench-notebooks"
    assert (tmp_path / "workbench-notebooks" / "workbench.ipynb").read_text() == "shipped"


@pytest.mark.parametrize("name", ["nowhere/notebooks", "file.txt"])
def test_a_folder_that_cannot_be_used_is_told_in_a_line(name, tmp_path, capsys):
    (tmp_path / "file.txt").touch()
    assert main(["lab", "--no-browser", "--notebooks", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("workbench: ")
    assert str(tmp_path) in error
    assert error.count("\n") == 1


def test_an_installation_without_notebooks_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "__file__", str(tmp_path / "workbench" / "serve" / "launch.py"))
    monkeypatch.setattr(launch, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(LaunchError, match="install it again"):
        working_notebooks(None)


def test_the_kernel_is_this_python():
    specs = OwnKernelSpecs()
    assert specs.get_kernel_spec("python3").argv[0] == sys.executable
    assert specs.get_all_specs()["python3"]["spec"]["argv"][0] == sys.executable
    with pytest.raises(NoSuchKernel):
        specs.get_kernel_spec("no-such-kernel")


def test_websocket_switches_the_delay_off_before_it_connects(monkeypatch):
    calls = []
    monkeypatch.setattr(
        NoDelayConnection.__mro__[1], "connect", lambda self: calls.append("connect") or "connected"
    )
    connection = NoDelayConnection.__new__(NoDelayConnection)
    handler = SimpleNamespace(set_nodelay=lambda on: calls.append(("no delay", on)))
    connection._trait_values = {"websocket_handler": handler}
    assert connection.connect() == "connected"
    assert calls == [("no delay", True), "connect"]


def test_lab_settings_are_settings_that_lab_has():
    from jupyterlab.labapp import LabApp

    lab = LabApp()
    for plugin, settings in LAB_SETTINGS.items():
        package, _, name = plugin.partition(":")
        places = [launch.Path(lab.schemas_dir) / package]  # of the lab itself, and of what is added to it
        places += [launch.Path(added) / package / "schemas" / package for added in lab.labextensions_path]
        found = [place / f"{name}.json" for place in places if (place / f"{name}.json").is_file()]
        schema = json.loads(found[0].read_text())
        assert set(settings) <= set(schema["properties"]), plugin
    assert json.loads(json.dumps(LAB_LAYOUT)) == LAB_LAYOUT


def test_app_swaps_voilas_way_to_stop_a_kernel():
    from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler

    from workbench.serve.app import ShutdownKernel

    assert issubclass(ShutdownKernel, VoilaShutdownKernelHandler)
    assert Page.init_handlers is not Page.__mro__[1].init_handlers
