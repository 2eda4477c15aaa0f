"""Running the command, and what it is given."""

import io
import subprocess
import sys


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "workbench", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self):
        return True
