"""Numbers as peers write them: ASCII digits and nothing else.

Python's `int` also takes `+10`, `1_0`, `-0`, surrounding white space and the digits of every script, and
its time is quadratic in the number of digits. A parser that accepts what the other end refuses can be made
to see another message.
"""

import re

_DIGITS = re.compile(r"[0-9]{1,18}")


def ascii_int(text: str, largest: int) -> int | None:
    """The number that a text of ASCII digits stands for; None for any other text or a number above `largest`.

    Leading zeros are allowed (RFC 4475 section 3.1.1.1 sends `Max-Forwards: 0068`), up to 18 digits in all.
    """
    if _DIGITS.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= largest else None
