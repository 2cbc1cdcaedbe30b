"""The table of states: complete, and drawn as it is."""

import itertools
from pathlib import Path

import pytest

from recorderd.calls.states import TRANSITIONS, Signal, State, diagram, matrix

UNANSWERED = {State.TRYING, State.EARLY, State.CHALLENGED, State.CANCELLING}
PAIRS = list(itertools.product(State, Signal))


@pytest.mark.parametrize(("state", "signal"), PAIRS)
def test_every_pair_has_its_place(state, signal):
    assert TRANSITIONS[state, signal] in State


def test_there_are_no_other_pairs():
    assert set(TRANSITIONS) == set(PAIRS)


def test_what_holds_for_every_state():
    for state in State:
        after = {signal: TRANSITIONS[state, signal] for signal in Signal}
        assert after[Signal.EXPIRY] is State.ENDED
        if state is State.ENDED:
            assert set(after.values()) == {State.ENDED}
        elif state in UNANSWERED:
            assert after[Signal.ANSWER] is State.TALKING, "an answer counts, whatever it crossed"
            assert after[Signal.REFUSAL] is State.ENDED
            assert State.CLOSING not in after.values(), "only what was answered is hung up"
        else:
            only_by_bye = {s for s in Signal if after[s] is not state} - {Signal.EXPIRY}
            assert only_by_bye <= {Signal.BYE, Signal.BYE_DONE, Signal.BYE_CHALLENGE}


def test_every_state_can_be_reached_and_left():
    changes = {(state, after) for (state, _), after in TRANSITIONS.items() if after is not state}
    assert {after for _, after in changes} == set(State)
    assert {state for state, _ in changes} == set(State) - {State.ENDED}


@pytest.mark.parametrize("signal", Signal)
def test_a_signal_seen_twice_does_what_it_does_once(signal):
    for state in State:
        once = TRANSITIONS[state, signal]
        twice = TRANSITIONS[once, signal]
        if signal is not Signal.EXPIRY:
            assert twice is once


def test_the_document_shows_the_table():
    text = (Path(__file__).parent.parent / "docs" / "call-states.md").read_text()
    assert f"```mermaid\n{diagram()}\n```" in text
    assert matrix() in text
    for state in State:
        assert f"- `{state.value}`:" in text
