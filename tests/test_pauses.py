"""Pauses never overlap, never run backwards, and sequences of keys take nothing that is not theirs."""

from hypothesis import given
from hypothesis import strategies as st

from recorderd.calls.pauses import KEYS_APART_US, MAX_PAUSES, Key, KeySequence, Pauses

STEPS = st.lists(st.tuples(st.sampled_from(["begin", "end", "off"]), st.integers(0, 10_000_000)), max_size=40)


@given(STEPS, st.booleans())
def test_pauses_are_in_order_and_apart(steps, in_order):
    pauses = Pauses()
    for asked, now_us in sorted(steps, key=lambda step: step[1]) if in_order else steps:
        if asked == "end":
            pauses.end(now_us)
        else:
            pauses.begin(now_us, "test", endless=asked == "off")
    spans = [(since, until) for since, until, _ in pauses.spans(-1, 20_000_000)]
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert pauses.total_s(-1, 20_000_000) == sum(until - since for since, until in spans) / 1e6
    assert all(pause.until_us is not None for pause in pauses.all[:-1])


def test_what_is_asked_for_too_often_stays_paused():
    pauses = Pauses()
    for number in range(3 * MAX_PAUSES):
        pauses.begin(2 * number, "test")
        pauses.end(2 * number + 1)
    assert len(pauses.all) == MAX_PAUSES
    assert pauses.current is not None
    assert next(pauses.spans(5 * MAX_PAUSES, 5 * MAX_PAUSES + 1), None) is not None


def test_off_has_no_end():
    pauses = Pauses()
    assert pauses.begin(10, "a") is not None
    assert pauses.begin(20, "b", endless=True) is None
    assert pauses.end(30) is None
    assert pauses.overdue_us(5, 100) is None
    assert [(since, until) for since, until, _ in pauses.spans(0, 100)] == [(10, 100)]


@given(st.text("*78", max_size=30))
def test_every_key_is_let_out_once_and_in_order_but_those_of_a_sequence(digits):
    sequence, out, done = KeySequence(["*7", "*8"]), "", []
    for number, digit in enumerate(digits):
        found, others = sequence.press(Key(digit, number, 0))
        out += "".join(other.digit for other in others)
        if found:
            done.append(found)
            out += found
    out += "".join(key.digit for key in sequence.rest())
    assert out == digits
    assert len(done) == digits.count("*7") + digits.count("*8")


def test_keys_too_far_apart_are_no_sequence():
    sequence = KeySequence(["*7"])
    assert sequence.press(Key("*", 0, 0)) == (None, [])
    found, others = sequence.press(Key("7", KEYS_APART_US + 1, 0))
    assert found is None
    assert [key.digit for key in others] == ["*", "7"]
