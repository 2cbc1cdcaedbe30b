"""SIP messages as they should be, and the tolerable ways in which they are not."""

import pytest

from recorderd.errors import PeerError
from recorderd.wire.sip import BODY_CUT, MAX_HEAD, MAX_MESSAGE, SipError, SipMessage, parse_sip
from recorderd.wire.sip_headers import COMPACT, MAX_HEADERS
from recorderd.wire.sip_party import Party, parse_party

INVITE = (
    b"INVITE sip:bob@biloxi.example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP pc33.atlanta.example.com;branch=z9hG4bK776asdhds;rport\r\n"
    b"Via: SIP/2.0/UDP old.example.com;branch=z9hG4bKolder\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Alice Liddell" <sip:alice@atlanta.example.com>;tag=1928301774\r\n'
    b"To: Bob <sip:bob@biloxi.example.com>\r\n"
    b"Call-ID: a84b4c76e66710@pc33.atlanta.example.com\r\n"
    b"CSeq: 314159 INVITE\r\n"
    b"Contact: <sip:alice@pc33.atlanta.example.com>\r\n"
    b"Content-Type: application/sdp; charset=utf-8\r\n"
    b"Content-Length: 5\r\n"
    b"\r\n"
    b"v=0\r\n"
)
REQUIRED = b"Call-ID: 1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCSeq: 1 INVITE\r\n"


def message(*lines: bytes, body: bytes = b"", start: bytes = b"INVITE sip:b@x SIP/2.0") -> SipMessage:
    return parse_sip(start + b"\r\n" + REQUIRED + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body)


def test_a_request():
    parsed = parse_sip(INVITE)
    assert (parsed.method, parsed.uri) == ("INVITE", "sip:bob@biloxi.example.com")
    assert (parsed.status, parsed.reason) == (0, "")
    assert parsed.request_method == "INVITE"
    assert parsed.call_id == "a84b4c76e66710@pc33.atlanta.example.com"
    assert (parsed.cseq, parsed.cseq_method) == (314159, "INVITE")
    assert parsed.from_ == Party(
        "Alice Liddell", "sip:alice@atlanta.example.com", "alice", "atlanta.example.com", "1928301774"
    )
    assert parsed.to == Party("Bob", "sip:bob@biloxi.example.com", "bob", "biloxi.example.com", "")
    assert parsed.content_type == "application/sdp"
    assert parsed.body == b"v=0\r\n"
    assert parsed.branch == "z9hG4bK776asdhds"
    assert parsed.defects == ()


def test_a_response():
    parsed = parse_sip(
        b"SIP/2.0 486 Busy Here\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1\r\ni: 1\r\nf: <sip:a@x>;tag=1\r\n"
        b"t: <sip:b@x>;tag=2\r\nCSeq: 7 INVITE\r\nl: 0\r\n\r\n"
    )
    assert (parsed.method, parsed.status, parsed.reason) == (None, 486, "Busy Here")
    assert parsed.request_method == "INVITE"
    assert (parsed.from_.tag, parsed.to.tag) == ("1", "2")
    assert parsed.defects == ()


def test_headers_are_found_by_any_name_in_any_case():
    parsed = parse_sip(INVITE)
    for name in ("via", "Via", "VIA", "v", "V"):
        assert parsed.all(name) == [
            "SIP/2.0/UDP pc33.atlanta.example.com;branch=z9hG4bK776asdhds;rport",
            "SIP/2.0/UDP old.example.com;branch=z9hG4bKolder",
        ]
        assert parsed.header(name) == parsed.all(name)[0]
    assert parsed.header("X-None") is None
    assert parsed.all("X-None") == []


@pytest.mark.parametrize(("compact", "name"), COMPACT.items())
def test_compact_names(compact, name):
    parsed = message(compact.upper().encode() + b" :\t17 ")
    assert parsed.headers[-1] == (name, "17")
    assert parsed.header(compact) == parsed.header(name)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_folded_headers(end):
    parsed = message(b"Subject: a" + end + b" b" + end + b"\tc" + end + b"   " + end + b" d")
    assert parsed.header("subject") == "a b c d"
    assert parsed.defects == ()


