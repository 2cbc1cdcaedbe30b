"""Session descriptions as ends write them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.errors import PeerError
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdp import DIRECTIONS, MAX_MEDIA, MAX_SDP, SdpError, parse_sdp, sdp_of
from recorderd.wire.sdp_formats import MAX_CLOCK_RATE, STATIC, PayloadFormat, parse_rtpmap, static_format
from recorderd.wire.sip import parse_sip
from tests.fuzzing import inputs

SDP = (
    b"v=0\r\no=alice 2890844526 2890844526 IN IP4 host.example.com\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n"
    b"m=audio 49170 RTP/AVP 0 8 111 101 13\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:111 opus/48000/2\r\n"
    b"a=fmtp:111 minptime=20;useinbandfec=1\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n"
    b"a=ptime:20\r\na=sendrecv\r\na=label:7\r\na=rtcp-mux\r\n"
    b"m=video 51372 RTP/AVP 31 99\r\nc=IN IP6 2001:DB8::1\r\na=rtpmap:99 h263-1998/90000\r\na=inactive\r\n"
)


def audio(*lines: str, media: str = "m=audio 4000 RTP/AVP 0", session: str = "c=IN IP4 10.0.0.1"):
    """The first medium of a small description."""
    text = "\r\n".join(["v=0", session, media, *lines, ""])
    return parse_sdp(text.encode("utf-8", "surrogateescape")).media[0]


def test_a_description():
    parsed = parse_sdp(SDP)
    assert parsed.origin == "alice 2890844526 2890844526 IN IP4 host.example.com"
    assert parsed.defects == ()
    sound, picture = parsed.media
    assert (sound.kind, sound.endpoint, sound.protocol) == ("audio", Endpoint("10.0.0.1", 49170), "RTP/AVP")
    assert sound.formats == {
        0: PayloadFormat("pcmu", 8000),
        8: PayloadFormat("pcma", 8000),
        111: PayloadFormat("opus", 48000, 2, "minptime=20;useinbandfec=1"),
        101: PayloadFormat("telephone-event", 8000, 1, "0-16"),
        13: PayloadFormat("cn", 8000),
    }
    assert list(sound.formats) == [0, 8, 111, 101, 13], "in the order of preference"
    assert (sound.ptime, sound.label, sound.rtcp_mux, sound.encrypted) == (20, "7", True, False)
    assert (sound.direction, sound.held, sound.sends, sound.receives) == ("sendrecv", False, True, True)
    assert (picture.kind, picture.endpoint) == ("video", Endpoint("2001:db8::1", 51372))
    assert (picture.direction, picture.sends, picture.receives) == ("inactive", False, False)
    assert picture.formats[31] == PayloadFormat("h261", 90000)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \r\n", b"\t\n"])
def test_line_ends(end):
    assert parse_sdp(SDP.replace(b"\r\n", end)).media == parse_sdp(SDP).media


@pytest.mark.parametrize("number", range(128))
def test_static_payload_types(number):
    known = audio(media=f"m=audio 4000 RTP/AVP {number}").formats
    assert known == ({number: STATIC[number]} if number in STATIC else {})
    assert static_format(number) == STATIC.get(number)


def test_an_rtpmap_goes_before_the_static_meaning():
    assert audio("a=rtpmap:0 PCMA/16000").formats[0] == PayloadFormat("pcma", 16000)
    assert audio("a=rtpmap:0 nonsense").formats[0] == STATIC[0]
    assert audio("a=fmtp:0 x=y").formats[0] == PayloadFormat("pcmu", 8000, 1, "x=y")


@pytest.mark.parametrize(
    ("session", "line", "direction"),
    [
        ("", "", "sendrecv"),
        ("a=sendonly", "", "sendonly"),
        ("a=sendonly", "a=recvonly", "recvonly"),
        ("", "a=INACTIVE", "inactive"),
        ("", "a=sendonly ", "sendonly"),
        ("", "a=sendonlyx", "sendrecv"),
    ],
)
def test_direction(session, line, direction):
    assert audio(line, session=f"c=IN IP4 10.0.0.1\r\n{session}").direction == direction


@pytest.mark.parametrize(
    "address", ["IP4 0.0.0.0", "IP6 ::", "IP6 0:0:0:0:0:0:0:0", "IP4 hold.example.invalid"]
)
def test_the_old_hold(address):
    held = audio(f"c=IN {address}")
    assert (held.held, held.direction, held.receives, held.sends) == (True, "sendrecv", False, True)


class TestConnection:
    @pytest.mark.parametrize(
        ("line", "host"),
        [
            ("c=IN IP4 192.0.2.1", "192.0.2.1"),
            ("c=IN IP4 224.2.36.42/127", "224.2.36.42"),
            ("c=IN IP4 224.2.1.1/127/3", "224.2.1.1"),
            ("c=IN  IP4\t192.0.2.1 ", "192.0.2.1"),
            ("c=in ip6 2001:DB8:0::1", "2001:db8::1"),
            ("c=IN IP4 2001:db8::1", "2001:db8::1"),
            ("c=IN IP4 media.Example.com", "media.example.com"),
            ("c=IN IP4 192.0.2.1 and more", "192.0.2.1"),
        ],
    )
    def test_hosts(self, line, host):
        assert audio(line).endpoint == Endpoint(host, 4000)

    @pytest.mark.parametrize(
        "line", ["c=", "c=IN IP4", "c=IN IP4 /127", "c=IN IP4 a\x00b", "c=IN IP4 " + "9" * 5000, "c=IN IP4 é"]
    )
    def test_what_cannot_be_read_leaves_the_sessions_address(self, line):
        parsed = parse_sdp(f"v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\n{line}\r\n".encode())
        assert parsed.media[0].endpoint == Endpoint("10.0.0.1", 4000)
        assert parsed.defects == ("a connection address cannot be read",)

    def test_without_any_address(self):
        parsed = parse_sdp(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n")
        assert parsed.media[0].endpoint is None
        assert parsed.defects == ("media without an address",)


class TestMediaLine:
    @pytest.mark.parametrize(
        ("port", "expected"), [("4000", 4000), ("4000/2", 4000), ("65535", 65535), ("04000", 4000)]
    )
    def test_ports(self, port, expected):
        assert audio(media=f"m=audio {port} RTP/AVP 0").endpoint.port == expected

    @pytest.mark.parametrize("port", ["0", "0/2"])
    def test_port_0_is_a_stream_that_is_not_taken(self, port):
        refused = audio(media=f"m=audio {port} RTP/AVP 0")
        assert (refused.endpoint, refused.sends, refused.receives) == (None, False, False)

    @pytest.mark.parametrize("port", ["492170", "65536", "-1", "+5", "1_0", "４", "x", "9" * 5000])
    def test_what_is_no_port(self, port):
        parsed = parse_sdp(f"v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio {port} RTP/AVP 0\r\n".encode())
        assert parsed.media[0].endpoint is None
        assert parsed.defects == ("a port is out of range",)

    @pytest.mark.parametrize(
        "line", ["m=", "m=audio", "m=audio 4000", "m= 4000 RTP/AVP 0", "m=é 4000 RTP/AVP", "m=" + "x" * 200]
    )
    def test_an_incomplete_line_keeps_its_place(self, line):
        parsed = parse_sdp(f"v=0\r\nc=IN IP4 10.0.0.1\r\n{line}\r\nm=audio 4002 RTP/AVP 0\r\n".encode())
        assert len(parsed.media) == 2
        assert parsed.media[1].endpoint.port == 4002

    def test_a_media_type_of_200_bytes(self):
        parsed = parse_sdp(b"v=0\r\nc=IN IP4 10.0.0.1\r\nm=" + b"x" * 200 + b" 4000 RTP/AVP 0\r\n")
        assert parsed.media[0].kind == ""
        assert parsed.defects == ("a media type cannot be read",)

    def test_odd_white_space(self):
        assert audio(media="m=audio  4000\tRTP/AVP   0  8 ").formats.keys() == {0, 8}

    def test_a_fax_has_no_formats(self):
        fax = audio(media="m=image 4000 udptl t38")
        assert (fax.kind, fax.protocol, dict(fax.formats)) == ("image", "UDPTL", {})


class TestFormats:
    @pytest.mark.parametrize(
        ("encoding", "known"),
        [
            ("PCMU/8000", PayloadFormat("pcmu", 8000)),
            ("PCMU/8000/1", PayloadFormat("pcmu", 8000)),
            ("PCMU/8000/", PayloadFormat("pcmu", 8000)),
            ("opus/48000/2", PayloadFormat("opus", 48000, 2)),
            (" L16 / 44100 / 2 ".replace(" /", "/"), PayloadFormat("l16", 44100, 2)),
            ("AMR-WB/16000/255", PayloadFormat("amr-wb", 16000, 255)),
            (f"x/{MAX_CLOCK_RATE}", PayloadFormat("x", MAX_CLOCK_RATE)),
            (f"x/{MAX_CLOCK_RATE + 1}", None),
            ("x/0", None),
            ("x/4294967296", None),
            ("x/-8000", None),
            ("x/+8000", None),
            ("x/8_000", None),
            ("x/８０００", None),
            ("x/8000/0", None),
            ("x/8000/256", None),
            ("x/8000/x", None),
            ("x", None),
            ("x/", None),
            ("/8000", None),
            ("", None),
            ("x y/8000", None),
            ("x" * 65 + "/8000", None),
            ("é/8000", None),
        ],
    )
    def test_rtpmap(self, encoding, known):
        assert parse_rtpmap(encoding) == known

    @pytest.mark.parametrize(
        "line",
        [
            "a=rtpmap:128 x/8000",
            "a=rtpmap:-1 x/8000",
            "a=rtpmap: x/8000",
            "a=fmtp:+1 x",
            "a=rtpmap:１ x/8000",
        ],
    )
    def test_payload_types_out_of_range(self, line):
        parsed = parse_sdp(
            f"v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0 128 -1\r\n{line}\r\n".encode()
        )
        assert parsed.media[0].formats == {0: STATIC[0]}
        assert parsed.defects == ("a payload type is out of range",)

    def test_a_nul_in_an_attribute_name(self):
        assert audio("a=fmtp\x00:0 x").formats == {0: STATIC[0]}

    def test_unknown_dynamic_types_are_left_out(self):
        assert audio(media="m=audio 4000 RTP/AVP 96 0").formats == {0: STATIC[0]}

    def test_an_encoding_that_cannot_be_read(self):
        parsed = parse_sdp(b"v=0\r\nc=IN IP4 1.1.1.1\r\nm=audio 4000 RTP/AVP 96\r\na=rtpmap:96 x/0\r\n")
        assert dict(parsed.media[0].formats) == {}
        assert parsed.defects == ("an encoding cannot be read",)

    def test_parameters_are_clipped(self):
        assert len(audio("a=fmtp:0 " + "x" * 50_000).formats[0].fmtp) == 1024


@pytest.mark.parametrize(
    ("media", "lines", "session", "encrypted"),
    [
        ("RTP/AVP", "", "", False),
        ("RTP/SAVP", "", "", True),
        ("RTP/SAVPF", "", "", True),
        ("UDP/TLS/RTP/SAVPF", "", "", True),
        ("rtp/savp", "", "", True),
        ("RTP/AVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", "", True),
        ("RTP/AVP", "a=fingerprint:sha-256 00", "", True),
        ("RTP/AVP", "", "a=fingerprint:sha-256 00", True),
    ],
)
def test_encryption(media, lines, session, encrypted):
    found = audio(lines, media=f"m=audio 4000 {media} 0", session=f"c=IN IP4 10.0.0.1\r\n{session}")
    assert found.encrypted is encrypted


@pytest.mark.parametrize(
    ("line", "ptime"),
    [
        ("a=ptime:20", 20),
        ("a=ptime: 30 ", 30),
        ("a=ptime:0", None),
        ("a=ptime:20.5", None),
        ("a=ptime:+20", None),
        ("a=ptime:1001", None),
        ("a=maxptime:40", None),
    ],
)
def test_ptime(line, ptime):
    assert audio(line).ptime == ptime


class TestWhole:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\r\n",
            b"hello",
            b"{}",
            b"<xml/>",
            b"\x00" * 100,
            b" v=0\r\n",
            b"o=x\r\nc=IN IP4 1.1.1.1\r\n",
        ],
    )
    def test_what_is_no_description(self, body):
        with pytest.raises(SdpError):
            parse_sdp(body)

    def test_without_a_version(self):
        assert parse_sdp(SDP.removeprefix(b"v=0\r\n")).media == parse_sdp(SDP).media

    def test_every_truncation(self):
        for size in range(len(SDP)):
            try:
                parsed = parse_sdp(SDP[:size])
            except SdpError:
                assert size < 2
            else:
                assert len(parsed.media) <= 2

    @pytest.mark.parametrize("behind", [b"\x00", b"\r\n\r\n", b"\xff" * 100, b"garbage\r\n"])
    def test_with_more_behind_it(self, behind):
        assert parse_sdp(SDP + behind).media == parse_sdp(SDP).media

    def test_lines_that_are_none(self):
        assert parse_sdp(b"garbage\n" + SDP).defects == ("a line is no SDP",)

    @pytest.mark.parametrize("extra", [-1, 0, 1])
    def test_number_of_media(self, extra):
        count = MAX_MEDIA + extra
        parsed = parse_sdp(b"v=0\nc=IN IP4 1.1.1.1\n" + b"m=audio 4000 RTP/AVP 0\n" * count)
        assert len(parsed.media) == min(count, MAX_MEDIA)
        assert bool(parsed.defects) is (extra > 0)

    @pytest.mark.parametrize("extra", [-1, 0, 1])
    def test_size(self, extra):
        body = SDP + b"a=x\n" * (MAX_SDP // 4)
        body = body[: MAX_SDP + extra]
        if extra > 0:
            with pytest.raises(SdpError):
                parse_sdp(body)
        else:
            assert len(parse_sdp(body).media) == 2

    def test_the_error_is_a_peers(self):
        assert issubclass(SdpError, PeerError)


class TestInMessages:
    @staticmethod
    def of(head: bytes, body: bytes):
        return sdp_of(parse_sip(b"INVITE a SIP/2.0\r\nCall-ID: 1\r\n" + head + b"\r\n" + body))

    @pytest.mark.parametrize(
        "head", [b"c: application/sdp\r\n", b"Content-Type: Application/SDP;x=y\r\n", b""]
    )
    def test_alone(self, head):
        assert self.of(head, SDP) == parse_sdp(SDP)

    def test_in_a_multipart_body(self):
        body = b"--x\r\n\r\nhello\r\n--x\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--x--"
        assert self.of(b"c: multipart/mixed;boundary=x\r\n", body).media == parse_sdp(SDP).media

    @pytest.mark.parametrize(
        "head", [b"c: text/plain\r\n", b"c: application/dtmf-relay\r\n", b"c: multipart/mixed;boundary=y\r\n"]
    )
    def test_other_bodies(self, head):
        assert self.of(head, b"Signal=5\r\n") is None
        assert self.of(head, b"") is None

    def test_a_cut_body_is_read_to_its_last_whole_line(self):
        cut = SDP[: SDP.index(b"72 RTP/AVP 31")]  # ...m=video 513
        found = self.of(b"c: application/sdp\r\nl: %d\r\n" % len(SDP), cut)
        assert [media.kind for media in found.media] == ["audio"]

    def test_an_encoded_body_cannot_be_read(self):
        assert self.of(b"e: identity\r\nc: application/sdp\r\n", SDP) == parse_sdp(SDP)
        with pytest.raises(SdpError):
            self.of(b"e: gzip\r\nc: application/sdp\r\n", SDP)


def read(body: bytes) -> None:
    try:
        parsed = parse_sdp(body)
    except SdpError:
        return
    assert len(parsed.media) <= MAX_MEDIA
    assert len(parsed.defects) <= 16
    for media in parsed.media:
        assert media.direction in DIRECTIONS
        assert media.endpoint is None or 0 < media.endpoint.port < 65536
        assert len(media.kind) <= 32
        assert len(media.protocol) <= 32
        for number, known in media.formats.items():
            assert 0 <= number < 128
            assert 0 < known.clock_rate <= MAX_CLOCK_RATE
            assert 0 < known.channels < 256
            assert known.encoding == known.encoding.lower() != ""


@given(st.binary(max_size=1000))
def test_any_bytes(body):
    read(body)
    read(b"v=0\n" + body)


PIECES = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"v=0",
        b"o=",
        b"c=IN IP4 1.2.3.4",
        b"c=",
        b"IN IP6 ",
        b"m=audio 1 RTP/AVP 0",
        b"m=",
        b"audio ",
        b"0 ",
        b"99999 ",
        b"a=rtpmap:0 PCMU/8000",
        b"a=rtpmap:",
        b"96 ",
        b"opus/48000/2",
        b"a=fmtp:96 ",
        b"a=sendonly",
        b"a=inactive",
        b"a=crypto:",
        b"/",
        b":",
        b" ",
        b"\x00",
        b"\xff",
        "٣".encode(),
        b"-1",
        b"4294967296",
    ]
)


@given(st.lists(PIECES, max_size=60).map(b"".join))
@inputs(300)
def test_any_mixture_of_lines(body):
    read(body)


def mostly(usual, *odd):
    """The usual one as often as all others together."""
    return st.sampled_from([usual] * len(odd) + list(odd))


LINES = st.lists(
    st.sampled_from(
        [
            *(
                "",
                "b=AS:64",
                "t=0 0",
                "s=-",
                "nonsense",
                "c=IN IP4 10.9.9.9",
                "c=IN IP4 0.0.0.0",
                "c=IN IP4 ?",
            ),
            *(
                "m=audio 4000 RTP/AVP 0",
                "m=video 5000 RTP/AVP 31",
                "a=sendonly",
                "a=ptime:20",
                "a=setup:\u00e9",
            ),
            *("a=rtpmap:101 telephone-event/8000", "a=rtpmap:0 x", "a=fingerprint:sha-1 AA"),
        ]
    ),
    max_size=3,
)


@given(
    mostly("v=0", "v=0 ", "V=0"),
    mostly("o=- 1 1 IN IP4 a", "o= x\t", "o=a\rb", "o=" + "y" * 300, "o=" + "y" * 256, "o="),
    mostly("10.0.0.1", "0.0.0.0", "10.0.0.1/9", "host.invalid", "1..9.9", "10.0.0.1 ", "::1"),
    mostly([], ["b=AS:64"], ["a=sendonly"], ["c=IN IP4 10.8.8.8"], ["k=clear:x"], ["a=fingerprint:sha-1 AA"]),
    mostly("audio", "AUDIO", "image", "au\x01dio", ""),
    mostly("4000", "0", "65536", "99999", "04000", "4000/2", "-1", ""),
    mostly("RTP/AVP 0 101", "RTP/SAVP 0", "udptl t38", " RTP/AVP  0 ", "", "RTP/AVP 128 x"),
    LINES,
    mostly("\r\n", "\n", " \r\n", "\r\r\n"),
)
@inputs(500)
def test_what_is_read_at_a_glance_says_the_same(version, origin, host, before, kind, port, rest, after, end):
    lines = [version, origin, "s=-", f"c=IN IP4 {host}", *before, "t=0 0", f"m={kind} {port} {rest}", *after]
    line_by_line = parse_sdp(end.join([*lines, "a=x:" + "y" * 4000, ""]).encode())  # as what is long is
    assert parse_sdp(end.join([*lines, ""]).encode()) == line_by_line


@pytest.mark.parametrize(
    "body",
    [
        b"v=0\n" + b"m=audio 1 RTP/AVP 0\n" * 3200,
        b"m=" * 32_000,
        b"m=\n" * 21_000,
        b"v=0\nm=audio 1 RTP/AVP" + b" 0" * 32_000,
        b"v=0\nm=audio 1 RTP/AVP 0\n" + b"a=rtpmap:0 x/1\n" * 4000,
        b"v=0\nm=audio 1 RTP/AVP 0\n" + b"a=x\n" * 16_000,
        b"v=0\n" + b"\n" * 65_000,
        b"v=0\n" + b"c=IN IP4 1.1.1.1\n" * 3800,
        b"v=0\na=" + b":" * 65_000,
        b"v=0\n" + b"\xff\n" * 32_000,
    ],
)
def test_time_is_bounded(body):
    began = time.process_time()
    read(body)
    assert time.process_time() - began < 0.5
