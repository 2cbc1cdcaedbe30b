"""A proxy on the host: the same dialog, seen on two hops."""

import itertools

from recorderd.calls.events import HoldChanged
from recorderd.calls.states import State
from recorderd.wire.endpoint import Endpoint
from tests.call_script import ALICE, BOB, PROXY, Dialog, sdp

A, B = Endpoint("10.0.0.1", 4000), Endpoint("10.0.0.2", 5000)


def places(dialog):
    """Where each side is ready now."""
    return {(side, endpoint.host, endpoint.port) for side, endpoint in dialog.call.expectations}


def holds(events):
    return [(event.side, event.held) for event in events if isinstance(event, HoldChanged)]


class TestLegs:
    """A proxy on the host: the same dialog, seen on two hops."""

    @staticmethod
    def relayed(dialog, *, relay):
        """Alice, a proxy and bob; with `relay` the proxy sends media through ports of its own."""
        relay_for_bob = sdp("10.0.0.9", 8000) if relay else sdp(*A)
        relay_for_alice = sdp("10.0.0.9", 8002) if relay else sdp(*B)
        dialog.invite(path=(ALICE, PROXY))
        outer = dialog.last
        dialog.response(100, outer, path=(PROXY, ALICE))
        dialog.request(
            "INVITE", cseq=outer.cseq, in_dialog=False, body=relay_for_bob, vias=2, path=(PROXY, BOB)
        )
        inner = dialog.last
        for status, body in ((180, ""), (200, "answer")):
            dialog.response(status, inner, body=body and sdp(*B), path=(BOB, PROXY))
            dialog.response(status, outer, body=body and relay_for_alice, path=(PROXY, ALICE))
        dialog.ack(outer, path=(ALICE, PROXY))
        dialog.ack(outer, path=(PROXY, BOB))
        return outer, inner

    def test_a_proxy_that_leaves_media_alone_has_the_same_endpoints_on_both_legs(self):
        dialog = Dialog()
        self.relayed(dialog, relay=False)
        assert {place: e.legs for place, e in dialog.call.expectations.items()} == {
            ("caller", A): (0, 1),
            ("callee", B): (0, 1),
        }
        dialog.request("BYE", "callee", path=(BOB, PROXY))
        bye = dialog.last
        dialog.request("BYE", "callee", cseq=bye.cseq, vias=2, path=(PROXY, ALICE))
        assert len(dialog.response(200, path=(ALICE, PROXY))) == 1
        assert dialog.response(200, bye, path=(PROXY, BOB)) == []

    def test_a_media_relay_makes_two_legs_each_with_both_sides(self):
        dialog = Dialog()
        self.relayed(dialog, relay=True)
        assert {(e.legs, e.side, e.endpoint) for e in dialog.call.expectations.values()} == {
            ((0,), "caller", A),
            ((0,), "callee", Endpoint("10.0.0.9", 8002)),
            ((1,), "caller", Endpoint("10.0.0.9", 8000)),
            ((1,), "callee", B),
        }

    def test_hold_through_a_proxy_is_told_once(self):
        dialog = Dialog()
        self.relayed(dialog, relay=True)
        dialog.request("INVITE", "callee", body=sdp(*B, "sendonly"), path=(BOB, PROXY))
        outer = dialog.last
        body = sdp("10.0.0.9", 8002, "sendonly")
        dialog.request("INVITE", "callee", cseq=outer.cseq, body=body, vias=2, path=(PROXY, ALICE))
        inner = dialog.last
        dialog.response(200, inner, body=sdp(*A, "recvonly"), path=(ALICE, PROXY))
        dialog.response(200, outer, body=sdp("10.0.0.9", 8000, "recvonly"), path=(PROXY, BOB))
        assert holds(dialog.events) == [("callee", True)]
        assert {event.legs for event in dialog.call.expectations.values()} == {(0,), (1,)}

    def test_requests_from_another_port_are_on_the_same_leg(self):
        # A telephone that sends from a port that it does not listen on (RFC 3261 section 18.2.2).
        dialog = Dialog()
        asymmetric = Endpoint(ALICE.host, 49152)
        dialog.invite(path=(asymmetric, BOB))
        invite = dialog.last
        dialog.response(200, invite, body=sdp(*B), path=(BOB, ALICE))
        dialog.request("INVITE", "callee", body=sdp("10.0.0.2", 5002), path=(BOB, ALICE))
        dialog.response(200, body=sdp(*A), path=(Endpoint(ALICE.host, 49153), BOB))
        assert {event.legs for event in dialog.call.expectations.values()} == {(0,)}
        assert places(dialog) == {("caller", *A), ("callee", "10.0.0.2", 5002)}


def test_any_order_of_two_hops_gives_the_same_expectations():
    """A tap merges interfaces: the two hops may overtake one another, each in its own order."""
    recorder = Dialog()
    sent = []

    class Wire:
        def message(self, message, source, destination, now):
            sent.append((message, source, destination, now))
            return []

    recorder.table = Wire()
    TestLegs.relayed(recorder, relay=True)
    hops = [[m for m in sent if BOB in m[1:3]], [m for m in sent if ALICE in m[1:3]]]
    results = set()
    for positions in itertools.combinations(range(len(sent)), len(hops[0])):
        if positions[0] > 3:
            continue
        dialog = Dialog()
        queues = [iter(hops[0]), iter(hops[1])]
        for index in range(len(sent)):
            message, source, destination, now = next(queues[0 if index in positions else 1])
            dialog.events += dialog.table.message(message, source, destination, now)
        call = next(dialog.table.active())
        assert call.state is State.TALKING
        results.add(frozenset((side, endpoint) for side, endpoint in call.expectations))
    assert len(results) == 1