# The one is read at a glance, the others are not.
@pytest.mark.parametrize(
    "odd", [b"Subject: x", b"Subject:\r\n x", b"Subject: x\r\nnothing", b"Subject: x\xff"]
)
def test_headers_stay_in_order_when_some_are_there_again(odd):
    parsed = message(b"Via: 1", b"X-A: 2", b"v: 3", odd, b"x-a: 4", b"Contact: 5", b"VIA: 6")
    names = ["via", "x-a", "via", "subject", "x-a", "contact", "via"]
    found = parsed.headers[-len(names) :]
    assert [name for name, _ in found] == names
    assert [value for name, value in found if name != "subject"] == ["1", "2", "3", "4", "5", "6"]
    assert list(parsed.first)[-4:] == ["via", "x-a", "subject", "contact"]
    assert parsed.all("Via") == ["1", "3", "6"]
    assert parsed.header("X-A") == "2"


def test_bare_line_feeds():
    assert parse_sip(INVITE.replace(b"\r\n", b"\n").replace(b"Length: 5", b"Length: 4")).body == b"v=0\n"


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n", b"\r\n\r\n"])
def test_the_first_empty_line_ends_the_head(end):
    parsed = parse_sip(b"INVITE sip:b@x SIP/2.0\r\n" + REQUIRED[:-2] + end + b"X: 1\r\n\r\nrest\n\nrest")
    assert parsed.body == b"X: 1\r\n\r\nrest\n\nrest"
    assert parsed.header("x") is None
    assert parsed.defects == ()


@pytest.mark.parametrize(
    "separator", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"]
)
def test_only_a_line_feed_ends_a_line(separator):
    # str.splitlines would see a second Call-ID here.
    parsed = message(f"Subject: x{separator}Call-ID: forged{separator}X-Injected: 1".encode())
    assert parsed.call_id == "1"
    assert parsed.header("x-injected") is None
    assert separator in (parsed.header("subject") or "")


def test_an_empty_line_may_precede_the_message():
    assert parse_sip(b"\r\n\r\n\n" + INVITE) == parse_sip(INVITE)


def test_text_that_is_not_utf8_is_taken_for_latin_1_line_by_line():
    parsed = message(b"Subject: M\xfcller", "X-Name: Мюллер".encode())
    assert parsed.header("subject") == "Müller"
    assert parsed.header("x-name") == "Мюллер"
    assert parsed.defects == ("a header is not UTF-8",)


def test_a_call_id_has_no_zero_bytes():
    """Databases and programs in C would see it end there."""
    parsed = parse_sip(INVITE.replace(b"a84b4c76e66710", b"a84b\0c76"))
    assert parsed.call_id == "a84b\ufffdc76@pc33.atlanta.example.com"
    assert parsed.defects == ("a zero byte in the Call-ID",)
    # A quoted name may have one (RFC 4475 section 3.1.1.2).
    assert message(b'Contact: "\\\0" <sip:a@b>').defects == ()


class TestBody:
    def test_what_content_length_covers(self):
        parsed = message(b"Content-Length: 3", body=b"abcdef")
        assert parsed.body == b"abc"
        assert parsed.defects == ("bytes after the body",)

    def test_a_body_that_was_cut(self):
        parsed = message(b"Content-Length: 9", body=b"abc")
        assert parsed.body == b"abc"
        assert parsed.defects == (BODY_CUT,)

    def test_without_content_length_the_rest_is_the_body(self):
        parsed = message(body=b"abc")
        assert parsed.body == b"abc"
        assert parsed.defects == ()

    @pytest.mark.parametrize(
        "length",
        [
            b"-1",
            b"+3",
            b"1_0",
            b"0x3",
            b"3.0",
            b"three",
            b"",
            b"3 3",
            b"999999999999999999999999",
            b"9" * 5000,
            "３".encode(),
            "٣".encode(),
            "³".encode(),
            b"\xb3",
        ],
    )
    def test_a_length_that_is_no_number_is_not_believed(self, length):
        parsed = message(b"Content-Length: " + length, body=b"abcdef")
        assert parsed.body == b"abcdef"
        assert "the Content-Length cannot be read" in parsed.defects

    def test_zeros_before_the_length(self):
        assert message(b"Content-Length: 0003", body=b"abc").body == b"abc"

    def test_two_lengths(self):
        assert message(b"Content-Length: 3", b"l: 3", body=b"abcdef").body == b"abc"
        contradictory = message(b"Content-Length: 3", b"l: 5", body=b"abcdef")
        assert contradictory.body == b"abcdef"
        assert "more than one content-length" in contradictory.defects


