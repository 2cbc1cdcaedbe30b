"""Peers' text made safe to show: in a log line, a terminal, a mail, a table.

A display name can carry line ends (a forged log line), ANSI sequences (a terminal under foreign control) and
bidirectional overrides (a number that reads backwards). What is left after `printable` is one line of visible
characters. It is not escaping: HTML, CSV and shells still need their own.
"""

import re

#: What `printable` keeps of a text when no other limit is given, in characters.
DEFAULT_LIMIT = 256

#: ECMA-48 control sequences in their 7-bit and 8-bit forms, and the strings (OSC, DCS, SOS, PM, APC) with
#: their content. Each repetition is bounded, so that the time is linear whatever comes.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,16}[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,512}(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]{0,16}[0-~]?"
)

#: Joiners are invisible and yet letters of a kind: Persian, Hindi and composed emoji are wrong without them.
_JOINERS = "\u200c\u200d"


def printable(text: str, limit: int = DEFAULT_LIMIT) -> str:
    """One line of visible characters from any text.

    ANSI sequences go with all they contain; C0 and C1 controls, bidirectional and other format characters,
    lone surrogates, private and unassigned code points go; each line end, tab or other white space becomes
    one space.

    Args:
        text: anything a peer sent.
        limit: the most characters to return, at least 1; what is cut is told by a final ellipsis.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text  # by far the most
    # Only what can still be shown is looked at: 16 raw characters for one visible are more than any honest
    # text.
    reach = 16 * limit + 1024
    shown = "".join(_shown(character) for character in _ANSI.sub("", text[:reach]))
    if len(shown) <= limit and len(text) <= reach:
        return shown
    return shown[: limit - 1] + "…"


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if character.isspace() else ""
