"""SRTP is opened as the RFCs' own vectors say, and as libsrtp sealed it."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.media.srtp import SessionKeys, SrtpKey, derived, header_lengths, packet_ivs, sealed_of
from recorderd.wire.sdes import NO_KEY, SUITES, Secret, parse_crypto
from tests.simulators.srtp import SIMPLE, Sealer, crypto_line, rtp

MASTER = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139")
SALT = bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
SSRC = np.array([[0, 0, 0, 0]], np.uint8)


def one(suite, secret, **more):
    crypto = parse_crypto(crypto_line(suite, secret, **more))
    assert not crypto.refusal
    return SrtpKey(crypto, crypto.keys[0])


def opened(key, packets, indices):
    found = key.open(sealed_of(packets), np.array(indices, np.int64))
    return [
        found.payload[n, : found.size[n]].tobytes() if found.good[n] else None for n in range(len(packets))
    ]


class TestVectors:
    def test_key_derivation(self):
        """RFC 3711 section B.3."""
        assert derived(MASTER, SALT, 0, 16).hex() == "c61e7a93744f39ee10734afe3ff7a087"
        assert derived(MASTER, SALT, 2, 14).hex() == "30cbbc08863d8c85d49db34a9ae1"
        assert derived(MASTER, SALT, 1, 94).hex() == (
            "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbcee049646c43d9327ad175578ef7227098"
            "6371c10c9a369ac2f94a8c5fbcdddc256d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2"
        )

    def test_the_key_stream_of_counter_mode(self):
        """RFC 3711 section B.2: blocks 0, 1, 2, and those around 0xFEFF."""
        salt = bytes.fromhex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD")
        keys = SessionKeys(bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"), bytes(20), salt)
        stream = keys.key_stream(packet_ivs(keys.salt, SSRC, np.array([0])), 0xFF02 * 16)[0].tobytes()
        assert stream[:48].hex() == (
            "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0"
        )
        assert stream[0xFEFF * 16 :].hex() == (
            "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae6a2cc3787889374fbeb4c81b17ba6c44"
        )

    def test_aes_256(self):
        """RFC 6188 section 7.1 and 7.2."""
        salt = bytes.fromhex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD")
        key = bytes.fromhex("57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98")
        keys = SessionKeys(key, bytes(20), salt)
        stream = keys.key_stream(packet_ivs(keys.salt, SSRC, np.array([0])), 32)[0].tobytes()
        assert stream.hex() == "92bdd28a93c3f52511c677d08b5515a49da71b2378a854f67050756ded165bac"
        master = bytes.fromhex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6")
        salt = bytes.fromhex("3b04803de51ee7c96423ab5b78d2")
        assert derived(master, salt, 0, 32).hex() == (
            "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4"
        )
        assert derived(master, salt, 2, 14).hex() == "fa31791685ca444a9e07c6c64e93"

    @pytest.mark.parametrize(
        ("key", "sealed"),
        [
            (
                bytes(range(16)),
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
                "899d7f27beb16a9152cf765ee4390cce",
            ),
            (
                bytes(range(32)),
                "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b"
                "7aa3db36dfffd6b0f9bb7878d7a76c13",
            ),
        ],
    )
    def test_gcm(self, key, sealed):
        """RFC 7714 sections 16.1.1 and 16.2.1: SEQ f17b, SSRC 5501a0b2, ROC 0."""
        head = bytes.fromhex("8040f17b8041f8d35501a0b2")
        keys = SessionKeys(key, b"", bytes.fromhex("517569642070726f2071756f"))
        iv = packet_ivs(keys.salt, np.frombuffer(head[8:], np.uint8)[None], np.array([0xF17B]))
        assert iv[0, 2:14].tobytes().hex() == "51753c6580c2726f20718414"
        plain = keys.aead.decrypt(iv[0, 2:14].tobytes(), bytes.fromhex(sealed), head)
        assert plain == b"Gallia est omnis divisa in partes tres"


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("mki", ["", "1:4", "260:2"])
def test_packets_of_a_reference_are_opened(suite, mki):
    secret = bytes(range(sum(SUITES[suite])))
    sealer = Sealer(suite, secret, mki)
    key = one(suite, secret, mki=mki)
    plain = [
        rtp(10, b"hello"),
        rtp(11, bytes(160)),
        rtp(12, b""),
        rtp(13, b"csrcs", csrcs=3),
        rtp(14, b"extended", extension=bytes(8)),
        rtp(15, b"padded", padding=4),
        rtp(16, b"x" * 900, csrcs=1, extension=bytes(4)),
    ]
    sealed = [sealer.seal(packet, roc=0) for packet in plain]
    assert opened(key, sealed, range(10, 17)) == [
        b"hello", bytes(160), b"", b"csrcs", b"extended", b"padded", b"x" * 900,
    ]  # fmt: skip
    # Another ROC, a bit that turned over anywhere, a packet cut short: nothing authenticates.
    assert opened(key, sealed, [n + 65536 for n in range(10, 17)]) == [None] * 7
    for at in range(len(sealed[0]) - (0 if not mki else 4)):
        turned = bytearray(sealed[0])
        turned[at] ^= 1
        in_mki = mki and opened(key, [bytes(turned)], [10]) == [
            b"hello"
        ]  # the MKI itself is not authenticated
        assert in_mki or opened(key, [bytes(turned)], [10]) == [None]
    assert opened(key, [sealed[1][:-1]], [11]) == [None]
    later = sealer.seal(rtp(3, b"wrapped"), roc=5)
    assert opened(key, [later], [5 << 16 | 3]) == [b"wrapped"]


@pytest.mark.parametrize("suite", SIMPLE)
def test_packets_of_libsrtp_are_opened(suite):
    pylibsrtp = pytest.importorskip("pylibsrtp")
    secret = bytes(range(7, 7 + sum(SUITES[suite])))
    policy = pylibsrtp.Policy(
        key=secret, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=SIMPLE[suite]
    )
    session = pylibsrtp.Session(policy)
    plain = [rtp(n & 0xFFFF, n.to_bytes(3, "big") * 50) for n in range(65530, 65545)]
    sealed = [session.protect(packet) for packet in plain]
    key = one(suite, secret)
    assert opened(key, sealed, range(65530, 65545)) == [packet[12:] for packet in plain]
    report = struct.pack(">BBHI", 0x80, 200, 6, 99) + bytes(range(20))
    for _ in range(3):
        assert key.open_rtcp(session.protect_rtcp(report)) == report
    wrong = bytearray(session.protect_rtcp(report))
    wrong[9] ^= 1
    assert key.open_rtcp(bytes(wrong)) is None
    assert key.open_rtcp(b"\x80\xc8\0\x01") is None


@given(st.lists(st.binary(min_size=12, max_size=80), min_size=1, max_size=5), st.sampled_from(sorted(SUITES)))
def test_whatever_comes_is_not_authentic(packets, suite):
    key = one(suite, bytes(sum(SUITES[suite])))
    assert opened(key, packets, range(len(packets))) == [None] * len(packets)
    packed = sealed_of(packets)
    assert (header_lengths(packed.data, packed.size) >= 12).all()


class TestAttributes:
    KEY = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"

    def test_as_in_the_rfc(self):
        found = parse_crypto(
            f"1 AES_CM_128_HMAC_SHA1_80 inline:{self.KEY}|2^20|1:4;inline:{self.KEY}|2^20|2:4 WSH=64 KDR=0"
        )
        assert (found.tag, found.suite, found.refusal) == (1, "AES_CM_128_HMAC_SHA1_80", "")
        assert [key.mki for key in found.keys] == [b"\0\0\0\1", b"\0\0\0\2"]
        assert len(found.keys[0].secret.reveal()) == 30

    def test_keys_show_nowhere(self):
        found = parse_crypto(f"1 AES_CM_128_HMAC_SHA1_80 inline:{self.KEY}")
        raw = found.keys[0].secret.reveal()
        shown = repr(found) + str(found) + repr(SrtpKey(found, found.keys[0]))
        assert self.KEY not in shown
        assert repr(raw) not in shown
        with pytest.raises(TypeError):
            Secret(raw).__reduce__()

    @pytest.mark.parametrize(
        ("line", "refusal"),
        [
            ("1 F8_128_HMAC_SHA1_80 inline:KEY", "F8_128_HMAC_SHA1_80 is not supported"),
            (
                "1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNAUTHENTICATED_SRTP",
                "UNAUTHENTICATED_SRTP is not supported",
            ),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY KDR=4", "KDR is not supported"),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY FEC_ORDER=SRTP_FEC", "FEC_ORDER is not supported"),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY NEWS", "an unknown session parameter"),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY -NEWS", ""),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTP", ""),
            ("1 AES_CM_256_HMAC_SHA1_80 inline:KEY", NO_KEY),
            ("1 AES_CM_128_HMAC_SHA1_80 uri:KEY", NO_KEY),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20|5:0", NO_KEY),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20|256:1", NO_KEY),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:short", NO_KEY),
            ("1", NO_KEY),
            ("", NO_KEY),
            ("x y z", NO_KEY),
        ],
    )
    def test_what_cannot_be_used_says_why(self, line, refusal):
        found = parse_crypto(line.replace("KEY", self.KEY))
        assert found.refusal == refusal
        assert bool(found.keys) is not bool(refusal)

    @given(st.text(max_size=200))
    def test_any_text(self, text):
        assert parse_crypto(text).refusal or parse_crypto(text).keys
