"""The class of a recording is decided when its calls begin, sealed with it, and known after a crash."""

from pathlib import Path
from typing import Any

import pytest

from recorderd.config import load_config
from recorderd.service.opening import archive_settings, engine_settings
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.manifest import load_manifest
from recorderd.spool.recovery import recover
from recorderd.spool.retention import end_of, stamp, time_text
from recorderd.spool.signing import HostPublic
from recorderd.spool.times import microseconds
from tests.commands import configure, run
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.spool_builder import STARTED_US, fill, make_desk, summary

CLASSES = """
site: {name: london-2}
policy: {internal: ["2xxx"]}
retention:
  classes:
    - {name: orders, keep: 7y, match: {header: {x-retention: order}}}
    - {name: desk, keep: 5y, sites: london-*, match: {number: "2001"}}
    - {name: elsewhere, keep: forever, sites: paris-*, match: {number: "*"}}
    - {name: rest, keep: 90d}
  default: rest
"""


def sealed(tmp_path: Path, simulator: PbxSimulator, text: str = CLASSES) -> dict[str, dict[str, Any]]:
    """What the manifests say of each call's recording, by Call-ID."""
    simulator.write(tmp_path / "calls.pcap")
    config = configure(tmp_path, text)
    assert run("recorderd", "replay", "-c", config, tmp_path / "calls.pcap").code == 0
    spool = Spool(tmp_path / "spool")
    public = HostPublic.load(spool.host_public_path)
    manifests = [load_manifest(spool.manifest_path(name), public) for name in spool.records()]
    with Index.read(spool) as index:
        rows = {row["id"]: row for row in index.recordings()}
    for manifest in manifests:
        stated = manifest.summary.get("retention")
        assert rows[manifest.recording]["retention"] == stated
    return {manifest.summary["call_ids"][0]: manifest.summary for manifest in manifests}


def test_each_call_has_the_class_that_fits(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=71)
    order = simulator.add(CallScript(caller="2001", talk_s=2, invite_headers="X-Retention: order\r\n"))
    desk = simulator.add(CallScript(caller="2001", talk_s=2, start_s=1))
    rest = simulator.add(CallScript(caller="3001", callee="3002", talk_s=2, start_s=2))
    found = sealed(tmp_path, simulator)
    classes = {call_id: said["retention"]["class"] for call_id, said in found.items()}
    assert classes == {order.call_id: "orders", desk.call_id: "desk", rest.call_id: "rest"}
    for said in found.values():
        kept = said["retention"]
        ended = microseconds(said["started_at"]) + round(said["duration_s"] * 1e6)
        since = microseconds(kept["since"])
        assert abs(since - ended) < 1_000_000
        end = end_of(since, kept["keep"])
        assert end is not None
        assert kept["expires_at"] == time_text(end)


def test_nothing_is_said_without_classes(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=72)
    simulator.add(CallScript(talk_s=2))
    (said,) = sealed(tmp_path, simulator, "").values()
    assert "retention" not in said


def test_a_clock_that_was_set_back_lets_nothing_expire_early(tmp_path: Path) -> None:
    """The newest recording is of five years later: what is recorded now is kept from then on."""
    simulator = PbxSimulator(seed=73)
    truth = simulator.add(CallScript(talk_s=2))
    later = "2099-05-05T00:00:00.000Z"
    with Index.open(Spool(tmp_path / "spool").prepare()) as index:
        known = {**summary(), "started_at": later}
        index.recording_finished("20990505T000000Z-0123456789", "sealed", known, "x", "", 1)
    said = sealed_beside(tmp_path, simulator)[truth.call_id]
    assert said["retention"]["since"] == later
    assert said["retention"]["expires_at"] > "2099-08"


def sealed_beside(tmp_path: Path, simulator: PbxSimulator) -> dict[str, dict[str, Any]]:
    simulator.write(tmp_path / "calls.pcap")
    config = configure(tmp_path, CLASSES)
    assert run("recorderd", "replay", "-c", config, tmp_path / "calls.pcap").code == 0
    spool = Spool(tmp_path / "spool")
    manifests = [load_manifest(spool.manifest_path(name), None) for name in spool.records()]
    return {manifest.summary["call_ids"][0]: manifest.summary for manifest in manifests}


