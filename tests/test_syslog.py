"""Alerts as syslog lines: their form, and what a real rsyslogd makes of them."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.alerts.syslog import MAX_BYTES, Severity, Syslog

TIME_NS = 1_795_291_501_123_456_789  # 2026-11-21T20:05:01.123456Z
FACTS = {
    "recording": "20261121T200501Z-0123456789",
    "from": "anna",
    "to": 'b"o]b\\',
    "causes": ["caller: silent", "callee: level -41.2 dBov"],
    "tracks": 2,
    "mos": 4.25,
    "early": False,
    "nothing": None,
}


def remote(host: str = "pbx1") -> Syslog:
    return Syslog("127.0.0.1:9", "local0", host=host)


def test_the_line_of_rfc_5424() -> None:
    line = remote().line("review", FACTS, time_ns=TIME_NS).decode()
    assert line == (
        f"<132>1 2026-11-21T20:05:01.123456Z pbx1 recorderd {os.getpid()} review "
        '[recorderd@32473 event="review" recording="20261121T200501Z-0123456789" from="anna" '
        'to="b\\"o\\]b\\\\" '
        'causes="caller: silent; callee: level -41.2 dBov" tracks="2" mos="4.25" early="false"] '
        'event=review recording=20261121T200501Z-0123456789 from=anna to="b\\"o]b\\\\" '
        'causes="caller: silent; callee: level -41.2 dBov" tracks=2 mos=4.25 early=false'
    )


def test_the_local_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    local = Syslog("/dev/log", "daemon", host="pbx1")
    line = local.line(
        "review", {"from": "anna"}, time_ns=TIME_NS - 20 * 86_400 * 10**9, severity=Severity.ERROR
    )
    monkeypatch.undo()
    time.tzset()
    assert line.decode() == f"<27>Nov  1 21:05:01 recorderd[{os.getpid()}]: event=review from=anna"


def test_a_peer_cannot_forge_a_line_or_a_field() -> None:
    hostile = 'x"] [other@1 a="b"\n<0>Jan  1 00:00:00 root: gone\x1b[2J\u202e\x00'
    line = remote("h o\nst\x7f").line("review\n", {"from": hostile, "a b=]": "c"}, time_ns=TIME_NS).decode()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", line)
    assert line.split(" ")[2] == "h_o_st_"
    assert line.count("[recorderd@32473") == 1
    assert 'from="x\\"\\] [other@1 a=\\"b\\"' in line
    assert ' a_b__="c"]' in line


def test_a_line_is_never_longer_than_receivers_take() -> None:
    line = remote().line("review", {f"key{at}": "ä" * 1000 for at in range(20)}, time_ns=TIME_NS)
    assert len(line) <= MAX_BYTES
    text = line.decode()  # and is cut between characters
    structured = re.search(r'\[recorderd@32473( \w+="[^"]*")+\] ', text)
    assert structured
    assert len(structured[0].encode()) <= 1026


@given(
    st.dictionaries(
        st.text(max_size=40), st.text(max_size=400) | st.lists(st.text()) | st.floats(), max_size=6
    )
)
def test_any_values_make_one_readable_line(fields: dict[str, object]) -> None:
    line = remote().line("review", fields, time_ns=TIME_NS).decode()
    assert len(line.encode()) <= MAX_BYTES
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("address", ["host", "host:", ":514", "host:x"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ValueError, match="neither the path of a socket nor HOST:PORT"):
        Syslog(address, "local0", host="h")


def test_a_facility_that_is_none() -> None:
    with pytest.raises(ValueError, match="local9"):
        Syslog("/dev/log", "local9", host="h")


def test_a_syslog_that_is_not_there_is_told_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    syslog = Syslog(str(path), "local0", host="h")
    with pytest.raises(FileNotFoundError):
        syslog.send("review", {}, time_ns=TIME_NS)
    for _ in range(2):  # the second is a syslog that was restarted
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(path))
            syslog.send("review", {"from": "anna"}, time_ns=TIME_NS)
            assert sock.recv(4096).endswith(b": event=review from=anna")
        path.unlink()
        with pytest.raises(ConnectionRefusedError):
            syslog.send("review", {}, time_ns=TIME_NS)


@dataclass
class Rsyslogd:
    socket: Path
    port: int
    output: Path

    def received(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            lines = self.output.read_text().splitlines() if self.output.exists() else []
            if len(lines) >= count:
                return [json.loads(line) for line in lines]
            time.sleep(0.02)  # a poll, bounded by the deadline
        raise AssertionError(f"rsyslogd wrote {lines}")


@pytest.fixture
def rsyslogd(tmp_path: Path) -> Iterator[Rsyslogd]:
    program = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    it = Rsyslogd(tmp_path / "log", port, tmp_path / "out")
    (tmp_path / "rsyslog.conf").write_text(
        f"""
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
input(type="imuxsock" Socket="{it.socket}")
input(type="imudp" address="127.0.0.1" port="{port}")
template(name="json" type="list") {{ property(name="jsonmesg") constant(value="\\n") }}
action(type="omfile" file="{it.output}" template="json")
"""
    )
    arguments = ["-n", "-f", str(tmp_path / "rsyslog.conf"), "-i", str(tmp_path / "pid")]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_listens(it)
        yield it
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_it_listens(it: Rsyslogd) -> None:
    deadline = time.monotonic() + 10
    table = Path("/proc/net/udp")
    while not (it.socket.exists() and f":{it.port:04X} " in table.read_text()):
        assert time.monotonic() < deadline, "rsyslogd did not start"
        time.sleep(0.02)


def test_rsyslogd_reads_each_part_of_a_line_over_udp(rsyslogd: Rsyslogd) -> None:
    syslog = Syslog(f"127.0.0.1:{rsyslogd.port}", "local3", host="pbx1")
    syslog.send("review", {**FACTS, "city": "Zürich"}, time_ns=TIME_NS)
    [message] = rsyslogd.received(1)
    assert message["timereported"] == "2026-11-21T20:05:01.123456Z"
    assert message["hostname"] == "pbx1"
    assert message["app-name"] == "recorderd"
    assert message["procid"] == str(os.getpid())
    assert message["msgid"] == "review"
    assert message["syslogfacility"] == "19"
    assert message["syslogseverity"] == "4"
    assert message["structured-data"].startswith('[recorderd@32473 event="review" recording="2026')
    assert message["structured-data"].endswith(' city="Zürich"]')
    assert message["msg"].startswith("event=review recording=20261121T200501Z-0123456789 from=anna ")
    assert message["msg"].endswith(' causes="caller: silent; callee: level -41.2 dBov" '
                                   "tracks=2 mos=4.25 early=false city=Zürich")  # fmt: skip


def test_rsyslogd_reads_a_line_on_its_local_socket(rsyslogd: Rsyslogd) -> None:
    syslog = Syslog(str(rsyslogd.socket), "daemon", host="pbx1")
    syslog.send("review", FACTS, time_ns=TIME_NS, severity=Severity.NOTICE)
    [message] = rsyslogd.received(1)
    assert message["programname"] == "recorderd"
    assert message["syslogtag"] == f"recorderd[{os.getpid()}]:"
    assert message["syslogfacility"] == "3"
    assert message["syslogseverity"] == "5"
    assert message["msg"].startswith(" event=review recording=20261121T200501Z-0123456789 from=anna ")
