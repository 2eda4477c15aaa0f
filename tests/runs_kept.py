"""A session that keeps itself below a folder, for the tests."""

from workbench.session.autosave import Autosave
from workbench.session.runs import runs


def kept(session, root, **options):
    saves = Autosave(session, root, **options)
    saves.wait(20)
    return saves


def only_run(root):
    (run,) = runs(root)
    return run
