#!/usr/bin/env python3
"""Checks recordings, proofs and ledgers of recorderd without recorderd: this one file, Python 3.11 and the
package `cryptography`. Written from docs/format.md and docs/ledger.md. It needs no private key.

    recorderd_verify.py --host-key host.pub [--proof PROOF.json] [--ca tsa.pem] [FOLDER/ID.rec ...]
    recorderd_verify.py --host-key host.pub --ledger SPOOL/ledger [--against CHECKPOINT ...]
    recorderd_verify.py --host-key host.pub --consistency CONSISTENCY.json

Beside ID.rec it takes ID.json (or else the manifest in the proof) and ID.key; of keys that were wrapped anew
only a ledger or a proof can tell whether they are right. Everything hangs on host.pub, which has to come from
a place that can be trusted.

Exit code 0: right; 1: something is wrong; 2: could not be read.
"""

import argparse
import base64
import hashlib
import json
import re
import struct
import sys
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID


class Wrong(Exception):
    """What was given is not what the recorder made."""


def need(right: object, text: str) -> None:
    """Raises Wrong, unless it is right."""
    if not right:
        raise Wrong(text)


def sha256(data: bytes) -> bytes:
    """The hash of everything here."""
    return hashlib.sha256(data).digest()


class Host:
    """The recorder's public key."""

    def __init__(self, pem: bytes) -> None:
        key = load_pem_public_key(pem)
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise Wrong("host key: not an Ed25519 key")
        self.key, self.raw = key, key.public_bytes_raw()
        self.id = sha256(b"recorderd/1 key ided25519\0" + self.raw)[:16].hex()
        self.origin = "recorderd.ledger/" + self.id

    def check(self, signature: bytes, message: bytes, what: str) -> None:
        """Raises Wrong for a signature that is not the host's."""
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            raise Wrong(f"{what}: the signature is wrong") from None


# Recordings (docs/format.md)

MANIFEST = re.compile(
    rb'\{"manifest":(.*),"signature":\{"ed25519":"([0-9a-f]{128})","key":"([0-9a-f]{32})"\}\}\n', re.S
)


def open_manifest(data: bytes, host: Host) -> dict[str, Any]:
    """What the host states of a recording."""
    found = MANIFEST.fullmatch(data)
    if not found or found[3].decode() != host.id:
        raise Wrong("manifest: not one of this host's key")
    host.check(bytes.fromhex(found[2].decode()), b"recorderd/1 manifest\n" + found[1], "manifest")
    return dict(json.loads(found[1]))


def walk(data: bytes) -> tuple[dict[str, Any], bytes, int, int, bool]:
    """Core, header's hash, bytes and number of the intact records, and whether they are the whole file."""
    need(len(data) >= 20, "recording: cut short")
    magic, version, slots, size, core = struct.unpack("<8sHHII", data[:20])
    need(magic == b"\x89REC\r\n\x1a\n" and version in (1, 2), "recording: not of this format")
    need(slots == 0 if version == 2 else 1 <= slots <= 32, "recording: number of key slots")
    need(core <= 4096 and 88 + core <= size <= min(65536, len(data)), "recording: lengths in the header")
    crc, at = zlib.crc32(data[: size - 4]), 84 + core
    need(struct.pack("<I", crc) == data[size - 4 : size], "recording: checksum of the header")
    for _ in range(slots):
        at += 20 + int.from_bytes(data[at + 18 : at + 20], "little")
    need(at == size - 4, "recording: the key slots do not fill the header")
    at, number, ended = size, 0, False
    while not ended and at + 36 <= len(data):
        length, sequence, _, kind, zero = struct.unpack("<IIIB3s", data[at : at + 16])
        end = at + 16 + length
        if (
            not 16 <= length <= 1 << 24
            or sequence != number
            or not 1 <= kind <= 4
            or any(zero)
            or end + 4 > len(data)
        ):
            break
        crc = zlib.crc32(data[at:end], crc)
        if struct.pack("<I", crc) != data[end : end + 4]:
            break
        at, number, ended = end + 4, number + 1, kind == 4
    return json.loads(data[20 : 20 + core]), sha256(data[:size]), at, number, ended and at == len(data)


