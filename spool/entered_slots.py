"""What the ledger says of key slots: the last generation that was entered as wrapped anew, against the slot
file that stands there (docs/format.md, "The slot file").

The first generation is stated in the manifest; of later ones there is nothing but their entry.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd.errors import SpoolCorrupt
from recorderd.spool.ledger_check import LedgerVerdict, entries_in
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.slots import FIRST, SlotFile

_MARK: Final = b'},"kind":"rewrapped","subject":"'
"""In the bytes of every such entry, as they are canonical; other entries need not be parsed."""


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """An entry, by its number: the slot file of this generation has this hash."""

    leaf: int
    generation: int
    sha256: str


class EnteredSlots:
    """The slot files that the ledger in a folder has entries of. ``at_copy``: it may have been copied before
    the newest of them."""

    def __init__(self, ledger: Path, *, at_copy: bool = False) -> None:
        self._ledger, self._at_copy = ledger, at_copy
        self.problems: list[str] = []
        """What of the ledger cannot be read: what is missing there is no news then."""
        self._read_again = False
        self._known = self._read()

    def _read(self) -> dict[str, Rewrapped]:
        verdict, known = LedgerVerdict(), dict[str, Rewrapped]()
        for leaf, data in enumerate(entries_in(self._ledger, verdict)):
            if _MARK in data and (found := _rewrapped(leaf, data)) is not None:
                known[found[0]] = found[1]
        self.problems = verdict.problems
        return known

    def problem(self, recording: str, path: Path, slots: SlotFile | None) -> str | None:
        """What is wrong with the slot file at ``path`` (None: there is none), and what to do."""
        found = self._compared(recording, slots)
        if found is not None and not self._read_again:
            # Somebody wraps keys anew at this moment, perhaps.
            self._read_again = True
            self._known = self._read()
            found = self._compared(recording, slots)
        return None if found is None else f"{path}: {found}"

    def _compared(self, recording: str, slots: SlotFile | None) -> str | None:
        entered = self._known.get(recording)
        present = 0 if slots is None else slots.generation
        last = FIRST if entered is None else entered.generation
        if entered is not None and present < last:
            what = "no key slots" if slots is None else f"key slots of generation {present}"
            return (
                f"{what}, the ledger has generation {last} (entry {entered.leaf}): set back, so that others"
                " open the recording than should; bring that one back from a remote or a copy (`keys import`)"
            )
        if present > last:
            if self._at_copy or self.problems:
                return None
            return (
                f"key slots of generation {present}, the ledger has none later than {last}: wrapped anew and"
                " not entered; where nobody knows of that, bring back the one before from a remote or a copy,"
                " else wrap them anew once more (`keys rewrap`), which is entered"
            )
        if entered is not None and slots is not None and slots.sha256 != entered.sha256:
            return (
                f"SHA-256 of the key slots is not the one in the ledger (entry {entered.leaf}); bring back"
                " the one that was entered from a remote or a copy"
            )
        return None


def _rewrapped(leaf: int, data: bytes) -> tuple[str, Rewrapped] | None:
    """The recording that an entry is about, and what it says; None where it is not readable."""
    try:
        entry = Entry.from_bytes(data)
    except SpoolCorrupt:
        return None
    generation, sha256 = entry.fields.get("generation"), entry.fields.get("slots_sha256")
    if entry.kind != "rewrapped" or not isinstance(generation, int) or not isinstance(sha256, str):
        return None
    return entry.subject, Rewrapped(leaf, generation, sha256)
