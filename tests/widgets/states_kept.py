"""States whose sessions keep themselves, and what a person does on them."""

from states import PATIENCE, idle, small_session

from workbench.widgets.state import WorkbenchState


def shown(session, root, **options):
    return idle(WorkbenchState(session, autosave=root, **options))


def fresh():
    session = small_session()
    session.measure()
    return session


def settled(state):
    idle(state)
    state._saves.wait(PATIENCE)
    return state


def committed(state, layer="0", width=9):
    state.choose(layer)
    state.width = width
    idle(state)
    state.commit()
    return settled(state)


def tensors(session):
    return {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
