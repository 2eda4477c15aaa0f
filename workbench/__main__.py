"""`python -m workbench` is the `workbench` command."""

import os
import sys

# Python searches the current folder first here, and a voila.py there is not the package.
if sys.path[0] == os.getcwd():
    del sys.path[0]

from workbench.cli import main

sys.exit(main())
