"""What strace(1) does to a process, and what it saw of it."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.process import until

_LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
_CALL = re.compile(r"(\w+)\((.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_RESULT = re.compile(r"= (-?\d+|\?)(.*)$")


@dataclass(frozen=True)
class Act:
    """One system call: the ``ordinal``-th of its name in its thread."""

    thread: int
    time_s: float
    name: str
    ordinal: int
    text: str
    result: int | None
    """None where it did not return."""
    injected: bool


class Strace:
    """Attached to a process for as long as the block runs."""

    def __init__(self, pid: int, log: Path, expressions: list[str]) -> None:
        if shutil.which("strace") is None:
            pytest.skip("needs strace")
        options = [part for expression in expressions for part in ("-e", expression)]
        command = ["strace", "-f", "-y", "-ttt", "-qq", "-s", "32", "-o", str(log), *options, "-p", str(pid)]
        self._pid, self._process = pid, subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def until_attached(self) -> None:
        """Wait until every system call is seen."""

        def attached() -> bool:
            status = Path(f"/proc/{self._pid}/status").read_text()
            return "TracerPid:\t0\n" not in status

        until(attached, "strace at work", 20)

    def close(self) -> None:
        """The process is gone."""
        self._process.wait(20)


def acts_of(log: Path) -> list[Act]:
    """What a log tells, in order of the calls' beginnings."""
    begun: dict[int, tuple[float, str, int, str]] = {}
    counted: Counter[tuple[int, str]] = Counter()
    found = []
    for thread, time_s, text in _lines(log):
        if (resumed := _RESUMED.match(text)) and thread in begun:
            began_s, name, ordinal, head = begun.pop(thread)
            found.append(_act(thread, began_s, name, ordinal, head + resumed[2]))
        elif call := _CALL.match(text):
            name = call[1]
            counted[thread, name] += 1
            if text.endswith("<unfinished ...>"):
                begun[thread] = (time_s, name, counted[thread, name], call[2])
            else:
                found.append(_act(thread, time_s, name, counted[thread, name], call[2]))
    found += [_act(thread, *rest) for thread, rest in begun.items()]
    return sorted(found, key=lambda act: act.time_s)


def _lines(log: Path) -> Iterator[tuple[int, float, str]]:
    for line in log.read_text(errors="replace").splitlines():
        if match := _LINE.match(line):
            yield int(match[1]), float(match[2]), match[3]


def _act(thread: int, time_s: float, name: str, ordinal: int, text: str) -> Act:
    result = _RESULT.search(text)
    number = None if result is None or result[1] == "?" else int(result[1])
    return Act(thread, time_s, name, ordinal, text, number, "(INJECTED)" in text)


def ordinals(acts: list[Act], name: str, below: Path) -> list[int]:
    """At which of the calls of one name something below a folder is acted on."""
    return sorted({act.ordinal for act in acts if act.name == name and os.fspath(below) in act.text})
