import pytest

from recorderd.calls.binding import Binding, Expectations, Held, Standing
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


def match(expectations, source, destination, since, now=None):
    return expectations.match(source, destination, since, since + 3 * SECOND if now is None else now)


@pytest.fixture
def both():
    """A call of two ends; its signalling came from their hosts and from the NAT's."""
    expectations = Expectations(lambda call, host: host in (CALLER.host, CALLEE.host, NAT.host))
    expectations.expect(expected("caller", CALLER, formats=OPUS))
    expectations.expect(expected("callee", CALLEE))
    return expectations


def test_who_sends_to_the_callee_is_the_caller(both):
    found = match(both, CALLER, CALLEE, 0, now=0)
    assert (found.call, found.speaker, found.standing) == ("a", "caller", Standing.SIGNALLED)
    found = match(both, CALLEE, CALLER, 0, now=0)
    assert (found.call, found.speaker, found.standing) == ("a", "callee", Standing.SIGNALLED)


def test_the_receiver_says_what_payload_types_mean(both):
    both.expect(expected("caller", CALLER, formats={96: PCMU[0], **OPUS}))
    both.expect(expected("callee", CALLEE, formats={96: OPUS[111]}))
    assert match(both, CALLER, CALLEE, 0).formats == {96: OPUS[111], **OPUS}
    assert match(both, CALLEE, CALLER, 0).formats == {96: PCMU[0], **OPUS}


def test_a_sender_behind_nat_and_the_answer_to_it(both):
    found = match(both, NAT, CALLEE, 0, now=0)
    assert (found.speaker, found.standing) == ("caller", Standing.KNOWN_HOST)
    back = match(both, CALLEE, NAT, 0, now=0)
    assert (back.speaker, back.standing) == ("callee", Standing.SIGNALLED)


def test_nobody_announced_it(both):
    assert match(both, STRANGER, NAT, 0) is None


def test_a_stranger_must_wait_for_a_better_one(both):
    assert match(both, STRANGER, CALLEE, 0, now=SECOND) is Held.WAITING
    assert match(both, CALLER, CALLEE, SECOND, now=SECOND).standing is Standing.SIGNALLED
    both.heard("a", "caller", CALLER, CALLEE, 9 * SECOND)
    assert match(both, STRANGER, CALLEE, 0, now=9 * SECOND) is Held.TAKEN


def test_a_stranger_is_taken_where_no_better_one_comes(both):
    """A media server that signalling never named, behind an address translation: it is the only one there."""
    found = match(both, STRANGER, CALLEE, 0, now=2 * SECOND)
    assert (found.speaker, found.standing) == ("caller", Standing.STRANGER)


def test_a_stranger_is_kept_out_while_the_real_one_is_heard(both):
    assert match(both, NAT, CALLEE, 0)
    assert match(both, STRANGER, CALLEE, SECOND) is Held.TAKEN
    both.heard("a", "caller", NAT, CALLEE, 30 * SECOND)
    assert match(both, STRANGER, CALLEE, 29 * SECOND) is Held.TAKEN
    assert match(both, STRANGER, CALLEE, 90 * SECOND) is Held.TAKEN


def test_a_new_port_of_the_nat_goes_on_once_the_old_one_is_silent(both):
    assert match(both, NAT, CALLEE, 0)
    both.heard("a", "caller", NAT, CALLEE, 30 * SECOND)
    again = NAT._replace(port=40_000)
    assert match(both, again, CALLEE, 30 * SECOND, now=31 * SECOND) is Held.TAKEN
    assert isinstance(match(both, again, CALLEE, 30 * SECOND, now=32 * SECOND), Binding)


@pytest.mark.parametrize("real", [NAT, CALLER])
def test_a_better_source_displaces_a_stranger(both, real):
    assert match(both, STRANGER, CALLEE, 0).standing is Standing.STRANGER
    assert match(both, real, CALLEE, SECOND).standing > Standing.STRANGER
    assert match(both, STRANGER, CALLEE, SECOND) is Held.TAKEN