class Entered:
    """What a ledger or a proof says of slot files that were wrapped anew: by recording, the last generation
    and its hash. ``whole``: there are no later ones."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, str]] = {}
        self.whole = True

    def add(self, data: bytes) -> None:
        """Take in an entry."""
        if b'},"kind":"rewrapped","subject":"' in data and (entry := json.loads(data))["kind"] == "rewrapped":
            fields = entry["fields"]
            self.known[entry["subject"]] = int(fields["generation"]), str(fields["slots_sha256"])

    def check(self, recording: str, generation: int, hashed: str) -> bool:
        """Whether a slot file is the last one that was entered; False where that cannot be known."""
        last, known = self.known.get(recording, (1, None))
        need(generation >= last, f"slot file: generation {generation}, {last} was entered: set back")
        need(
            generation <= last or not self.whole,
            f"slot file: generation {generation}, which nobody entered (the last one is {last});"
            " was the proof made before?",
        )
        need(generation > last or known in (None, hashed), "slot file: not the one that was entered")
        return generation <= last


def check_slots(data: bytes, recording: bytes, stated: str | None) -> int:
    """Check a slot file; returns its generation."""
    need(len(data) >= 124 and data[:8] == b"\x89KEY\r\n\x1a\n", "slot file: not of this format")
    version, count, size, core = struct.unpack("<HHII", data[8:20])
    need(
        size == len(data) <= 65536 and struct.pack("<I", zlib.crc32(data[:-4])) == data[-4:],
        "slot file: damaged",
    )
    need(version == 1 and 1 <= count <= 32 and core + 124 <= size, "slot file: not of this format")
    header = recording[: int.from_bytes(recording[12:16], "little")]
    need(data[20 : 116 + core] == header[20 : 84 + core] + sha256(header), "slot file: of another recording")
    generation = int.from_bytes(data[116 + core : 120 + core], "little")
    need(generation > 1 or stated in (None, sha256(data).hex()), "slot file: not the one that was signed")
    return generation


def check_recording(path: Path, stated: dict[str, Any] | None, entered: Entered | None) -> None:
    """Check a recording, and what stands beside it."""
    data, slots = path.read_bytes(), path.with_suffix(".key")
    core, header, intact, records, ended = walk(data)
    if slots.exists():
        raw = slots.read_bytes()
        generation = check_slots(raw, data, stated.get("slots_sha256") if stated else None)
        right = entered is not None and entered.check(core["recording"], generation, sha256(raw).hex())
        later = f", generation {generation}" * (generation > 1)
        print(f"{slots.name}: key slots of this recording{later}")
        if later and not right:
            print(
                "NOT CHECKED who wrapped the keys anew: the ledger of the recorder itself, or a proof, has it"
            )
    if stated is None:
        need(ended, "recording: damaged, cut, or never sealed")
        print(
            f"{path.name}: {records} intact records; NOT CHECKED whether they are the recorder's: no manifest"
        )
        return
    need(stated["recording"] == core["recording"] == path.stem, "manifest: of another recording")
    need(
        (stated["bytes"], stated["sha256"]) == (len(data), sha256(data).hex()),
        "recording: not the bytes signed",
    )
    need(stated["header_sha256"] == header.hex(), "recording: not the header that was signed")
    need((stated["intact_bytes"], stated["records"]) == (intact, records), "recording: records are damaged")
    need(ended or stated["state"] != "sealed", "recording: has no end")
    print(f"{path.name}: {stated['state']}, {records} records, as signed by {stated['host']}")


# The ledger (docs/ledger.md)


def node(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(b"\1" + left + right)


NOTE = re.compile(
    rb"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n\n((?:\xe2\x80\x94 [^\n]+ [^\n]+\n)+)"
)


def open_checkpoint(note: bytes, host: Host) -> tuple[int, bytes]:
    """The size and the root that the host has signed."""
    found = NOTE.fullmatch(note)
    if not found or found[1].decode("utf-8", "replace") != host.origin:
        raise Wrong("checkpoint: not one of this host's key")
    signed = re.findall(rb"^\xe2\x80\x94 " + re.escape(found[1]) + rb" ([A-Za-z0-9+/]{91}=)$", found[4], re.M)
    need(signed, "checkpoint: not signed by this host")
    need(
        all(base64.b64encode(base64.b64decode(text)) == text for text in [*signed, found[3]]),
        "checkpoint: base64",
    )
    for signature in map(base64.b64decode, signed):
        need(signature[:4] == sha256(found[1] + b"\n\x01" + host.raw)[:4], "checkpoint: of another key")
        host.check(signature[4:], note[: found.end(3) + 1], "checkpoint")
    return int(found[2]), base64.b64decode(found[3])


def check_inclusion(entry: bytes, number: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 section 2.1.3.2."""
    at, last, result = number, size - 1, sha256(b"\0" + entry)
    need(0 <= number < size, "proof: there is no such entry")
    for sibling in path:
        need(last, "proof: too long")
        if at & 1 or at == last:
            result = node(sibling, result)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            result = node(result, sibling)
        at, last = at >> 1, last >> 1
    need(last == 0 and result == root, f"proof: entry {number} is not in what was signed")


