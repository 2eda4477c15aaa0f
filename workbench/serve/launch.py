"""What every way to open the workbench needs: its notebooks, a port, a token and kernels of this Python."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec, KernelSpecManager

from workbench.session.kept_in import SWITCH

DISTRIBUTION = "spectral-pruning-workbench"
NOTEBOOK = "workbench.ipynb"
COURSE = "course/01-spectra.ipynb"
HOST = "127.0.0.1"


class LaunchError(ValueError):
    """The server cannot start; the message says why and what to do about it."""


class OwnKernelSpecs(KernelSpecManager):
    """Kernels as the user has them, but 'python3' is always the Python that runs this server.

    A 'python3' registered in the user's folder may belong to another environment, without the workbench.
    """

    def find_kernel_specs(self) -> dict[str, str]:
        """Name → resource folder, with this Python's own in place of any registered 'python3'."""
        return {**super().find_kernel_specs(), NATIVE_KERNEL_NAME: RESOURCES}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The named kernel; raises NoSuchKernel for an unknown name."""
        if kernel_name == NATIVE_KERNEL_NAME:
            # The kernel's own warnings would land on the terminal, between the lines people read.
            kernel = get_kernel_dict(["--IPKernelApp.log_level=40"])
            # Python would look for the kernel's own program in the notebooks folder first.
            kernel["argv"].insert(1, "-P")
            return KernelSpec(resource_dir=RESOURCES, **kernel)
        return super().get_kernel_spec(kernel_name)


def culling(seconds: int) -> dict[str, Any]:
    """When kernels end that nobody sees: settings of MappingKernelManager.

    Args:
        seconds: that a kernel has computed nothing, and no page has been connected to it.

    Returns:
        Values for that section of a configuration. A session keeps itself, and a kernel that is told to end
        first writes what is left to write.
    """
    return {"cull_idle_timeout": seconds, "cull_interval": min(300, seconds)}


def new_token() -> str:
    """A fresh secret for the address of one run."""
    return secrets.token_hex(24)


def free_port(port: int | None) -> int:
    """`port` if nothing listens there, or any free port for None or 0.

    Raises LaunchError if the port is taken or not allowed.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A port whose last server has just stopped is free, though its old connections still linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise LaunchError(
                f"port {port} cannot be used: {why}; name another or leave --port out"
            ) from error
        return int(probe.getsockname()[1])


def end_at_hang_up() -> None:
    """Let a terminal that is closed (SIGHUP) end the server as SIGTERM does, its kernels with it.

    Under nohup, which has it ignored, it stays so.
    """
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        signal.signal(hang_up, signal.getsignal(signal.SIGTERM))


def write_private(file: Path, text: str) -> None:
    """Write a file that this user alone can read, from its first moment on.

    Args:
        file: its path; a file that is there is replaced, and its folder is made.
        text: what it will hold.

    Raises:
        OSError: if the folder does not take it.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with open(file, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as new:
        new.write(text)


def switch_autosave(on: bool) -> None:
    """Have the kernels keep sessions by themselves, as the environment says, or not at all."""
    if not on:
        os.environ[SWITCH] = "off"


def working_notebooks(folder: str | Path | None) -> Path:
    """The folder to work in: `folder`, a source checkout's own, or ./workbench-notebooks.

    Outside a checkout's own folder, notebooks that are missing are copied in; a file that is there stays as
    it is. Raises LaunchError when the folder cannot be used.
    """
    source, checkout = shipped_notebooks()
    if folder is None and checkout:
        return source
    target = Path(folder if folder is not None else "workbench-notebooks").expanduser().resolve()
    if target == source:
        return source
    if not target.parent.is_dir():
        raise LaunchError(f"no folder {target.parent} to make {target.name} in; create it or name another")
    if target.exists() and not target.is_dir():
        raise LaunchError(f"--notebooks needs a folder, and {target} is a file")
    try:
        for file in _files_below(source):
            copy = target / file.relative_to(source)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    except OSError as error:
        raise LaunchError(f"the notebooks could not be copied to {target}: {error}") from error
    return target


def notebook_in(notebooks: Path, notebook: str) -> str:
    """A notebook's path in the folder `notebooks`, with strokes.

    Raises LaunchError where there is none, or it lies elsewhere; the message lists those there are.
    """
    folder = notebooks.resolve()
    file = (folder / notebook).resolve()
    if file.suffix == ".ipynb" and file.is_file() and file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    there = [path.relative_to(folder).as_posix() for path in _files_below(folder) if path.suffix == ".ipynb"]
    shown = [name for name in there if "/solutions/" not in name and "/source/" not in name]
    raise LaunchError(f"no notebook {notebook!r} in {notebooks}; there are {', '.join(shown)}")


def shipped_notebooks() -> tuple[Path, bool]:
    """The folder with the workbench's notebooks, and whether it is a source checkout's own.

    Raises LaunchError when the installation holds no notebooks.
    """
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "notebooks" / NOTEBOOK).is_file() and (checkout / "pyproject.toml").is_file():
        return checkout / "notebooks", True
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.parts[-2:] == ("notebooks", NOTEBOOK) and path.is_file():
            return path.resolve().parent, False
    raise LaunchError(
        f"the notebooks that belong to {DISTRIBUTION} were not found; "
        "install it again (pip install --force-reinstall) or run it from a source checkout"
    )


def _files_below(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden:
            yield file


def announce(url: str, notebooks: Path, *more: str) -> None:
    """Tell where the notebooks are, the address to open, and `more`, a line each, once the server listens."""
    print(f"Notebooks: {notebooks}")
    print(f"Workbench: {url}   (Ctrl+C stops)", *more, sep="\n", flush=True)