class TestStartLine:
    @pytest.mark.parametrize(
        "line",
        [
            b"INVITE  sip:b@x SIP/2.0",
            b"INVITE sip:b@x  SIP/2.0",
            b"INVITE\tsip:b@x SIP/2.0",
            b"INVITE sip:b@x SIP/2.0  ",
            b"INVITE sip:b@x; lr SIP/2.0",
        ],
    )
    def test_odd_white_space(self, line):
        parsed = message(start=line)
        assert parsed.method == "INVITE"
        assert parsed.uri.startswith("sip:b@x")
        assert parsed.defects == ("white space in the request line",)

    @pytest.mark.parametrize("line", [b"INVITE sip:b@x sip/2.0", b"INVITE sip:b@x SIP/7.0"])
    def test_the_version(self, line):
        assert message(start=line).method == "INVITE"
        assert ("not SIP/2.0" in message(start=line).defects) == (b"7" in line)

    @pytest.mark.parametrize("line", [b"SIP/2.0 200", b"SIP/2.0 200 ", b"SIP/2.0\t200\t", b"sip/2.0  200"])
    def test_a_status_without_a_reason(self, line):
        parsed = message(start=line)
        assert (parsed.status, parsed.reason) == (200, "")

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"INVITE",
            b"INVITE sip:b@x",
            b"INVITE SIP/2.0",
            b"GET / HTTP/1.1",
            b"INVITE sip:b@x HTTP/1.1",
            b"SIP/2.0 99 Low",
            b"SIP/2.0 700 High",
            b"SIP/2.0 4294967301 better not",
            b"SIP/2.0 2x0 OK",
            b"SIP/2.0",
            "SIP/2.0 ２００ OK".encode(),
            b"SIP/2.0 +200 OK",
            b"(INVITE) sip:b@x SIP/2.0",
            b"INVITE sip:b@x SIP/2.O",
            b"\x16\x03\x01",
            b"OPTIONS sip:b@x SIP/99999.0",
            b"M" * 65 + b" sip:b@x SIP/2.0",
        ],
    )
    def test_what_is_not_sip(self, line):
        with pytest.raises(SipError):
            message(start=line)

    def test_methods_are_case_sensitive(self):
        assert message(start=b"invite sip:b@x SIP/2.0").method == "invite"


class TestMissing:
    def test_without_a_call_id_there_is_no_message(self):
        for line in (b"", b"Call-ID:\r\n", b"Call-ID: \t\r\n"):
            with pytest.raises(SipError):
                parse_sip(b"INVITE a SIP/2.0\r\n" + line + b"CSeq: 1 INVITE\r\n\r\n")

    def test_a_request_can_do_without_the_rest(self):
        parsed = parse_sip(b"BYE a SIP/2.0\r\nCall-ID: 1\r\n\r\n")
        assert (parsed.cseq, parsed.cseq_method) == (-1, "BYE")
        assert parsed.from_ == parsed.to == Party()
        assert parsed.branch == ""
        assert parsed.defects == ("no readable CSeq", "no From", "no To")

    @pytest.mark.parametrize("cseq", [b"", b"CSeq: 1\r\n", b"CSeq: INVITE\r\n", b"CSeq: x INVITE\r\n"])
    def test_a_response_needs_its_cseq(self, cseq):
        with pytest.raises(SipError):
            parse_sip(b"SIP/2.0 200 OK\r\nCall-ID: 1\r\n" + cseq + b"\r\n")

    def test_the_first_of_several_counts(self):
        parsed = message(b"i: 2", b"From: <sip:c@x>;tag=3", b"f: <sip:d@x>;tag=4", b"t: <sip:b@x>")
        assert (parsed.call_id, parsed.from_.tag) == ("1", "1")
        assert parsed.defects == ("more than one call-id", "more than one from")


