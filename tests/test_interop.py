"""The table of what is understood: every scene is in it, and each of its proofs is a test that exists."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCENES = """
    forking; early media (183); PRACK; delayed offer; UPDATE; re-INVITE: port, address, codec;
    hold: sendonly, inactive, recvonly, c=0.0.0.0; music on hold; REFER, blind; REFER, attended (Replaces);
    3xx; digest retry (401, 407); CANCEL races; Session-ID; B2BUA; conference;
    running at the start: re-INVITE seen; running at the start: only BYE seen;
    running at the start: only media seen; dialog without BYE; reused ports; reused Call-ID;
    several audio m-lines; video m-line; T.38; orphan media; NAT latching; SSRC change; codec change;
    DTMF: RFC 4733; DTMF: SIP INFO; DTMF: in the sound; comfort noise; SRTP; drift; RTCP; rtcp-mux;
    UDP; TCP; WebSocket; HEP3; IPv6, fragments; VLAN; QinQ; three VLAN tags; MPLS; PPPoE; GRE; ERSPAN I;
    ERSPAN II; ERSPAN III; VXLAN; Geneve; TZSP; IP in IP; ERF; PPP; truncated captures
"""


def rows() -> dict[str, list[str]]:
    """Each scene and its proofs."""
    found = {}
    for line in (ROOT / "docs/interop.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and "::" in cells[2]:
            found[cells[0]] = re.findall(r"`(tests/[^`]+)`", cells[2])
    return found


def test_every_scene_is_in_the_table() -> None:
    wanted = [" ".join(scene.split()) for scene in SCENES.split(";")]
    assert [scene for scene in wanted if scene not in rows()] == []


@cache
def collected() -> set[str]:
    """The tests of all files that the table names, with their parameters and without."""
    files = sorted({proof.partition("::")[0] for proofs in rows().values() for proof in proofs})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for line in said.splitlines() for name in (line, line.partition("[")[0])}


@pytest.mark.parametrize("scene", rows())
def test_every_proof_is_a_test(scene: str) -> None:
    for proof in rows()[scene]:
        name, _, parameter = proof.partition("[")
        assert name in collected(), proof
        if parameter:
            # A test of several parameters has this one among them.
            tests = [each for each in collected() if each.startswith(f"{name}[")]
            word = re.escape(parameter.removesuffix("]"))
            assert any(re.search(rf"[\[-]{word}[\]-]", each) for each in tests), proof
