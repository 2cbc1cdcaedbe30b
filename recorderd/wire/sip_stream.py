"""SIP messages out of a stream of bytes (RFC 3261 sections 7.5 and 18.3, RFC 5626 section 3.5.1).

Over a stream only Content-Length tells where a message ends. What does not look like a message where one
should begin, is damaged or was missed: then the next start line is looked for, and what was known of the
message in hand is given out as truncated, because its headers still name its call.
"""

import re
from collections import Counter
from typing import Final

from recorderd.wire.signalling import Framed
from recorderd.wire.sip import MAX_HEAD, MAX_MESSAGE

MAX_LINE: Final = 8192
"""Bytes of a start line."""

# A status line or a request line (RFC 3261 sections 7.1 and 7.2), as tolerant of white space as the parser.
_START = re.compile(
    rb"SIP/[0-9.]{1,7}[ \t]++[1-6][0-9]{2}[ \t\r\n]"
    rb"|[A-Za-z0-9\-.!%*_+`'~]{1,64}[ \t]++[^\r\n]{1,8000}[ \t]SIP/[0-9.]{1,7}[ \t]*+\r?\n",
    re.IGNORECASE,
)
# One that is looked for stands anywhere, for a body may end without a line feed: only what cannot well be
# anything else is taken for one.
_METHODS = rb"INVITE|ACK|BYE|CANCEL|REGISTER|OPTIONS|PRACK|SUBSCRIBE|NOTIFY|PUBLISH|INFO|REFER|MESSAGE|UPDATE"
_SOUGHT = re.compile(
    rb"SIP/2\.0 [1-6][0-9]{2}[ \r\n]|(?:" + _METHODS + rb") [A-Za-z][^\s]{1,4000}+ SIP/2\.0\r?\n"
)
_LONGEST_SOUGHT: Final = 4100
_HEAD_END = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(
    rb"^(?:content-length|l)[ \t]*+:[ \t]*+(?:\r?\n[ \t]++)?([^\r\n]*)\r?$", re.IGNORECASE | re.MULTILINE
)


class SipStream:
    """One direction of SIP over a stream. Pure; holds at most one message.

    Counts 'sip_pings' (runs of CRLF between messages), 'sip_resyncs' (a start line had to be looked for),
    'sip_cut' (messages whose end is missing) and 'sip_absurd' (what no message can be as long as).
    """

    transport = "tcp"

    def __init__(self, counters: Counter[str], *, fresh: bool = True) -> None:
        """``fresh``: the stream is seen from its first byte."""
        self._counters = counters
        self._buffer = bytearray()
        self._lost = not fresh
        self._seen = 0
        self._needed = 0

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Framed]:
        """Take the next bytes; returns the messages that they complete."""
        self._buffer += data
        found: list[Framed] = []
        while self._buffer:
            if self._lost and not self._find_start():
                break
            if not self._at_message():
                if self._lost:
                    continue
                break
            message = self._take()
            if message is not None:
                found.append(message)
            elif not self._lost:
                break
        return found

    def gap(self) -> list[Framed]:
        """Bytes are missing here, or nothing more comes; returns the message that was in hand, cut."""
        in_hand = bytes(self._buffer) if not self._lost and _START.match(self._buffer) else b""
        self._buffer.clear()
        self._lost, self._seen, self._needed = True, 0, 0
        if not in_hand:
            return []
        self._counters["sip_cut"] += 1
        return [Framed(in_hand, truncated=True)]

    def _lose(self) -> None:
        """The next start line must be looked for, behind the first byte here."""
        self._counters["sip_resyncs"] += 1
        self._lost, self._seen, self._needed = True, 0, 0
        del self._buffer[:1]

    def _find_start(self) -> bool:
        """Drop what comes before the next start line; False where there is none yet."""
        start = _SOUGHT.search(self._buffer) if b"\n" in self._buffer else None
        if start is not None:
            del self._buffer[: start.start()]
            self._lost = False
            return True
        del self._buffer[: self._buffer.rfind(b"\n") + 1]
        del self._buffer[:-_LONGEST_SOUGHT]
        return False

    def _at_message(self) -> bool:
        """Drop empty lines before a message (RFC 3261 section 7.5); False where none begins here (yet)."""
        blank = len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))
        if blank:
            self._counters["sip_pings"] += 1
            del self._buffer[:blank]
            self._seen = 0
        if not self._buffer:
            return False
        if self._seen or _START.match(self._buffer):
            return True
        if b"\n" in self._buffer or len(self._buffer) > MAX_LINE:
            self._lose()
        return False

    def _take(self) -> Framed | None:
        """The message that the buffer begins with, if it is all there."""
        if len(self._buffer) < self._needed:
            return None
        end = _HEAD_END.search(self._buffer, max(0, self._seen - 2))
        if end is None:
            self._seen = len(self._buffer)
            if self._seen > MAX_HEAD:
                self._counters["sip_absurd"] += 1
                self._lose()
            return None
        self._seen = end.end()
        length = _content_length(bytes(self._buffer[: end.start() + 1]))
        if length is None or length > MAX_MESSAGE - end.end():
            # How long it is cannot be told, but whose it is can.
            self._counters["sip_absurd"] += 1
            head = Framed(bytes(self._buffer[: end.end()]), truncated=True)
            del self._buffer[: end.end()]
            self._lost, self._seen, self._needed = True, 0, 0
            return head
        if len(self._buffer) < end.end() + length:
            # Not looked at again before it is all there.
            self._seen, self._needed = end.start() + 1, end.end() + length
            return None
        message = Framed(bytes(self._buffer[: end.end() + length]))
        del self._buffer[: end.end() + length]
        self._seen = self._needed = 0
        return message


def _content_length(head: bytes) -> int | None:
    """What the header says; 0 where there is none, None where it cannot be read."""
    found = _LENGTH.search(head)
    if found is None:
        return 0
    digits = found[1].strip()
    return int(digits) if digits.isdigit() and len(digits) <= 18 else None
