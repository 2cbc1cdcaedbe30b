"""What is printed is one line of visible characters."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.printable import DEFAULT_LIMIT, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Alice", "Alice"),
        ("Zoë 大停電 работающий 👩‍💻", "Zoë 大停電 работающий 👩‍💻"),
        ("می‌خواهم", "می‌خواهم"),
        ("a\r\nForged: 1", "a  Forged: 1"),
        ("a\tb\vc\fd", "a b c d"),
        ("a\x85b\u2028c\u2029d\xa0e", "a b c d e"),
        ("\x00\x07\x08\x7fx\x80\x9c", "x"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07x\x1b]8;;http://evil\x1b\\y", "xy"),
        ("\x1bPsixel\x1b\\x\x90dcs\x9cy", "xy"),
        ("\x1b(Bx\x1bcy\x1b", "xy"),
        ("\x1b\x1b[2J[2Jx", "[2Jx"),
        ("\x1b[" + "1;" * 200 + "mx", "1;" * 168 + "mx"),
        ("\u202e12345\u202c", "12345"),
        ("\u2066a\u2069\u200e\u200f\u061cb", "ab"),
        ("\ufeffa\u200b\u2060\u00adb", "ab"),
        ("\U000e0041a\U000e007f", "a"),
        ("\ud800a\udfff", "a"),
        ("\ue000a\uffff\U0010ffff", "a"),
        ("=cmd|'/C calc'!A0", "=cmd|'/C calc'!A0"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("", ""),
    ],
)
def test_examples(text, shown):
    assert printable(text, 1000) == shown


def test_the_limit():
    assert printable("x" * DEFAULT_LIMIT) == "x" * DEFAULT_LIMIT
    assert printable("x" * (DEFAULT_LIMIT + 1)) == "x" * (DEFAULT_LIMIT - 1) + "…"
    assert printable("é" * 9, 9) == "é" * 9
    assert printable("é" * 10, 9) == "é" * 8 + "…"
    assert printable("\x00" * 5 + "abcd", 4) == "abcd"
    assert printable("ab", 1) == "…"
    assert printable("a" + "\x00" * 100_000 + "b", 4).endswith("…")


@given(st.text(), st.integers(1, 40))
def test_any_text(text, limit):
    shown = printable(text, limit)
    assert len(shown) <= limit
    for character in shown:
        assert character.isprintable() or character in "\u200c\u200d"
        assert unicodedata.category(character) not in ("Cc", "Cs", "Co", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
    assert printable(shown, limit) == shown
    shown.encode()


@given(st.text(st.sampled_from("\x1b[]0;m\x07\\P^_X\x9b\x9c\x90 a\n"), max_size=200))
def test_any_terminal_sequence(text):
    assert printable(text, 500).isprintable()


@pytest.mark.parametrize(
    "text", ["\x1b" * 10**6, "\x1b[" * 10**6, "\x1b]" * 10**6, "\x00" * 10**6, "\u202e" * 10**6]
)
def test_time_is_bounded(text):
    began = time.process_time()
    printable(text)
    assert time.process_time() - began < 0.2
