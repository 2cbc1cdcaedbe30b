"""Peers' identifiers as keys: exact, and of bounded size.

A Call-ID may be 64 kB of anything. Ten thousand of those would fill the memory, and cutting them off would
make different ones the same; so a long one is replaced by its beginning and a digest of the whole.
"""

from hashlib import blake2b

MAX_ID = 255  #: characters; longer identifiers become `MAX_ID` characters


def bounded_id(text: str) -> str:
    """The identifier itself when it is short, else its beginning and a digest: `MAX_ID` characters."""
    if len(text) <= MAX_ID:
        return text
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{text[: MAX_ID - 1 - len(digest)]}#{digest}"