@pytest.mark.parametrize(
    ("value", "number", "defects"),
    [
        (b"0 INVITE", 0, ()),
        (b"0009 INVITE", 9, ()),
        (b"2147483647\t INVITE", 2147483647, ()),
        (b"2147483648 INVITE", 2147483648, ("the CSeq is too large",)),
        (b"4294967295 INVITE", 4294967295, ("the CSeq is too large",)),
        (b"4294967296 INVITE", -1, ("no readable CSeq",)),
        (b"-1 INVITE", -1, ("no readable CSeq",)),
        (b"+1 INVITE", -1, ("no readable CSeq",)),
        (b"1_0 INVITE", -1, ("no readable CSeq",)),
        (b"1" * 5000 + b" INVITE", -1, ("no readable CSeq",)),
        ("１ INVITE".encode(), -1, ("no readable CSeq",)),
        (b"1 INVITE x", 1, ("no readable CSeq",)),
        (b"5 OPTIONS", 5, ("the CSeq is of another method",)),
    ],
)
def test_cseq(value, number, defects):
    parsed = parse_sip(
        b"INVITE a SIP/2.0\r\ni: 1\r\nf: <sip:a@x>\r\nt: <sip:b@x>\r\nCSeq: " + value + b"\r\n\r\n"
    )
    assert (parsed.cseq, parsed.defects) == (number, defects)


@pytest.mark.parametrize(
    ("via", "branch"),
    [
        (b"SIP/2.0/UDP a;branch=z9hG4bK1", "z9hG4bK1"),
        (b"SIP / 2.0 / UDP  a ; Branch = z9hG4bK1 ;x", "z9hG4bK1"),
        (b"SIP/2.0/UDP a;branch=z9hG4bK1,SIP/2.0/UDP b;branch=z9hG4bK2", "z9hG4bK1"),
        (b"SIP/2.0/UDP a,SIP/2.0/UDP b;branch=z9hG4bK2", ""),
        (b"SIP/2.0/UDP a;branch=", ""),
        (b"SIP/2.0/UDP a;xbranch=1", ""),
        (b"SIP/2.0/UDP a;rport;branch=1;ttl=2", "1"),
        (b"SIP/2.0/UDP a;Branch=1;branch=2", "1"),
        (b"SIP/2.0/UDP a;branch=1 2", "1"),
        (b"SIP/2.0/UDP a;branch= 1", "1"),
        ("SIP/2.0/UDP a;branch=1\u20032".encode(), "1"),
        (b"SIP/2.0/UDP a;branch=;branch=2", "2"),
    ],
)
def test_branch(via, branch):
    assert message(b"Via: " + via).branch == branch


