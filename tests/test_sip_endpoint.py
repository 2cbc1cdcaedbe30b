"""Endpoints compare equal exactly when they are the same place."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.ascii_int import ascii_int
from recorderd.wire.endpoint import Endpoint, canonical_host, packed_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("10.0.0.1", "10.0.0.1"),
        (" 10.0.0.1 ", "10.0.0.1"),
        ("FE80:0:0:0:0:0:0:1", "fe80::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0a00:0001", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::", "::"),
        ("PBX.Example.Com.", "pbx.example.com"),
        ("010.0.0.1", "010.0.0.1"),
        ("1.2.3", "1.2.3"),
        ("１.2.3.4", "１.2.3.4"),
        ("", ""),
        ("x" * 70_000, "x" * 70_000),
    ],
)
def test_canonical_host(text, host):
    assert canonical_host(text) == host
    assert canonical_host(host) == host


@given(st.ip_addresses())
def test_text_and_packet_agree(address):
    host = packed_host(address.packed)
    assert canonical_host(str(address)) == canonical_host(address.exploded.upper()) == host
    again = ipaddress.ip_address(host)
    assert again == (getattr(address, "ipv4_mapped", None) or address)


@pytest.mark.parametrize("size", [0, 3, 5, 15, 17])
def test_other_sizes_are_no_address(size):
    with pytest.raises(ValueError):
        packed_host(bytes(size))


def test_endpoints_as_text():
    assert str(Endpoint("10.0.0.1", 5060)) == "10.0.0.1:5060"
    assert str(Endpoint("fe80::1", 5060)) == "[fe80::1]:5060"


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1_0", " 1", "1 ", "1\n", "１", "٣", "²", "0x1", "1e3", "1.0", "9" * 19, "9" * 5000],
)
def test_what_is_no_number(text):
    assert ascii_int(text, 10**18) is None


@given(st.integers(0, 10**9), st.integers(0, 8))
def test_numbers(number, zeros):
    text = "0" * zeros + str(number)
    assert ascii_int(text, number) == number
    assert ascii_int(text, number - 1) is None
