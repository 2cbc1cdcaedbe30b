"""What a web server really does, tried on files of its own."""

import socket
import ssl

from recorderd.spool.stores.base import Finding, RemoteOutage
from recorderd.spool.stores.webdav_link import WebLink
from recorderd.spool.stores.words import words

# Named as a recording is: servers may treat those in their own way.
_FILE, _MOVED = ".recorderd-examine.tmp", ".recorderd-examine.rec"


def examine(link: WebLink, *, dav: bool) -> tuple[Finding, ...]:
    """Try it. Raises RemoteError."""
    findings = [_tls(link)]
    if dav:
        findings.append(_move(link))
    findings += [_condition(link), _deletion(link)]
    return tuple(findings)


def _tls(link: WebLink) -> Finding:
    if not link.tls:
        return Finding("TLS", False, "none: whoever is on the way reads the manifests, and the password")
    # A connection of its own: how the others were made is the library's.
    try:
        with (
            socket.create_connection((link.host, link.port), link.timeout_s) as plain,
            link.context().wrap_socket(plain, server_hostname=link.host) as wrapped,
        ):
            version, cipher = wrapped.version() or "", (wrapped.cipher() or ("",))[0]
    except (OSError, ssl.SSLError) as error:
        raise RemoteOutage(f"{link.url}: TLS: {words(error)}") from None
    return Finding("TLS", version == "TLSv1.3", f"{version}, {cipher}")


def _move(link: WebLink) -> Finding:
    """Whether a name that is taken is replaced at once, by what MOVE brings."""
    link.told("PUT", _MOVED, body=b"old")
    link.told("PUT", _FILE, body=b"new")
    headers = {"Destination": f"{link.url}/{_MOVED}", "Overwrite": "T"}
    status = link.told("MOVE", _FILE, headers=headers).status
    replaced = status in (201, 204) and link.content(_MOVED) == b"new"
    told = "a copy gets its name when it is whole" if replaced else f"MOVE over a name is not done: {status}"
    return Finding("rename", replaced, told)


def _condition(link: WebLink) -> Finding:
    """Whether PUT with If-None-Match keeps what is there (RFC 9110 section 13.1.2)."""
    link.told("PUT", _MOVED, body=b"old")
    link.told("PUT", _MOVED, headers={"If-None-Match": "*"}, body=b"new")
    kept = link.content(_MOVED) == b"old"
    told = "a copy that is there is kept" if kept else "If-None-Match is ignored: copies can be replaced"
    return Finding("conditions", kept, told)


def _deletion(link: WebLink) -> Finding:
    status = link.told("DELETE", _MOVED).status
    if status in (401, 403, 405, 501):
        return Finding("deletion", True, "refused: who steals these credentials cannot delete copies")
    if status in (200, 202, 204, 404):
        return Finding("deletion", False, "allowed: who steals these credentials can delete copies")
    return Finding("deletion", None, f"the server answered {status}")
