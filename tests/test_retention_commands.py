"""From the configuration to the certificate, by the commands that people type."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.spool.destruction_progress import FOLDER
from recorderd.spool.index import Index
from recorderd.spool.reindex import reindex
from recorderd.spool.times import rfc3339
from tests.retention_builder import HOUR_US, NOW_US, YEAR_US, Vault, make_vault
from tests.tools_runner import Answer, recorderctl

CONFIG = """
spool: {path: spool}
encryption: {recipients: [identity.pub]}
sync: {remotes: [{name: nas, type: file, path: nas}, {name: worm, type: file, path: worm}]}
retention:
  classes:
    - {name: short, keep: 1y, match: {from: "+4420*"}}
    - {name: long, keep: 7y, review: true, match: {to: "9999"}}
  default: short
  approvers: [anne.key.pub, ben.key.pub, carl.key.pub]
"""


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """On a machine whose clock the test moves."""
    monkeypatch.chdir(tmp_path)
    made = make_vault(tmp_path)
    monkeypatch.setattr(time, "time_ns", lambda: made.hands.wall * 1000)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: made.hands.boot * 1000)
    (tmp_path / "config.yaml").write_text(CONFIG)
    for name in ("anne", "ben", "carl", "mallory"):
        assert recorderctl("retention", "keygen", "-o", f"{name}.key").code == 0
    yield made
    made.index.close()


def ctl(*words: object) -> Answer:
    return recorderctl("-c", "config.yaml", *words)


def approved(*who: str, proposal: str = "p.json") -> list[str]:
    """Approvals of these people, as options."""
    options = []
    for name in who:
        file = Path(f"{name}-{proposal}")
        if not file.exists():
            words = ("retention", "approve", proposal, "--key", f"{name}.key", "--by", name, "-o", file)
            assert recorderctl(*words).code == 0
        options += ["--approval", str(file)]
    return options


def test_all_of_it(vault: Vault) -> None:
    short, _ = vault.add(["short", "long"])
    due = ctl("--json", "retention", "due").json
    assert [(row["id"], row["class"], row["held"], row["review"]) for row in due] == [
        (short, "short", False, False)
    ]
    assert short in ctl("retention", "due").out
    assert ctl("retention", "propose", "-o", "p.json").code == 0
    answer = ctl("--json", "purge", "p.json", *approved("anne", "ben"), "-o", "certificate.json")
    assert answer.code == 0, answer.out
    assert answer.json["destroyed"] == [short]
    assert answer.json["left"] == {}
    checked = recorderctl(
        *("retention", "check-certificate", "certificate.json", "--host-key", "spool/host.pub"),
        *("--approver", "anne.key.pub", "--approver", "ben.key.pub"),
    )
    assert checked.code == 0
    assert "The certificate holds" in checked.out
    assert "anne" in checked.out
    assert Path("certificate.json.txt").read_text().startswith("CERTIFICATE OF DESTRUCTION")
    assert ctl("retention", "due").out == "nothing has expired\n"
    rows = {row["id"]: row for row in ctl("--json", "list").json}
    assert rows[short]["state"] == "destroyed"
    assert rows[short]["from"] is None
    shown = ctl("show", short)
    assert shown.code == 0
    assert "destroyed" in shown.out
    assert ctl("--json", "show", short).json["destroyed"]["class"] == "short"
    assert ctl("verify", "--all").code == 0
    assert "destroyed" in ctl("verify", short).out
    assert ctl("export", short, "-o", "x.wav", "--identity", "identity").code == 22
    assert [path.name for path in (vault.desk.spool.path / FOLDER).glob("*/certificate-*")] != []


def test_what_the_approvals_lack(vault: Vault) -> None:
    vault.add(["short"])
    ctl("retention", "propose", "-o", "p.json")

    def refusal(*options: str) -> str:
        answer = ctl("--json", "purge", "p.json", *options)
        assert answer.code == 26
        return str(answer.error["message"])

    assert refusal() == "0 approvals, and 2 are needed (retention.approvals)"
    assert refusal(*approved("anne")) == "1 approvals, and 2 are needed (retention.approvals)"
    assert "an approver counts once" in refusal(*approved("anne"), *approved("anne"))
    assert "not the key of one of retention.approvers" in refusal(*approved("anne", "mallory"))
    ctl("retention", "propose", "--reason", "another", "-o", "q.json")
    assert "it is of another proposal" in refusal(*approved("anne"), *approved("ben", proposal="q.json"))
    altered = Path("ben-p.json")
    approved("ben")
    altered.write_bytes(altered.read_bytes().replace(b'"by":"ben"', b'"by":"bob"'))
    assert "its signature is wrong: it was altered" in refusal(*approved("anne", "ben"))
    altered.unlink()
    options = approved("anne", "ben")
    vault.hands.pass_by(31 * 24 * HOUR_US)
    vault.ledger.append([])
    stale = ctl("--json", "purge", "p.json", *options)
    assert stale.code == 26
    assert "more than 30 days old, and has expired" in stale.json["error"]["message"]
    Path("p.json").write_bytes(Path("p.json").read_bytes().replace(b"period", b"Period"))
    assert ctl("--json", "purge", "p.json", *options).code == 26
    Path("p.json").write_bytes(Path("p.json").read_bytes()[:-1])
    broken = ctl("--json", "purge", "p.json", *options)
    assert broken.code == 20
    assert "was altered" in broken.json["error"]["message"]
    assert len(vault.due()) == 1


def test_the_hosts_own_key_approves_nothing(vault: Vault) -> None:
    vault.add(["short"])
    Path("config.yaml").write_text(CONFIG.replace("carl.key.pub", "spool/host.pub"))
    ctl("retention", "propose", "-o", "p.json")
    answer = ctl("--json", "purge", "p.json", *approved("anne", "ben"))
    assert answer.code == 10
    assert "the host's own key: it approves nothing" in answer.error["message"]


def test_held_by_ids_and_released(vault: Vault) -> None:
    one, two = vault.add(["short", "short"])
    held = ctl("--json", "hold", one, "--reason", "court order 7", "--by", "Ann", "--matter", "case-7")
    assert held.code == 0
    assert held.json == {"held": [one], "numbers": [], "matter": "case-7"}
    (row,) = ctl("--json", "hold", "--list").json
    assert (row["recording"], row["reason"], row["by"]) == (one, "court order 7", "Ann")
    assert "case-7" in ctl("hold", "--list").out
    ctl("retention", "propose", "-o", "p.json")
    assert [item["id"] for item in json.loads(Path("p.json").read_bytes())["items"]] == [two]
    assert ctl("--json", "retention", "propose", one, "-o", "q.json").error["message"] == (
        f"{one}: held for case-7"
    )
    assert {row["id"]: row["held"] for row in ctl("--json", "list").json} == {one: True, two: False}
    ctl("hold", one, "--reason", "second", "--matter", "case-8")
    refused = ctl("--json", "hold", "--release", one, "--reason", "over")
    assert refused.code == 2
    assert "give --matter" in refused.error["message"]
    assert ctl("--json", "hold", "--release", "--matter", "case-7", "--reason", "over").json["released"] == [
        one
    ]
    assert ctl("--json", "hold", "--release", one, "--reason", "over").json["released"] == [one]
    assert ctl("hold", "--list").out == "nothing is held\n"
    assert len(ctl("--json", "hold", "--list", "--all").json) == 2
    assert ctl("hold", one).code == 2


def test_a_mistyped_number_or_matter_is_told(vault: Vault) -> None:
    vault.add(["short"])
    words = ("hold", "--number", "987654321", "--reason", "claim", "--matter", "claim-3")
    assert ctl(*words).code == 22
    assert ctl("hold", "--list", "--all").out == "nothing is held\n"
    assert ctl(*words, "--future").code == 0
    assert ctl("hold", "--release", "--matter", "claim-4", "--reason", "over").code == 2
    assert ctl("hold", "--release", "--matter", "claim-3", "--reason", "over").code == 0


def test_an_approver_with_a_passphrase(vault: Vault) -> None:
    vault.add(["short"])
    Path("word").write_text("open sesame\n")
    keygen = ("retention", "keygen", "-o", "dora.key", "--passphrase", "--passphrase-file", "word")
    assert recorderctl(*keygen).code == 0
    assert b"ENCRYPTED" in Path("dora.key").read_bytes()
    ctl("retention", "propose", "-o", "p.json")
    approve = ("retention", "approve", "p.json", "--key", "dora.key", "-o", "a.json", "--passphrase-file")
    assert recorderctl(*approve, "word").code == 0
    Path("word").write_text("guess\n")
    assert recorderctl(*approve[:-2], "b.json", approve[-1], "word").code == 21


def test_a_class_that_wants_a_review_is_left_out_until_it_was(vault: Vault) -> None:
    (long,) = vault.add(["long"])
    vault.hands.pass_by(6 * YEAR_US)
    nothing = ctl("--json", "retention", "propose", "-o", "p.json")
    assert nothing.code == 26
    assert "nothing is to be proposed" in nothing.error["message"]
    assert ctl("retention", "propose", "--reviewed", "-o", "p.json").code == 0
    assert ctl("retention", "propose", long, "-o", "q.json").code == 0


def test_longer_at_once_and_shorter_with_approvals(vault: Vault) -> None:
    (one,) = vault.add(["long"])
    before = vault.index.recording(one)["retention"]["expires_at"]
    config = Path("config.yaml")
    config.write_text(CONFIG.replace("keep: 7y", "keep: 10y"))
    assert ctl("--json", "retention", "apply").json == {"lengthened": 1, "shorter": 0}
    longer = vault.index.recording(one)["retention"]["expires_at"]
    assert int(longer[:4]) == int(before[:4]) + 3
    config.write_text(CONFIG.replace("keep: 7y", "keep: 2y"))
    assert ctl("--json", "retention", "apply").json == {"lengthened": 0, "shorter": 1}
    assert vault.index.recording(one)["retention"]["expires_at"] == longer
    assert ctl("retention", "propose", "--shorten", "-o", "s.json").code == 0
    alone = ctl("--json", "retention", "apply", "--shorten", "s.json", *approved("anne", proposal="s.json"))
    assert alone.code == 26
    both = approved("anne", "carl", proposal="s.json")
    assert ctl("--json", "purge", "s.json", *both).code == 2
    assert ctl("--json", "retention", "apply", "--shorten", "s.json", *both).json["shortened"] == 1
    shorter = vault.index.recording(one)["retention"]["expires_at"]
    assert int(shorter[:4]) == int(before[:4]) - 5
    assert ctl("retention", "propose", "--reviewed", "-o", "p.json").code == 0
    assert ctl("--json", "purge", "p.json", *approved("anne", "ben")).json["destroyed"] == [one]


def test_recordings_of_no_class_get_one_with_approvals(vault: Vault) -> None:
    (one,) = vault.add([None])
    call = {"call_id": "c", "from": "+44201", "to": "200", "first_seen": rfc3339(NOW_US)}
    vault.index.call_saved({**call, "outcome": "complete", "recording": one})
    assert ctl("--json", "retention", "apply").json == {"lengthened": 0, "shorter": 1}
    ctl("retention", "propose", "--shorten", "-o", "s.json")
    both = approved("anne", "carl", proposal="s.json")
    # Its headers are not known any more, so it may have been one of the longer class, had it rung there.
    assert ctl("--json", "retention", "apply", "--shorten", "s.json", *both).json["shortened"] == 1
    assert vault.index.recording(one)["retention"]["class"] == "short"


def test_an_index_made_anew_knows_holds_periods_and_tombstones(vault: Vault) -> None:
    one, two, three, four = vault.add(["short", "short", "long", "short"])
    ctl("hold", two, "--reason", "r", "--matter", "m")
    ctl("hold", "--number", "+4420000003", "--future", "--reason", "r", "--matter", "n")
    Path("config.yaml").write_text(CONFIG.replace("keep: 7y", "keep: 10y"))
    ctl("retention", "apply")
    ctl("retention", "propose", "-o", "p.json")
    assert ctl("--json", "purge", "p.json", *approved("anne", "ben")).json["destroyed"] == [one]
    before = {row["id"]: row for row in vault.index.recordings()}
    holds = [(hold["recording"], hold["matter"]) for hold in vault.index.holds()]
    vault.index.close()
    with vault.desk.spool.lock():
        reindex(vault.desk.spool, vault.desk.signer.public)
    vault.index = Index.open(vault.desk.spool)
    after = {row["id"]: row for row in vault.index.recordings()}
    keys = ("state", "held", "sha256", "from")
    assert {name: [row[key] for key in keys] for name, row in after.items()} == {
        name: [row[key] for key in keys] for name, row in before.items()
    }
    for name in (one, two, three, four):
        assert after[name]["retention"]["expires_at"] == before[name]["retention"]["expires_at"]
    assert sorted((hold["recording"], hold["matter"]) for hold in vault.index.holds()) == sorted(holds)
    assert {name for name, row in after.items() if row["held"]} == {two, four}


def test_the_doctor_looks_at_retention(vault: Vault) -> None:
    (one,) = vault.add(["short"])

    def found() -> tuple[str, str]:
        checks = {check["name"]: check for check in ctl("--json", "doctor").json["checks"]}
        return checks["retention"]["state"], checks["retention"]["detail"]

    assert found() == ("ok", "2 classes, 3 approvers")
    vault.index.destroying([one])
    assert found() == ("warning", "1 recordings are not destroyed completely")
    Path("anne.key.pub").write_text("nothing")
    assert found()[0] == "failed"


def test_a_host_key_from_elsewhere(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    key = Path("spool/host.key").rename("key-of-the-host")
    ctl("retention", "propose", "-o", "p.json")
    both = approved("anne", "ben")
    refused = ctl("--json", "purge", "p.json", *both)
    assert refused.code == 24
    assert "--signing-key names it" in refused.error["message"]
    assert ctl("--json", "purge", "p.json", *both, "--signing-key", key).json["destroyed"] == [one]


def test_a_remote_that_is_away_and_an_altered_certificate_say_what_to_do(vault: Vault) -> None:
    (short,) = vault.add(["short"])
    assert ctl("retention", "due").out.endswith("1 expired, 0 of them held\n")
    assert ctl("retention", "propose", "-o", "p.json").code == 0
    purge = ("purge", "p.json", *approved("anne", "ben"))
    Path("nas").rename("away")
    away = ctl("--json", *purge)
    assert (away.code, away.error["hint"]) == (30, "run the same purge again: it goes on with what is left")
    Path("away").rename("nas")
    done = ctl("--json", *purge, "-o", "certificate.json")
    assert (done.code, done.json["destroyed"]) == (0, [short])
    again = ctl(*purge, "-o", "certificate.json")
    assert again.code == 2
    assert "give another name" in again.err
    data = Path("certificate.json").read_bytes()
    words = ("--host-key", "spool/host.pub", "--approver", "anne.key.pub", "--approver", "ben.key.pub")
    for altered in (data.replace(short.encode(), b"x" * len(short)), b"{}", data[:-9]):
        Path("altered.json").write_bytes(altered)
        checked = recorderctl("--json", "retention", "check-certificate", "altered.json", *words)
        assert checked.code == 20
        assert "`destruction/`" in checked.error["hint"]
