"""Whose a call is: every worker works out the same, from the signalling alone."""

import pytest

from recorderd.calls.events import CallStarted, MediaExpected
from recorderd.calls.ownership import PATIENCE_NS, Blindness, Ownership
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.flow_hash import flow_hash, share_of, text_share
from tests.call_script import ALICE, BOB, PROXY, SECOND, START, Dialog, sdp

COUNT = 5


def followed(dialog: Dialog, ownership: Ownership, *, after: int = 0) -> str:
    """Tell an ownership what a dialog's table told, event by event; the call."""
    for event in dialog.events[after:]:
        if isinstance(event, CallStarted):
            call = dialog.table.get(event.call)
            ownership.began(event.call, call.call_id, call.first_seen)
        elif isinstance(event, MediaExpected):
            ownership.expected(event, dialog.table.get(event.call).expectations)
    return dialog.events[-1].call


def test_a_call_belongs_to_the_flow_between_the_first_addresses() -> None:
    dialog, ownership = Dialog(), Ownership(0, COUNT)
    dialog.invite()
    call = followed(dialog, ownership)
    assert ownership.owner(call) is None
    assert ownership.keeper(call) == text_share("call@10.0.0.1", COUNT)
    told = len(dialog.events)
    invite = dialog.last
    dialog.response(200, invite, body=sdp("10.0.0.2", 5000))
    dialog.ack(invite)
    followed(dialog, ownership, after=told)
    owner = share_of(Endpoint("10.0.0.1", 4000), Endpoint("10.0.0.2", 5000), COUNT)
    assert ownership.owner(call) == ownership.keeper(call) == owner
    told = len(dialog.events)
    dialog.request("INVITE", body=sdp("10.0.0.1", 4444))
    dialog.response(200, body=sdp("10.0.0.2", 5555))
    followed(dialog, ownership, after=told)
    assert ownership.owner(call) == owner, "a call never changes hands"


def test_the_two_addresses_are_those_of_one_hop() -> None:
    """A proxy that relays media: the callee's first description is not an answer to the caller's."""
    dialog, ownership = Dialog(), Ownership(0, 97)
    dialog.invite(path=(ALICE, PROXY))
    dialog.invite(sdp("10.0.0.9", 7000), path=(PROXY, BOB), vias=2, cseq=dialog.cseq["caller"])
    dialog.response(200, body=sdp("10.0.0.2", 5000), path=(BOB, PROXY))
    call = followed(dialog, ownership)
    assert ownership.owner(call) in (
        share_of(Endpoint("10.0.0.9", 7000), Endpoint("10.0.0.2", 5000), 97),
        share_of(Endpoint("10.0.0.1", 4000), Endpoint("10.0.0.2", 5000), 97),
    )


@pytest.mark.parametrize("tick_first", [True, False])
def test_who_announces_one_address_only_belongs_by_name(tick_first: bool) -> None:
    """The same whenever time is told: what counts is when the second address came."""
    dialog, ownership = Dialog(), Ownership(0, COUNT)
    dialog.invite()
    call = followed(dialog, ownership)
    told = len(dialog.events)
    if tick_first:
        ownership.tick(dialog.now + PATIENCE_NS - 1)
        assert ownership.owner(call) is None
        ownership.tick(dialog.now + PATIENCE_NS)
    invite = dialog.last
    dialog.now += PATIENCE_NS
    dialog.response(200, invite, body=sdp("10.0.0.2", 5000))
    followed(dialog, ownership, after=told)
    assert ownership.owner(call) == text_share("call@10.0.0.1", COUNT)


def test_what_a_dead_worker_never_saw_is_the_next_ones() -> None:
    ownership = Ownership(1, 3)
    names = [f"name-{n}" for n in range(30)]
    for n, name in enumerate(names):
        ownership.began(name, name, START + n * SECOND)
    before = {name: ownership.keeper(name) for name in names}
    ownership.blind((Blindness(1, START + 10 * SECOND, START + 20 * SECOND),))
    for n, name in enumerate(names):
        hidden = before[name] == 1 and 10 <= n < 20
        assert ownership.keeper(name) == (2 if hidden else before[name])
        assert ownership.adopted(name) == hidden
    ownership.blind((Blindness(1, START + 10 * SECOND), Blindness(2, START + 15 * SECOND)))
    for n, name in enumerate(names):
        if before[name] == 1 and n >= 10:
            assert ownership.keeper(name) == (0 if n >= 15 else 2)


def test_a_call_that_died_with_its_worker_is_nobodys() -> None:
    dialog, ownership = Dialog(), Ownership(0, 1)
    dialog.establish()
    call = followed(dialog, ownership)
    assert not ownership.orphaned(call)
    ownership.blind((Blindness(0, dialog.now + SECOND),))
    assert ownership.orphaned(call)
    assert not ownership.adopted(call)


def test_a_call_that_is_over_is_forgotten() -> None:
    ownership = Ownership(0, 2)
    ownership.began("one", "id", START)
    assert ownership.named("id", START) == "one"
    ownership.over("one")
    ownership.over("one")
    assert (ownership.owner("one"), ownership.keeper("one"), ownership.named("id", START)) == (
        None,
        None,
        None,
    )
    assert not ownership.mine("one")


@pytest.mark.parametrize("count", [2, 3, 4, 8])
@pytest.mark.parametrize(("step_1", "step_2"), [(2, 2), (2, -2), (4, 4), (2, 0), (20, 20), (0, 2)], ids=str)
def test_flows_spread_evenly(count: int, step_1: int, step_2: int) -> None:
    """Ports come in steps, and hosts in rows."""
    one, other = "10.1.2.3", "10.0.0.9"
    flows = [(Endpoint(one, 20_000 + step_1 * n), Endpoint(other, 40_000 + step_2 * n)) for n in range(600)]
    shares = [share_of(*flow, count) for flow in flows]
    expected = len(flows) / count
    assert all(abs(shares.count(share) - expected) < 4.5 * expected**0.5 for share in range(count))
    assert all(flow_hash(a, b) == flow_hash(b, a) for a, b in flows)


@pytest.mark.parametrize("host", ["10.1.2.3", "fd00::7"])
def test_reports_belong_to_their_stream(host: str) -> None:
    for port in range(20_000, 20_400, 2):
        stream = flow_hash(Endpoint(host, port), Endpoint("10.0.0.9", port + 7_000))
        assert flow_hash(Endpoint(host, port + 1), Endpoint("10.0.0.9", port + 7_001)) == stream
        assert flow_hash(Endpoint(host, port + 2), Endpoint("10.0.0.9", port + 7_000)) != stream
