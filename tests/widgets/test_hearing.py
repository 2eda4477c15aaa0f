"""Messages of the page and the kernel that cross: what a person set counts, for the group it was set for."""

import threading

import pytest
from states import PATIENCE, idle, small_session

from workbench.widgets.constants import AHEAD
from workbench.widgets.page_values import shown_values
from workbench.widgets.state import WorkbenchState


@pytest.fixture
def session():
    made = small_session()
    made.measure()
    return made


@pytest.fixture
def state(session):
    return idle(WorkbenchState(session))


@pytest.fixture
def sent(state, monkeypatch):
    """What the kernel sends, in order: the state of each message."""
    states = []
    monkeypatch.setattr(state, "_send", lambda message, buffers=None: states.append(dict(message["state"])))
    return states


def says(state, **values):
    """A message of a page that has heard all there is, unless `seen` says otherwise."""
    state.set_state({"seen": state.said} | values)


def last(sent, name):
    """What the kernel said last of this trait."""
    return next(values[name] for values in reversed(sent) if name in values)


def second(session):
    return session.groups[1].name


def test_every_trait_the_page_is_ahead_in_has_no_echo_and_no_other(state):
    silent = set(state.trait_names(sync=True, echo_update=False)) - {"seen"}
    assert silent == set(AHEAD)


@pytest.mark.parametrize("follow", [True, False])
def test_a_width_typed_for_a_group_that_was_just_selected_is_kept_in_one_message(state, session, follow):
    state.follow = follow
    spectrum = session.spectrum(second(session))
    lam = spectrum.lam_for(5) / spectrum.trace
    says(state, selected=second(session), width=5, **({"lam": lam} if follow else {}))
    assert (state.selected, state.width) == (second(session), 5)
    assert state.request()["width"] == 5


def test_a_group_alone_is_linked(state, session):
    spectrum = session.spectrum(second(session))
    says(state, selected=second(session))
    assert state.width == -(-spectrum.degrees_of_freedom(state.lam * spectrum.trace) // 1)


def test_a_width_beyond_its_group_is_linked_and_said(state, session, sent):
    state.follow = False
    says(state, selected=second(session), width=400)
    assert 1 <= state.width <= session.group(second(session)).width
    assert last(sent, "width") == state.width


def test_what_the_kernel_takes_as_it_is_it_does_not_say_again(state, session, sent):
    state.follow = False
    del sent[:]
    says(state, width=7)
    says(state, theta=0.5, width=6)
    assert not any({"width", "theta", "said"} & values.keys() for values in sent)


def test_the_page_wins_where_messages_cross_and_hears_so(state, sent):
    """Both would have the other's value: the page 9, the kernel 7."""
    state.follow = False
    seen = state.said
    state.width = 9
    assert state.said > seen
    says(state, seen=seen, width=7)
    assert state.width == 7
    assert last(sent, "width") == 7
    assert last(sent, "said") == state.said > seen + 1


def test_a_width_that_crossed_sets_lam_for_the_network_as_it_is(state, session, sent):
    seen = state.said
    state.lam = 0.3
    says(state, seen=seen, width=5, lam=1e-9)
    spectrum = session.spectrum(state.selected)
    assert state.width == 5
    assert state.lam == pytest.approx(spectrum.lam_for(5) / spectrum.trace)
    assert (last(sent, "width"), last(sent, "lam")) == (5, state.lam)


def test_what_was_set_for_a_group_that_the_kernel_left_is_dropped_and_said(state, session, sent):
    state.follow = False
    seen, before = state.said, state.selected
    state.choose(second(session))
    width = state.width
    says(state, seen=seen, width=width - 1, theta=0.75)
    assert (state.selected, state.width, state.theta) == (second(session), width, 0.75)
    assert (last(sent, "width"), last(sent, "theta")) == (width, 0.75)
    says(state, seen=seen, selected=before, width=3)
    assert (state.selected, state.width) == (second(session), width)
    assert (last(sent, "selected"), last(sent, "width")) == (second(session), width)


def test_a_width_for_the_network_before_is_dropped(state, sent):
    idle(state)
    seen, other = state.said, small_session()
    other.measure()
    state._show_session(other, shown_values(other))
    width = state.width
    says(state, seen=seen, width=width - 1)
    assert state.width == width
    assert last(sent, "width") == width


def test_widths_of_the_budget_that_cross_are_the_pages(state, session, sent):
    names = [group.name for group in session.groups]
    seen = state.said
    state.widths = {names[0]: 4}
    says(state, seen=seen, widths={names[0]: 6})
    assert state.widths == {names[0]: 6}
    assert last(sent, "widths") == {names[0]: 6}


def by_hand(state, **traits):
    for name, value in traits.items():
        setattr(state, name, value)


@pytest.mark.parametrize("moves", [says, by_hand])
def test_a_message_waits_while_a_result_is_applied(state, moves):
    """JupyterLab hears the page in another thread than that which applies results; and without an event
    loop they are applied in a worker's thread, beside a script's own."""
    state.follow = False
    idle(state)
    begun, go_on = threading.Event(), threading.Event()

    def show():
        with state._quiet():
            begun.set()
            go_on.wait(PATIENCE)

    applying = threading.Thread(target=lambda: state._deliver(show))
    hearing = threading.Thread(target=lambda: moves(state, width=6))
    applying.start()
    assert begun.wait(PATIENCE)
    hearing.start()
    hearing.join(0.2)
    assert hearing.is_alive()
    go_on.set()
    applying.join(PATIENCE)
    hearing.join(PATIENCE)
    idle(state)
    assert state.preview["request"]["width"] == state.width == 6
