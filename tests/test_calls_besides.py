"""What a call has besides audio, and keys told by INFO: from messages to values."""

import pytest

from recorderd.calls.besides import MAX_KINDS
from recorderd.calls.events import OtherMedia
from recorderd.calls.info_keys import info_keys
from recorderd.calls.outcomes import MediaFacts, outcome
from recorderd.wire.sip import parse_sip
from tests.call_script import Dialog, sdp

BOTH = {"caller": 100, "callee": 100}
VIDEO = "m=video {} RTP/AVP 31\r\n".format
FAX = "m=image {} udptl t38\r\n".format


def told(dialog):
    return [(event.kind, event.state) for event in dialog.told(OtherMedia)]


def established(offer, answer):
    dialog = Dialog()
    dialog.invite(sdp("10.0.0.1", 4000, extra=offer))
    invite = dialog.last
    dialog.response(200, invite, body=sdp("10.0.0.2", 5000, extra=answer))
    dialog.ack(invite)
    return dialog


def test_an_offer_is_agreed_on_with_its_answer():
    dialog = established(VIDEO(4002), VIDEO(5002))
    assert told(dialog) == [("video", "offered"), ("video", "agreed")]
    dialog.hang_up()
    assert outcome(dialog.call, MediaFacts(BOTH)).reason == "video agreed, not recorded"


@pytest.mark.parametrize("answer", [VIDEO(0), ""])
def test_a_refused_line_is_not(answer):
    dialog = established(VIDEO(4002), answer)
    assert told(dialog) == [("video", "offered")]
    dialog.hang_up()
    assert outcome(dialog.call, MediaFacts(BOTH)).reason == ""


def test_a_refused_reinvite_is_not():
    dialog = Dialog()
    dialog.establish()
    dialog.request("INVITE", body=sdp("10.0.0.1", 4000, extra=FAX(4002)))
    dialog.response(488)
    assert told(dialog) == [("fax (T.38)", "offered")]
    assert dialog.call.besides == []


def test_a_fax_ends_with_the_next_description_without_it():
    dialog = Dialog()
    dialog.establish()
    for faxing in (True, False, True):
        extra = FAX if faxing else lambda port: ""
        dialog.request("INVITE", "callee", body=sdp("10.0.0.2", 5000, extra=extra(5002)))
        invite = dialog.last
        dialog.response(200, invite, body=sdp("10.0.0.1", 4000, extra=extra(4002)))
        dialog.ack(invite)
    states = ["offered", "agreed", "ended", "agreed"]
    assert told(dialog) == [("fax (T.38)", state) for state in states]
    first, second = dialog.call.besides
    assert first.until is not None
    assert second.until is None


def test_a_fax_alone_is_missing_and_says_so():
    dialog = Dialog()
    line = "v=0\r\nc=IN IP4 10.0.0.{}\r\nm=image 4000 udptl t38\r\n"
    dialog.invite(line.format(1))
    invite = dialog.last
    dialog.response(200, invite, body=line.format(2))
    dialog.ack(invite)
    dialog.hang_up()
    result = outcome(dialog.call, MediaFacts())
    assert result.name == "missing"
    assert result.reason.startswith("no audio stream was agreed on; fax (T.38) from ")


def test_kinds_are_bounded():
    many = "".join(f"m=kind{number} 4000 x 0\r\n" for number in range(30))
    dialog = established(many, many)
    assert len(told(dialog)) == 2 * MAX_KINDS


def info(content_type, body, method="INFO"):
    return parse_sip(
        f"{method} sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
        f"To: <sip:b@c>;tag=2\r\nCall-ID: x\r\nCSeq: 5 {method}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )


@pytest.mark.parametrize(
    ("content_type", "body", "keys"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", ("5", 160)),
        ("application/dtmf-relay", "Signal= *\r\nDuration= 90", ("*", 90)),
        ("application/dtmf-relay", "Duration=90\nSignal=d\n", ("D", 90)),
        ("application/dtmf-relay", "Signal=11\r\n", ("#", None)),
        ("application/dtmf-relay", "Signal=16\r\n", None),
        ("application/dtmf-relay", "Signal=5\r\nDuration=99999999\r\n", ("5", None)),
        ("application/dtmf; charset=utf-8", " 7\r\n", ("7", None)),
        ("application/dtmf", "77", None),
        (
            "application/vnd.nortelnetworks.digits",
            "p=Digit-Collection\r\ny=Digits\r\nd=12#\r\n",
            ("12#", None),
        ),
        ("application/vnd.nortelnetworks.digits", "p=Digit-Collection\r\nd=x\r\n", None),
        ("text/plain", "Signal=5\r\n", None),
        ("application/dtmf-relay", "Signal=5\r\n" + "x" * 2000, None),
    ],
)
def test_keys_of_an_info(content_type, body, keys):
    assert info_keys(info(content_type, body)) == keys
    assert info_keys(info(content_type, body, "MESSAGE")) is None
