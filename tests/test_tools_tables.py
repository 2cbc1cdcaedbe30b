"""Tables on a narrow terminal."""

import io

import pytest

from recorderd.tools.terminal import Terminal

ID = "20261121T200501Z-0123456789"
COLUMNS = ("ID", "STATE", "STARTED", "LENGTH", "FROM", "TO", "TRACKS", "REVIEW", "SYNC")
ROW = (ID, "sealed", "2026-11-21 20:05:01", "0:00:20", "2000", "7000", "caller, callee", None, "verified")


class TerminalText(io.StringIO):
    """A terminal that keeps what it is told."""

    def isatty(self) -> bool:
        return True


def test_an_id_can_be_copied_from_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    text = TerminalText()
    Terminal(text).table(COLUMNS, [ROW], None)
    assert f"{ID} sealed" in text.getvalue()
    assert max(len(line) for line in text.getvalue().splitlines()) <= 80
