import pytest

from recorderd.calls.binding import Expectations
from recorderd.calls.events import MediaExpected, MediaWithdrawn
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdp_formats import PayloadFormat

SECOND = 1_000_000_000
PCMU = {0: PayloadFormat("pcmu", 8000, 1, "")}
OPUS = {111: PayloadFormat("opus", 48000, 2, "")}
CALLER, CALLEE = Endpoint("10.0.0.1", 4000), Endpoint("10.0.0.2", 6000)
STRANGER, NAT = Endpoint("198.51.100.7", 4000), Endpoint("203.0.113.9", 31000)


def expected(side, endpoint, call="a", formats=PCMU, now=0):
    return MediaExpected(call, side, endpoint, formats, "sendrecv", False, now)


@pytest.fixture
def both():
    expectations = Expectations()
    expectations.expect(expected("caller", CALLER, formats=OPUS))
    expectations.expect(expected("callee", CALLEE))
    return expectations


def test_who_sends_to_the_callee_is_the_caller(both):
    found = both.match(CALLER, CALLEE, 0)
    assert (found.call, found.speaker, found.signalled) == ("a", "caller", True)
    found = both.match(CALLEE, CALLER, 0)
    assert (found.call, found.speaker, found.signalled) == ("a", "callee", True)


def test_the_receiver_says_what_payload_types_mean(both):
    both.expect(expected("caller", CALLER, formats={96: PCMU[0], **OPUS}))
    both.expect(expected("callee", CALLEE, formats={96: OPUS[111]}))
    assert both.match(CALLER, CALLEE, 0).formats == {96: OPUS[111], **OPUS}
    assert both.match(CALLEE, CALLER, 0).formats == {96: PCMU[0], **OPUS}


def test_a_sender_behind_nat_and_the_answer_to_it(both):
    found = both.match(NAT, CALLEE, 0)
    assert (found.speaker, found.signalled) == ("caller", False)
    back = both.match(CALLEE, NAT, 0)
    assert (back.speaker, back.signalled) == ("callee", True)


def test_nobody_announced_it(both):
    assert both.match(STRANGER, NAT, 0) is None


def test_a_stranger_is_kept_out_while_the_real_one_is_heard(both):
    assert both.match(CALLER, CALLEE, 0)
    assert both.match(STRANGER, CALLEE, SECOND) is None
    assert both.foreign == 1
    both.heard("a", "caller", CALLER, CALLEE, 30 * SECOND)
    assert both.match(STRANGER, CALLEE, 31 * SECOND) is None
    assert both.match(STRANGER, CALLEE, 33 * SECOND) is not None


def test_the_announced_source_displaces_one_that_is_not(both):
    assert both.match(STRANGER, CALLEE, 0).signalled is False
    assert both.match(CALLER, CALLEE, SECOND).signalled is True
    assert both.match(STRANGER, CALLEE, SECOND) is None


def test_a_new_ssrc_of_the_same_source_goes_on(both):
    assert both.match(CALLER, CALLEE, 0)
    assert both.match(CALLER, CALLEE, SECOND).speaker == "caller"


def test_the_newest_call_has_a_reused_port(both):
    both.expect(expected("callee", CALLER, "b"))
    assert both.match(STRANGER, CALLER, 0).call == "b"
    both.release("b")
    assert both.match(CALLEE, CALLER, 0).call == "a"
    both.release("a")
    assert both.match(CALLEE, CALLER, 0) is None
    assert len(both) == 0


def test_a_withdrawn_address_is_for_streams_that_began_before(both):
    both.withdraw(MediaWithdrawn("a", "callee", CALLEE, 5 * SECOND))
    both.expect(expected("callee", Endpoint("10.0.0.2", 6002), now=5 * SECOND))
    assert both.match(NAT, CALLEE, 5 * SECOND) is not None
    assert both.match(NAT, CALLEE, 7 * SECOND) is None
    assert both.match(CALLER, Endpoint("10.0.0.2", 6002), 7 * SECOND).speaker == "caller"


def test_an_address_announced_again_is_not_withdrawn_any_more(both):
    both.withdraw(MediaWithdrawn("a", "callee", CALLEE, 5 * SECOND))
    both.expect(expected("callee", CALLEE, now=6 * SECOND))
    assert both.match(NAT, CALLEE, 20 * SECOND).speaker == "caller"