def test_what_a_crash_left_is_kept_from_where_it_ends(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        writer = desk.start()
        index.recording_started(
            writer.recording_id, {**summary(), "retention": stamp("a", "90d", STARTED_US)}
        )
        assert index.due("9999") == []  # it still runs
        fill(writer, 3)
        writer.flush()
        writer.abandon()
        recover(desk.spool, index, desk.signer)
        row = index.recording(writer.recording_id)
        (due,) = index.due("9999")
    manifest = load_manifest(desk.spool.manifest_path(writer.recording_id), desk.signer.public)
    ended = manifest.ended_us
    assert ended > STARTED_US
    assert row["retention"] == manifest.summary["retention"] == stamp("a", "90d", ended)
    assert due["expires_at"] == row["retention"]["expires_at"]


@pytest.mark.parametrize("profile", ["finance", "healthcare", "retail", "government"])
def test_every_profile_can_be_used(tmp_path: Path, profile: str) -> None:
    config = load_config(configure(tmp_path, f"retention: {{profile: {profile}}}\n"))
    schedule = archive_settings(config)["retention"]
    assert schedule.default is not None
    assert all(each.keep for each in schedule.classes)
    assert engine_settings(config, live=False).admission.retention is not None
    text = Path(__file__).parent.parent.joinpath(f"config/retention-{profile}.yaml").read_text()
    assert "counsel" in text


def test_own_classes_come_before_those_of_the_profile(tmp_path: Path) -> None:
    text = """
retention:
  profile: retail
  classes:
    - {name: contract, keep: 9y, match: {to: "77"}}
    - {name: test, keep: 1d, match: {to: "78"}}
"""
    retention = load_config(configure(tmp_path, text)).retention
    assert [(each.name, each.keep) for each in retention.classes] == [
        ("contract", "9y"),
        ("test", "1d"),
        ("quality", "90d"),
    ]
    assert retention.default == "quality"


def test_a_profile_of_ones_own_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "retention-bank-1.yaml").write_text(
        "retention: {classes: [{name: x, keep: 3y}], default: x}\n"
    )
    retention = load_config(configure(tmp_path, "retention: {profile: bank-1}\n")).retention
    assert retention.default == "x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{profile: nothing}", "there is no"),
        ("{profile: ../x}", "does not match"),
        (f"{{profile: {300 * 'x'}}}", "does not match"),
        ('{profile: "retail\\n"}', "does not match"),
        ("{profile: retail, classes: [{name: [x], keep: 3y}]}", "must be text"),
        ("{default: x}", "x is no class; there are none"),
        ("{classes: [{name: x, keep: 3y}]}", "x has no match, so no call has it"),
        ("{classes: [{name: x, keep: 3}], default: x}", "must be text"),
        ("{classes: [{name: x, keep: soon}], default: x}", "must be a period such as 90d"),
        ("{classes: [{name: x, keep: 3y}, {name: x, keep: 4y}], default: x}", "given twice: x"),
        ("{approvers: [a.pub]}", "1, and approvals asks for 2"),
        ("{approvals: 1}", "must be at least 2"),
        ("{classes: [{name: x, keep: 3y, match: {from: '1*1'}}]}", "a * that is not at its end"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Exception, match="retention") as caught:
        load_config(configure(tmp_path, f"retention: {text}\n"))
    assert said in str(caught.value)


def test_the_default_is_a_class_of_any_name(tmp_path: Path) -> None:
    text = "retention: {classes: [{name: Calls_10y, keep: 10y}], default: Calls_10y}\n"
    assert load_config(configure(tmp_path, text)).retention.default == "Calls_10y"


def test_a_broken_profile_is_named(tmp_path: Path) -> None:
    (tmp_path / "retention-mine.yaml").write_text("retention: {classes: [{name: x, keep: soon}]}\n")
    with pytest.raises(Exception, match=r"retention-mine\.yaml: .*must be a period"):
        load_config(configure(tmp_path, "retention: {profile: mine}\n"))
