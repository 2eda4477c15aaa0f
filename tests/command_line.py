"""Running the command, and what it is given."""

import subprocess
import sys


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "workbench", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )
