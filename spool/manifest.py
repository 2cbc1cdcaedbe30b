"""The signed statement of the host beside each recording (docs/format.md, "The manifest").

The signature is over the very bytes of the file, and what surrounds them has a fixed length: a reader needs
no canonical JSON, and every changed byte of the file is found.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from recorderd.errors import SpoolCorrupt
from recorderd.spool.durable import write_file
from recorderd.spool.header import Header
from recorderd.spool.signing import HostKey, HostPublic
from recorderd.spool.slots import FIRST, SlotFile

VERSION = 1
SEALED = "sealed"
RECOVERED = "recovered"
FOREIGN = "the manifest is signed by another host's key"
_PREFIX = b'{"manifest":'
_MESSAGE = b"recorderd/1 manifest\n"
_SUFFIX = rb',"signature":\{"ed25519":"([0-9a-f]{128})","key":"([0-9a-f]{32})"\}\}\n'
_SUFFIX_BYTES = len(b',"signature":{"ed25519":"","key":""}}\n') + 128 + 32
_MAX_BYTES = 4 * 1024 * 1024


class Manifest(NamedTuple):
    """What the host states. Times in microseconds since 1970; hashes and key ids in hex."""

    recording: str
    host: str
    segment: int
    previous: dict[str, str] | None
    started_us: int
    ended_us: int
    written_us: int
    state: str
    bytes: int
    sha256: str
    records: int
    intact_bytes: int
    header_sha256: str
    recipients: tuple[str, ...]
    summary: dict[str, Any]
    version: int = VERSION
    slots_sha256: str | None = None
    """Of the first generation of the slot file; None where the header has the slots, or it is not known."""

    @classmethod
    def of_file(
        cls,
        header: Header,
        *,
        state: str,
        size: int,
        sha256: str,
        records: int,
        intact_bytes: int,
        elapsed_ms: int,
        written_us: int,
        summary: dict[str, Any],
        slots: SlotFile | None = None,
    ) -> "Manifest":
        """The statement about a file with this header. ``elapsed_ms`` is the time of its last intact
        record, ``slots`` its detached key slots."""
        core = header.core
        first = slots is not None and slots.generation == FIRST and header.detached
        return cls(
            recording=core.recording,
            host=core.host,
            segment=core.segment,
            previous=core.previous_json,
            started_us=core.started_us,
            ended_us=core.started_us + elapsed_ms * 1000,
            written_us=written_us,
            state=state,
            bytes=size,
            sha256=sha256,
            records=records,
            intact_bytes=intact_bytes,
            header_sha256=header.hash.hex(),
            recipients=tuple(slot.key_id.hex() for slot in header.slots)
            or (() if slots is None else slots.recipients),
            slots_sha256=slots.sha256 if slots is not None and first else None,
            summary=summary,
        )

    def signed(self, key: HostKey, summary: "Bytes | None" = None) -> "Bytes":
        """The bytes of the manifest file. ``summary`` is its JSON, keys sorted, for who has that already."""
        if summary is None or not summary.isascii():
            summary = _TO_JSON(self.summary).encode("ascii")
        # In order of the keys. What follows the summary are numbers.
        rest = {**self._asdict(), "summary": 0}
        before, name, after = _TO_JSON(rest).encode("ascii").rpartition(_NO_SUMMARY)
        body = b"".join((before, name[:-1], summary, after))
        signature = key.sign(_MESSAGE + body).hex()
        tail = f',"signature":{{"ed25519":"{signature}","key":"{key.id.hex()}"}}}}\n'
        return _PREFIX + body + tail.encode("ascii")

    def write(self, path: Path, key: HostKey, *, sync_name: bool = True) -> None:
        """Put the signed file in place. Raises OSError."""
        write_file(path, self.signed(key), sync_name=sync_name)


# Inside the class `bytes` is the size of the recording.
Bytes = bytes
_NO_SUMMARY = b',"summary":0'
_TO_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def load_manifest(path: Path, public: HostPublic | None) -> Manifest:
    """Read a manifest and check its signature; without ``public`` it is only read. Raises SpoolCorrupt."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpoolCorrupt(f"{path}: the manifest is missing") from None
    except OSError as error:
        raise SpoolCorrupt(f"{path}: {error.strerror}") from None
    try:
        return parse_manifest(data, public)
    except SpoolCorrupt as error:
        raise SpoolCorrupt(f"{path}: {error}") from None


def parse_manifest(data: bytes, public: HostPublic | None) -> Manifest:
    """The statement in a manifest file's bytes. Raises SpoolCorrupt."""
    body, tail = data[len(_PREFIX) : -_SUFFIX_BYTES], data[-_SUFFIX_BYTES:]
    found = re.fullmatch(_SUFFIX, tail)
    if not data.startswith(_PREFIX) or found is None or len(data) > _MAX_BYTES:
        raise SpoolCorrupt("not a manifest")
    if public is not None:
        if bytes.fromhex(found[2].decode()) != public.id:
            raise SpoolCorrupt(f"{FOREIGN} ({found[2].decode()}, not {public.id.hex()})")
        if not public.verifies(bytes.fromhex(found[1].decode()), _MESSAGE + body):
            raise SpoolCorrupt("the manifest's signature is wrong")
    try:
        value = json.loads(body)
        if value["version"] != VERSION:
            raise SpoolCorrupt(f"manifest version {value['version']!r} is unknown")
        manifest = Manifest(**{"summary": {}, **value, "recipients": tuple(value["recipients"])})
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SpoolCorrupt("the manifest is not readable") from None
    _check_types(manifest)
    return manifest


def _check_types(manifest: Manifest) -> None:
    numbers = ("segment", "started_us", "ended_us", "written_us", "bytes", "records", "intact_bytes")
    texts = ("recording", "host", "state", "sha256", "header_sha256")
    right = (
        all(type(getattr(manifest, name)) is int for name in numbers)
        and all(abs(getattr(manifest, name)) < 1 << 63 for name in numbers)
        and all(type(getattr(manifest, name)) is str for name in texts)
        and type(manifest.slots_sha256) in (str, type(None))
        and manifest.state in (SEALED, RECOVERED)
        and type(manifest.summary) is dict
    )
    if not right:
        raise SpoolCorrupt("the manifest is not readable")
