"""Where the stamps of checkpoints are kept: beside the ledger, each with the very note that it stamps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recorderd.spool.durable import make_folder, write_file


@dataclass(frozen=True, slots=True)
class Stamped:
    """The files of a checkpoint of ``size`` entries that was stamped, or is to be."""

    folder: Path
    size: int

    @property
    def note_path(self) -> Path:
        """The checkpoint."""
        return self.folder / f"{self.size}.checkpoint"

    @property
    def token_path(self) -> Path:
        """What the time-stamp authority answered."""
        return self.folder / f"{self.size}.tsr"

    @property
    def ots_path(self) -> Path:
        """What the OpenTimestamps calendars answered."""
        return self.folder / f"{self.size}.checkpoint.ots"


class Stamps:
    """The stamps of the ledger in a folder."""

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger / "stamps"

    def of(self, size: int) -> Stamped:
        """The files of a checkpoint."""
        return Stamped(self.folder, size)

    def stamped(self) -> Iterator[Stamped]:
        """The checkpoints with a token of an authority, the smallest first."""
        sizes = (path.stem for path in self.folder.glob("*.tsr"))
        yield from (self.of(size) for size in sorted(int(text) for text in sizes if text.isdecimal()))

    def put(self, path: Path, data: bytes) -> None:
        """Keep a file, durably. Raises OSError."""
        make_folder(self.folder)
        write_file(path, data)
