"""Peers' identifiers as keys: exact, and of bounded size.

A Call-ID may be 64 kB of anything. Ten thousand of those would fill the memory, and cutting them off would
make different ones the same; so a long one is replaced by its beginning and a digest of the whole.
"""

from hashlib import blake2b

from recorderd.wire.sip import SipMessage

MAX_ID = 255  #: characters; longer identifiers become `MAX_ID` characters


def bounded_id(text: str) -> str:
    """The identifier itself when it is short, else its beginning and a digest: `MAX_ID` characters."""
    if len(text) <= MAX_ID:
        return text
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{text[: MAX_ID - 1 - len(digest)]}#{digest}"


def bounded_tags(message: SipMessage) -> tuple[str, str]:
    """The From tag and the To tag of a message."""
    from_tag, to_tag = message.from_.tag, message.to.tag
    if len(from_tag) <= MAX_ID and len(to_tag) <= MAX_ID:
        return from_tag, to_tag
    return bounded_id(from_tag), bounded_id(to_tag)
