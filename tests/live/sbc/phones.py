"""SIPp on both sides of the border: one process calls, one answers, and each call's ends speak as their own.

A capture file to play is named in the scenario and can be no variable, so the scenario has a message for each
voice, and a call jumps to its own: its index is in the callers' list, and in the number that is called.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.live.process import Program, listens, until
from tests.live.sbc.speakers import Law, Speaker
from tests.network_namespaces import Between

_HERE = Path(__file__).parent
_FIRST = 6  #: the index of the first message that @VOICES@ stands for, in both scenarios
MEDIA_PORT = 16000
STILL_MS = 2000
"""So long the phones say nothing before they hang up: a player that has to wait for its turn is late."""


@dataclass(frozen=True)
class Talk:
    """A call to be placed, ``index`` from 0, and who speaks in it."""

    index: int
    caller: Speaker
    callee: Speaker

    @property
    def call_id(self) -> str:
        """The Call-ID on the left."""
        return f"left-{self.index + 1}@phones"

    @property
    def calling(self) -> str:
        return f"3{self.index:03}"

    @property
    def called(self) -> str:
        """The last three digits tell the phone on the right with which voice to answer."""
        return f"4{self.index:03}{_voice_at(self.index):03}"


def talks(count: int, seconds: float, *, callee_law: Law = "pcma") -> list[Talk]:
    """``count`` calls of different speakers, each of whom talks all the time."""
    packets = round(seconds * 50)
    return [Talk(n, Speaker(2 * n, packets), Speaker(2 * n + 1, packets, callee_law)) for n in range(count)]


@dataclass(frozen=True)
class Phones:
    """The two SIPp while their calls are up."""

    calling: Program
    answering: Program

    def wait(self, seconds: float) -> None:
        """Wait for the end of all calls; both sides must be content with them."""
        assert self.calling.wait(seconds) == 0, self.calling.log()[-3000:]
        assert self.answering.wait(seconds) == 0, self.answering.log()[-3000:]


@contextmanager
def phones(
    folder: Path, network: Between, called: list[Talk], *, port: int, rate: int = 50
) -> Iterator[Phones]:
    """Place calls through the host's ``port``, ``rate`` of them a second; stopped with the block."""
    folder.mkdir(parents=True)
    talk_ms = 20 * called[0].caller.packets + STILL_MS
    callers = _scenario(folder, "caller", [talk.caller for talk in called])
    callees = _scenario(folder, "callee", [talk.callee for talk in called])
    lines = [f"{talk.calling};{talk.called};{_voice_at(talk.index)}" for talk in called]
    (folder / "callers.csv").write_text("\n".join(["SEQUENTIAL", *lines]) + "\n")
    common = ["-m", str(len(called)), "-l", str(len(called)), "-nostdin", "-timeout", "90s", "-timeout_error"]
    common += ["-mp", str(MEDIA_PORT), "-max_socket", "500", "-nd"]
    answering = ["sipp", "-sf", callees, "-p", "5060", *_at(network.RIGHT_PHONES), *common]
    calling = [
        "sipp",
        f"{network.LEFT_HOST}:{port}",
        "-sf",
        callers,
        "-p",
        "5060",
        *_at(network.LEFT_PHONES),
        *common,
    ]
    calling += ["-inf", str(folder / "callers.csv"), "-d", str(talk_ms), "-r", str(rate)]
    calling += ["-cid_str", "left-%u@phones"]
    uas = Program([*network.right.prefix, *answering], folder / "callee.log")
    uac = Program([*network.left.prefix, *calling], folder / "caller.log")
    with uas:
        until(lambda: listens(uas, 5060), "SIPp on port 5060", 30)
        with uac:
            yield Phones(uac, uas)


def _voice_at(index: int) -> int:
    return _FIRST + 2 * index + 1


def _at(address: str) -> list[str]:
    return ["-i", address, "-mi", address]


def _scenario(folder: Path, name: str, voices: list[Speaker]) -> str:
    # After a jump SIPp goes on as the message before the target says, so that one must say nothing.
    lines = [
        f'<nop/><nop next="spoken"><action><exec play_pcap_audio="{voice.write(folder)}"/></action></nop>'
        for voice in voices
    ]
    path = folder / f"{name}.xml"
    text = (_HERE / f"{name}.xml").read_text().replace("@VOICES@", "\n  ".join(lines))
    path.write_text(text.replace("@FORMAT@", str(voices[0].payload_type)))
    return str(path)
