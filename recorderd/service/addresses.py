"""The addresses of this host: whatever leaves by one of them may have come in by another."""

import ipaddress
import re
from pathlib import Path
from typing import Final

_LOCAL: Final = r"\|-- ([0-9.]+)\n\s+/32 host LOCAL"


def own_addresses(proc: Path = Path("/proc/net")) -> frozenset[str]:
    """All addresses of this network namespace, as far as the kernel tells them."""
    found = set(re.findall(_LOCAL, _text(proc / "fib_trie")))
    for line in _text(proc / "if_inet6").splitlines():
        digits = line.split(" ", 1)[0]
        if re.fullmatch(r"[0-9a-f]{32}", digits):
            found.add(str(ipaddress.IPv6Address(int(digits, 16))))
    return frozenset(found)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
