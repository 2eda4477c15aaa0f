"""Find a Chromium that runs on this machine, or install one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ADVICE = (
    "the browser tests need Chromium: run `playwright install chromium`, install your system's chromium, "
    "or name one in WORKBENCH_CHROMIUM"
)


class NoChromiumError(RuntimeError):
    """No Chromium runs here, and none could be installed."""


def find_chromium(playwrights_own: str) -> str:
    """The path of a Chromium that has been seen to run; raises NoChromiumError with what to install."""
    named = os.environ.get("WORKBENCH_CHROMIUM")
    if named:
        if runs(named):
            return named
        raise NoChromiumError(f"WORKBENCH_CHROMIUM names {named!r}, which does not run as a browser")
    for path in _candidates(playwrights_own):
        if runs(path):
            return path
    raise NoChromiumError(ADVICE)


def _candidates(playwrights_own: str) -> Iterator[str]:
    yield playwrights_own
    yield from _system()
    if _succeeds(sys.executable, "-m", "playwright", "install", "chromium"):
        yield playwrights_own
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and shutil.which("apt-get") and _succeeds("apt-get", "update"):
        _succeeds("apt-get", "install", "-y", "--no-install-recommends", "chromium")
        yield from _system()
        # The libraries have come along, which the browser that Playwright fetched may have lacked.
        yield playwrights_own


def _system() -> Iterator[str]:
    yield from filter(None, map(shutil.which, SYSTEM_NAMES))


def runs(path: str) -> bool:
    """Whether the program at `path` draws an empty page."""
    return Path(path).is_file() and _succeeds(path, *FLAGS, "--dump-dom", "about:blank", timeout=60)


def _succeeds(*command: str, timeout: float = 400) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