def check_consistency(old: tuple[int, bytes], new: tuple[int, bytes], path: list[bytes]) -> None:
    """RFC 9162 section 2.1.4.2."""
    need(old[0] <= new[0], "consistency: the old checkpoint is larger")
    if old[0] in (0, new[0]):
        expected = new[1] if old[0] else sha256(b"")
        need(not path and old[1] == expected, "consistency: the one is not the beginning of the other")
        return
    path = path if old[0] & (old[0] - 1) else [old[1], *path]
    at, last = old[0] - 1, new[0] - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    need(path, "consistency: no proof")
    was = now = path[0]
    for sibling in path[1:]:
        need(last, "consistency: the proof is too long")
        if at & 1 or at == last:
            was, now = node(sibling, was), node(sibling, now)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            now = node(now, sibling)
        at, last = at >> 1, last >> 1
    need((last, was, now) == (0, old[1], new[1]), "consistency: the one is not the beginning of the other")


def find_bundle(folder: Path, number: int) -> Path:
    """Bundle 1234067 is x001/x234/067; at a remote, one that is not full is 067.p/<entries>."""
    *folders, name = f"{number:,}".split(",")
    path = folder.joinpath("tile", "entries", *("x" + each.zfill(3) for each in folders), name.zfill(3))
    partial = path.with_name(path.name + ".p")
    if path.exists() or not partial.is_dir():
        return path
    return max(partial.iterdir(), key=lambda each: int(each.name), default=path)


