"""Another notebook: a process of its own, which does as it is told."""

import signal
import subprocess
import sys

CHILD = """
import sys, torch
torch.set_num_threads(1)
sys.path[:0] = {path!r}
from stored import first, further, opened
from workbench.data.durable import FolderInUseError
session = None
for line in sys.stdin:
    try:
        exec(line)
        print("done", flush=True)
    except FolderInUseError as error:
        print(error, flush=True)
"""


class Other:
    """Another notebook: a process of its own that runs lines, and says what a folder in use said."""

    def __init__(self):
        code = CHILD.format(path=sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def does(self, line):
        print(line, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def end(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(20)
        self.process.stdin.close()
        self.process.stdout.close()