@pytest.mark.parametrize(
    ("value", "party", "sound"),
    [
        ("<sip:alice@x>;tag=1", Party("", "sip:alice@x", "alice", "x", "1"), True),
        ("sip:alice@x;tag=1", Party("", "sip:alice@x", "alice", "x", "1"), True),
        ("sips:x", Party("", "sips:x", "", "x", ""), True),
        ('"A \\"B\\" \\\\C" <sip:a@x>', Party('A "B" \\C', "sip:a@x", "a", "x", ""), True),
        ("A  B<sip:a@x> ; TAG = 1 ; x", Party("A B", "sip:a@x", "a", "x", "1"), True),
        ('<sip:a@x>;x=";tag=no";tag=yes', Party("", "sip:a@x", "a", "x", "yes"), True),
        ("<sip:a@x;tag=uri>;tag=head", Party("", "sip:a@x;tag=uri", "a", "x", "head"), True),
        ("<sip:a;tag=user@x>", Party("", "sip:a;tag=user@x", "a;tag=user", "x", ""), True),
        (
            "<sip:a:secret@X.Example.:5060;lr?h=1>",
            Party("", "sip:a:secret@X.Example.:5060;lr?h=1", "a", "x.example", ""),
            True,
        ),
        (
            "<sip:%61%20b@[2001:DB8::0:1]:5060>",
            Party("", "sip:%61%20b@[2001:DB8::0:1]:5060", "a b", "2001:db8::1", ""),
            True,
        ),
        ("<sip:+4930123;npdi=yes@gw>", Party("", "sip:+4930123;npdi=yes@gw", "+4930123", "gw", ""), True),
        (
            "<tel:+1-201-555-0123;ext=7>;tag=1",
            Party("", "tel:+1-201-555-0123;ext=7", "+1-201-555-0123", "", "1"),
            True,
        ),
        ("<urn:service:sos>", Party("", "urn:service:sos", "", "", ""), True),
        ('"open <sip:a@x>;tag=1', Party("open", "sip:a@x", "a", "x", "1"), False),
        ("<sip:a@x;tag=1", Party("", "sip:a@x", "a", "x", "1"), False),
        ("< sip:a b@x >", Party("", "sip:a b@x", "a b", "x", ""), False),
        ("", Party(), False),
        ("<>", Party(), False),
        (";tag=1", Party(tag="1"), False),
        ('"', Party(), False),
    ],
)
def test_parties(value, party, sound):
    assert parse_party(value) == (party, sound)


class TestBounds:
    def test_size(self):
        head = b"INVITE a SIP/2.0\r\n" + REQUIRED + b"\r\n"
        assert len(parse_sip(head + b"x" * (MAX_MESSAGE - len(head))).body) == MAX_MESSAGE - len(head)
        with pytest.raises(SipError):
            parse_sip(head + b"x" * (MAX_MESSAGE - len(head) + 1))

    @pytest.mark.parametrize("extra", [-1, 0, 1])
    def test_size_of_the_head(self, extra):
        start = b"INVITE a SIP/2.0\r\n" + REQUIRED + b"Subject: "
        data = start + b"x" * (MAX_HEAD - len(start) - 1 + extra) + b"\r\n\r\n"
        if extra > 0:
            with pytest.raises(SipError):
                parse_sip(data)
        else:
            assert parse_sip(data).defects == ()

    @pytest.mark.parametrize("extra", [-1, 0, 1])
    def test_number_of_headers(self, extra):
        parsed = message(*[b"X-N: %d" % n for n in range(MAX_HEADERS - 4 + extra)])
        assert len(parsed.headers) == min(MAX_HEADERS, MAX_HEADERS + extra)
        assert parsed.defects == ((f"more than {MAX_HEADERS} headers",) if extra > 0 else ())

    def test_a_flood_of_headers_hides_nothing_that_matters(self):
        lines = b"X: 1\n" * 5000
        parsed = parse_sip(b"INVITE a SIP/2.0\n" + lines + REQUIRED + b"c: application/sdp\nl: 3\n\nabcdef")
        assert (parsed.call_id, parsed.cseq, parsed.from_.tag) == ("1", 1, "1")
        assert (parsed.content_type, parsed.body) == ("application/sdp", b"abc")
        assert len(parsed.headers) < MAX_HEADERS + 10

    def test_defects_are_few_and_quote_nobody(self):
        parsed = message(*[b"evil line", b" \xff", b"From: <evil", b"To: evil evil"] * 500, body=b"")
        assert len(parsed.defects) < 10
        assert not any("evil" in defect for defect in parsed.defects)

    def test_the_error_is_a_peers(self):
        assert issubclass(SipError, PeerError)