def check_ledger(
    folder: Path, host: Host, notes: list[tuple[str, bytes]], entered: Entered
) -> tuple[int, int]:
    """All entries against all checkpoints; returns how many there are, and how many are signed. ``entered``
    gets them all."""
    newest, history = (folder / "checkpoint").read_bytes(), list[bytes]()
    if (folder / "history").exists():
        whole = (folder / "history").read_bytes()
        history = re.findall(rb".+?\n\n.+?\n", whole, re.S)
        need(
            b"".join(history) == whole and newest in history[-2:], "history: does not end with the checkpoint"
        )
    else:
        print("NOT CHECKED: the history of checkpoints; only the spool has it, no copy at a remote")
        entered.whole = False
    sizes = [open_checkpoint(note, host)[0] for note in history]
    need(sizes == sorted(set(sizes)), "history: sizes do not grow")
    stated: dict[int, list[tuple[str, bytes]]] = {}
    for name, note in [
        *notes,
        ("checkpoint", newest),
        *((f"history, note {n}", each) for n, each in enumerate(history)),
    ]:
        size, root = open_checkpoint(note, host)
        stated.setdefault(size, []).append((name, root))
    roots, size, peaks, number = {0: sha256(b"")}, 0, list[bytes](), 0
    while (bundle := find_bundle(folder, number)).exists():
        data, at, count, number = bundle.read_bytes(), 0, 0, number + 1
        while at < len(data) and (end := at + 2 + int.from_bytes(data[at : at + 2], "big")) <= len(data):
            entered.add(data[at + 2 : end])
            peak, bits, at = sha256(b"\0" + data[at + 2 : end]), size, end
            while bits & 1:
                peak, bits = node(peaks.pop(), peak), bits >> 1
            peaks, size, count = [*peaks, peak], size + 1, count + 1
            if size in stated:
                roots[size] = peaks[-1]
                for left in peaks[-2::-1]:
                    roots[size] = node(left, roots[size])
        need(
            count == 256 or not find_bundle(folder, number).exists(),
            f"{bundle}: {count} entries, and more follow",
        )
    for signed, statements in sorted(stated.items()):
        for name, root in statements:
            need(signed <= size, f"{name}: {signed} entries were signed, there are {size}: set back or cut")
            need(roots[signed] == root, f"{name}: the first {signed} entries are not those that were signed")
    return size, open_checkpoint(newest, host)[0]


# Time stamps: RFC 3161 in CMS (RFC 5652), as DER

HASHES = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256,
    "2.16.840.1.101.3.4.2.2": hashes.SHA384,
    "2.16.840.1.101.3.4.2.3": hashes.SHA512,
}