def test_two_hosts_of_the_same_standing_do_not_displace_each_other(both):
    assert match(both, NAT, CALLEE, 0)
    assert match(both, NAT._replace(port=5), CALLEE, SECOND) is Held.TAKEN


def test_a_new_ssrc_of_the_same_source_goes_on(both):
    assert match(both, CALLER, CALLEE, 0)
    assert isinstance(match(both, CALLER, CALLEE, SECOND), Binding)


def test_a_speaker_who_moves_is_known(both):
    moved = CALLER._replace(port=4002)
    assert match(both, CALLER, CALLEE, 0)
    both.expect(expected("caller", moved))
    assert match(both, moved, CALLEE, SECOND).standing is Standing.SIGNALLED


def test_the_newest_call_has_a_reused_port(both):
    both.expect(expected("callee", CALLER, "b"))
    assert match(both, STRANGER, CALLER, 0).call == "b"
    both.release("b")
    assert match(both, CALLEE, CALLER, 0).call == "a"
    both.release("a")
    assert match(both, CALLEE, CALLER, 0) is None
    assert len(both) == 0


def test_a_withdrawn_address_is_for_streams_that_began_before(both):
    moved = CALLEE._replace(port=6002)
    both.withdraw(MediaWithdrawn("a", "callee", CALLEE, 5 * SECOND))
    both.expect(expected("callee", moved, now=5 * SECOND))
    assert isinstance(match(both, NAT, CALLEE, 5 * SECOND), Binding)
    assert match(both, NAT, CALLEE, 7 * SECOND) is None
    assert match(both, CALLER, moved, 7 * SECOND).speaker == "caller"


def test_an_address_announced_again_is_not_withdrawn_any_more(both):
    both.withdraw(MediaWithdrawn("a", "callee", CALLEE, 5 * SECOND))
    both.expect(expected("callee", CALLEE, now=6 * SECOND))
    assert match(both, NAT, CALLEE, 20 * SECOND).speaker == "caller"


def test_who_announced_both_ends_comes_before_who_announced_one(both):
    """An INVITE of somebody else that names the callee's address takes nothing."""
    both.expect(expected("caller", CALLEE, "evil"))
    both.expect(expected("caller", CALLEE, "evil too"))
    found = match(both, CALLER, CALLEE, 0)
    assert (found.call, found.speaker) == ("a", "caller")


def test_both_directions_of_media_between_two_phones_are_of_one_call():
    """A B2BUA that hands the SDP on: both its calls announce the same two addresses."""
    both = Expectations(lambda call, host: True)
    for call, side, endpoint in (
        ("a", "caller", CALLER),
        ("b", "caller", CALLER),
        ("b", "callee", CALLEE),
        ("a", "callee", CALLEE),
    ):
        both.expect(expected(side, endpoint, call))
    assert match(both, CALLER, CALLEE, 0).call == match(both, CALLEE, CALLER, 0).call


def test_what_another_call_left_behind_needs_an_announced_source(both):
    assert both.match(NAT, CALLEE, 0, 9 * SECOND, only_signalled=True) is Held.TAKEN
    assert isinstance(both.match(CALLER, CALLEE, 0, 9 * SECOND, only_signalled=True), Binding)


def test_an_address_that_too_many_announce(both):
    for number in range(200):
        both.expect(expected("callee", CALLEE, f"flood {number}"))
    assert match(both, CALLER, CALLEE, 0).call == "a"


def test_who_holds_a_place_is_asked_for_only_when_another_source_wants_it(both):
    asked = []

    def tell(*place):
        asked.append(place)
        both.heard(*place, 30 * SECOND)

    both.ask = tell
    assert match(both, NAT, CALLEE, 0)
    assert match(both, NAT, CALLEE, 20 * SECOND)
    assert asked == []
    again = NAT._replace(port=40_000)
    assert match(both, again, CALLEE, 28 * SECOND) is Held.TAKEN
    assert match(both, again, CALLEE, 29 * SECOND).standing is Standing.KNOWN_HOST
    assert asked == [("a", "caller", NAT, CALLEE)] * 2