def der(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """The values one behind the other in some bytes: each its tag, its contents, and all of it."""
    found, at = [], 0
    while at < len(data):
        size, start = data[at + 1], at + 2
        if size & 0x80:
            need(0x81 <= size <= 0x84, "time stamp: not DER")
            start += size & 0x7F
            size = int.from_bytes(data[at + 2 : start], "big")
        need(start + size <= len(data), "time stamp: cut short")
        found.append((data[at], data[start : start + size], data[at : start + size]))
        at = start + size
    return found


def oid(value: bytes) -> str:
    """The text of an object identifier."""
    numbers, current = list[int](), 0
    for byte in value:
        current = current << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers, current = [*numbers, current], 0
    return ".".join(
        map(str, [min(numbers[0] // 40, 2), numbers[0] - 40 * min(numbers[0] // 40, 2), *numbers[1:]])
    )


def hash_of(algorithm: bytes) -> Any:
    """The hash that an AlgorithmIdentifier names."""
    need(oid(der(algorithm)[0][1]) in HASHES, "time stamp: its hash is not known here")
    return HASHES[oid(der(algorithm)[0][1])]


def digest(kind: Any, data: bytes) -> bytes:
    """The hash of some bytes."""
    return hashlib.new(kind.name, data).digest()


UNREADABLE = (
    *(LookupError, ValueError, StopIteration, TypeError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.ExtensionNotFound, x509.DuplicateExtension),
)


def stamped(response: bytes, note: bytes, roots: list[x509.Certificate]) -> datetime:
    """When an authority under `roots` says that it saw the note."""
    try:
        return _stamped(response, note, roots)
    except UNREADABLE as error:
        raise Wrong(f"time stamp: not readable ({type(error).__name__})") from None


def _stamped(response: bytes, note: bytes, roots: list[x509.Certificate]) -> datetime:
    (answer,) = der(response)
    status, token = der(answer[1])
    need(der(status[1])[0][1] in (b"\0", b"\1"), "time stamp: was not granted")
    kind, content = der(token[1])
    need(oid(kind[1]) == "1.2.840.113549.1.7.2", "time stamp: not signed data")
    fields = der(der(content[1])[0][1])
    info_kind, info_value = der(fields[2][1])
    need(oid(info_kind[1]) == "1.2.840.113549.1.9.16.1.4", "time stamp: no TSTInfo")
    info = der(info_value[1])[0][1]
    raw = [each[2] for field in fields if field[0] == 0xA0 for each in der(field[1])]
    certificates = [*map(x509.load_der_x509_certificate, raw), *roots]
    (signer_info,) = der(fields[-1][1])
    _, sid, algorithm, signed, how, signature = der(signer_info[1])[:6]
    certificate = next(
        c
        for c in certificates
        if sid[1].startswith(c.issuer.public_bytes())
        and int.from_bytes(der(sid[1])[1][1], "big") == c.serial_number
    )
    attributes = {oid(der(each[1])[0][1]): der(der(each[1])[1][1])[0][1] for each in der(signed[1])}
    need(oid(attributes["1.2.840.113549.1.9.3"]) == oid(info_kind[1]), "time stamp: type of its contents")
    chosen = hash_of(algorithm[1])
    need(attributes["1.2.840.113549.1.9.4"] == digest(chosen, info), "time stamp: its contents were changed")
    named = [
        name for name in ("1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47") if name in attributes
    ]
    need(named, "time stamp: names no certificate")
    for name in named:  # RFC 5816: the hash of the signer's certificate
        first = der(der(der(attributes[name])[0][1])[0][1])
        by = (
            hashes.SHA1
            if name.endswith("12")
            else hash_of(first[0][1])
            if first[0][0] == 0x30
            else hashes.SHA256
        )
        said = next(each[1] for each in first if each[0] == 4)
        need(certificate.fingerprint(by()) == said, "time stamp: names another certificate")
    # RFC 5652 section 5.4: what is signed is a SET, though it stands there as [0].
    check_signature(certificate, signature[1], b"\x31" + signed[2][1:], chosen, oid(der(how[1])[0][1]))
    told = der(der(info)[0][1])
    imprint = der(told[2][1])
    need(imprint[1][1] == digest(hash_of(imprint[0][1]), note), "time stamp: of something else")
    when = datetime.strptime(told[4][1].decode()[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    only = [ExtendedKeyUsageOID.TIME_STAMPING]
    need(usage.critical and list(usage.value) == only, "time stamp: by a certificate that is not for it")
    check_chain(certificate, certificates, roots, when)
    return when


def check_signature(
    certificate: x509.Certificate, signature: bytes, message: bytes, kind: Any, how: str
) -> None:
    """Raises Wrong for a signature that is not that of the certificate's key."""
    key = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            need(
                how.startswith("1.2.840.113549.1.1.") and how[-2:] != "10",
                "time stamp: RSA-PSS is not known here",
            )
            key.verify(signature, message, padding.PKCS1v15(), kind())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(kind()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            raise Wrong("time stamp: a kind of key that is not known here")
    except InvalidSignature:
        raise Wrong("time stamp: the signature is wrong") from None


def check_chain(
    certificate: x509.Certificate,
    others: list[x509.Certificate],
    roots: list[x509.Certificate],
    when: datetime,
) -> None:
    """Raises Wrong where no root has issued it, directly or through others, or one was not valid then."""
    for _ in range(8):
        valid = certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc
        need(valid, "time stamp: a certificate was not valid then")
        if certificate in roots:
            return
        above = next((each for each in [*roots, *others] if is_issued(certificate, each)), None)
        if above is None:
            break
        certificate = above
    raise Wrong("time stamp: not by an authority of --ca")


def is_issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    """Whether one certificate has issued the other, and may."""
    try:
        certificate.verify_directly_issued_by(by)
        return certificate != by and by.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False


# What is asked


def check_proof(
    proof: dict[str, Any], host: Host, roots: list[x509.Certificate], path: Path | None, slots: Entered
) -> bytes | None:
    """Check a proof bundle, and the recording's bytes where it is given; returns the manifest in it.
    ``slots`` gets its entries."""
    note, entered = proof["checkpoint"].encode(), None
    size, root = open_checkpoint(note, host)
    for each in proof["entries"]:
        hashed = [bytes.fromhex(text) for text in each["path"]]
        check_inclusion(each["entry"].encode("ascii"), each["leaf"], size, hashed, root)
        slots.add(each["entry"].encode("ascii"))
        entry = json.loads(each["entry"])
        when = datetime.fromtimestamp(entry["time_us"] / 1e6, UTC).isoformat(" ", "seconds")
        print(f"entry {each['leaf']} of {size}: {entry['kind']} {entry['subject']}, recorder's time {when}")
        if (entry["kind"], entry["subject"]) == ("recording", proof["recording"]):
            need(entered in (None, entry["fields"]), "proof: two recordings were entered as this one")
            entered = entry["fields"]
    need(
        path is None or path.stem == proof["recording"],
        f"proof: of {proof['recording']}, which the file is not named after",
    )
    text = None if proof["manifest"] is None else proof["manifest"].encode("ascii")
    if entered is None:
        print("NOT CHECKED whether the ledger has the recording: the proof has no entry of it")
    else:
        need(
            text is None or sha256(text).hex() == entered["manifest_sha256"],
            "proof: not the manifest that was entered",
        )
        need(
            text is None or open_manifest(text, host)["sha256"] == entered["sha256"],
            "proof: manifest of other bytes",
        )
        need(
            path is None or sha256(path.read_bytes()).hex() == entered["sha256"],
            "recording: not the one entered",
        )
    for stamp in proof["stamps"] if roots else []:
        print(f"time stamp: all this existed on {stamped(base64.b64decode(stamp), note, roots)}")
    if not proof["stamps"] or not roots:
        print(
            "NOT CHECKED when: " + ("--ca is missing" if proof["stamps"] else "no authority has stamped this")
        )
    return text


def authorities(path: Path) -> list[x509.Certificate]:
    """The certificates in a file. Raises Wrong, which names it, and OSError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise Wrong(f"{path}: no certificates in PEM") from None


def check(given: argparse.Namespace) -> None:
    """Check what the command line names. Raises Wrong, and what a file raises that is not readable."""
    host = Host(given.host_key.read_bytes())
    roots = authorities(given.ca) if given.ca else []
    text, proven, entered = None, Entered(), Entered()
    if given.proof:
        first = next(iter(given.recordings), None)
        text = check_proof(json.loads(given.proof.read_bytes()), host, roots, first, proven)
    if given.ledger:
        notes = [(str(path), path.read_bytes()) for path in given.against]
        size, signed = check_ledger(given.ledger, host, notes, entered)
        print(f"{given.ledger}: {size} entries, {signed} of them signed")
        if not notes:
            print("NOT CHECKED whether it was set back: --against takes checkpoints that were kept elsewhere")
    for path in given.recordings:
        beside = path.with_suffix(".json")
        data = beside.read_bytes() if beside.exists() else text
        slots = entered if given.ledger else proven if given.proof else None
        check_recording(path, open_manifest(data, host) if data is not None else None, slots)
        print("NOT CHECKED what is to be heard: that takes a recipient's private key (recorderctl verify)")
    if given.consistency:
        asked = json.loads(given.consistency.read_bytes())
        old, new = (open_checkpoint(asked[name].encode(), host) for name in ("old", "new"))
        check_consistency(old, new, [bytes.fromhex(text) for text in asked["path"]])
        print(f"the first {old[0]} of {new[0]} entries are the same")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--host-key", type=Path, required=True)
    for name in ("--proof", "--ca", "--ledger", "--consistency"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--against", type=Path, nargs="+", default=[])
    given = parser.parse_args(arguments)
    if not (given.recordings or given.proof or given.ledger or given.consistency):
        parser.error("nothing to check")
    try:
        check(given)
    except Wrong as error:
        print(f"WRONG: {error}")
        return 1
    except OSError as error:
        print(f"could not be read: {error}")
        return 2
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        print(f"WRONG: not in its form ({type(error).__name__}: {error})")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
