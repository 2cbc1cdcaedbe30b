"""Checkpoints stamped by a real authority: `openssl ts` behind HTTP on the loopback."""

import subprocess
from pathlib import Path

import pytest

from recorderd.config import load_config
from recorderd.errors import ConfigError, RemoteError
from recorderd.service.stamping import stamping
from recorderd.spool.index import Index
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_stamps import Stamps
from recorderd.spool.stamp_order import in_order
from recorderd.spool.timestamps import Stamper, fetch_stamp, load_roots, verify_stamp
from tests.spool_builder import Desk, make_desk
from tests.time_authority import Authority, make_authority, serving
from tests.tools_runner import recorderctl

NOW_S = 1_795_291_501.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority") / "tsa")


@pytest.fixture
def authority(made: Authority):
    made.asked, made.every_s = 0, 3600.0
    made.answers.clear()
    with serving(made) as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A spool whose ledger has a checkpoint."""
    desk = make_desk(tmp_path)
    enter(desk)
    return desk


def enter(desk: Desk, count: int = 1) -> None:
    ledger = Ledger(desk.spool.path / "ledger")
    ledger.append([Entry("started", number, "pbx.example") for number in range(count)])
    ledger.checkpoint(desk.signer)


def configured(desk: Desk, authority: Authority) -> Path:
    config = desk.spool.path.parent / "config.yaml"
    config.write_text(
        f"spool: {{path: {desk.spool.path}}}\n"
        f"encryption: {{recipients: [{desk.identity_file}.pub]}}\n"
        f"ledger: {{timestamps: {{url: '{authority.url}', ca: {authority.ca}}}}}\n"
    )
    return config


@pytest.mark.parametrize("kind", [{}, {"key": "ec"}, {"ess": "sha1"}, {"ess": "sha512"}])
def test_a_stamp_is_fetched_and_openssl_agrees(tmp_path: Path, kind: dict[str, str]) -> None:
    with serving(make_authority(tmp_path / "tsa", **kind)) as authority:
        answer = fetch_stamp(b"note", authority.url, load_roots(authority.ca), 5.0)
    (tmp_path / "note").write_bytes(b"note")
    (tmp_path / "tsr").write_bytes(answer)
    words = ["ts", "-verify", "-data", tmp_path / "note", "-in", tmp_path / "tsr", "-CAfile", authority.ca]
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert "Verification: OK" in done.stdout + done.stderr


def test_the_newest_checkpoint_is_stamped_every_so_often(desk: Desk, authority: Authority) -> None:
    with Index.open(desk.spool) as index:
        stamper = Stamper(desk.spool, authority, index)
        first = stamper.stamp_due()
        assert first is not None
        assert first.size == 1
        assert first.note_path.read_bytes() == Ledger(desk.spool.path / "ledger").note()
        when = first.token_path.stat().st_mtime
        enter(desk)
        assert stamper.stamp_due(when + 3599) is None
        second = stamper.stamp_due(when + 3601)
        assert second is not None
        assert [each.size for each in Stamps(desk.spool.path / "ledger").stamped()] == [1, 2]
        assert index.alerts_pending() == []
    assert authority.asked == 2


def test_a_clock_that_was_set_back_does_not_stop_the_stamps(desk: Desk, authority: Authority) -> None:
    stamper = Stamper(desk.spool, authority)
    first = stamper.stamp_due()
    assert first is not None
    enter(desk)
    assert stamper.stamp_due(first.token_path.stat().st_mtime - 5 * 365 * 86_400) is not None


def wrong_answers(authority: Authority) -> dict[str, bytes]:
    right = authority.stamp(b"something else")
    return {
        "of something else": right,
        "cut": right[:-1],
        "no stamp": b"<html>busy</html>",
        "nothing": b"",
        "refused": bytes.fromhex("30053003020102"),
        "too long": bytes(100_000),
    }


@pytest.mark.parametrize("what", ["of something else", "cut", "no stamp", "nothing", "refused", "too long"])
def test_a_wrong_stamp_is_refused_told_once_and_tried_again(
    desk: Desk, authority: Authority, what: str
) -> None:
    answer = wrong_answers(authority)[what]
    authority.answers += [answer, answer]
    with Index.open(desk.spool) as index:
        stamper = Stamper(desk.spool, authority, index)
        assert stamper.stamp_due(NOW_S) is None
        assert stamper.stamp_due(NOW_S + 299) is None
        assert authority.asked == 1
        assert stamper.stamp_due(NOW_S + 301) is None
        (alert,) = index.alerts_pending()
        assert alert["kind"] == "timestamp"
        assert list(Stamps(desk.spool.path / "ledger").stamped()) == []
        assert stamper.stamp_due(NOW_S + 602) is not None


def test_a_stamp_for_another_request_is_refused(desk: Desk, authority: Authority) -> None:
    """Of the right bytes, but it may be an old one: the nonce is not ours."""
    note = Ledger(desk.spool.path / "ledger").note() or b""
    authority.answers.append(authority.stamp(note))
    with pytest.raises(RemoteError, match="Nonce"):
        Stamper(desk.spool, authority).stamp_now()


@pytest.mark.parametrize("usage", ["critical,serverAuth", "timeStamping", "critical,timeStamping,serverAuth"])
def test_openssl_itself_stamps_with_no_other_certificate(tmp_path: Path, usage: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        make_authority(tmp_path / "tsa", usage=usage).stamp(b"note")


def test_the_stamp_of_a_stranger_is_refused(desk: Desk, authority: Authority, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path / "stranger")
    with pytest.raises(RemoteError):
        verify_stamp(b"note", stranger.stamp(b"note"), load_roots(authority.ca))
    authority.folder, kept = stranger.folder, authority.folder
    try:
        with Index.open(desk.spool) as index:
            stamper = Stamper(desk.spool, Settings(kept / "ca.pem", authority.url), index)
            assert stamper.stamp_due(NOW_S) is None
            assert len(index.alerts_pending()) == 1
    finally:
        authority.folder = kept


class Settings:
    """An authority as the configuration has it."""

    every_s, timeout_s = 3600.0, 60.0

    def __init__(self, ca: Path, url: str) -> None:
        self.ca, self.url = ca, url


def test_an_authority_that_is_not_there_is_an_alert(desk: Desk, authority: Authority) -> None:
    with Index.open(desk.spool) as index:
        stamper = Stamper(desk.spool, Settings(authority.ca, "http://127.0.0.1:1/"), index)
        assert stamper.stamp_due(NOW_S) is None
        (alert,) = index.alerts_pending()
        assert "refused" in alert["fields"]["error"]


def test_no_certificate_is_an_error_of_the_configuration(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "none.pem"):
        with pytest.raises(ConfigError):
            Stamper(desk.spool, Settings(tmp_path / name, "http://127.0.0.1:1/"))


def test_certificates_are_put_in_order_and_nothing_else_is_touched(authority: Authority) -> None:
    answer = authority.stamp(b"note")
    ordered = in_order(answer)
    assert len(ordered) == len(answer)
    assert sorted(ordered) == sorted(answer)
    assert in_order(ordered) == ordered
    for size in range(len(answer)):
        assert in_order(answer[:size]) == answer[:size]


# The command


def test_the_command_stamps_and_verify_checks_the_stamps(desk: Desk, authority: Authority) -> None:
    config = configured(desk, authority)
    answer = recorderctl("-c", config, "--json", "ledger", "stamp")
    assert answer.code == 0, answer.out
    assert answer.json["entries"] == 1
    enter(desk, 3)
    answer = recorderctl("-c", config, "--json", "ledger", "verify")
    assert (answer.code, answer.json["stamps"], answer.json["notes"]) == (0, 1, [])
    stamped = Stamps(desk.spool.path / "ledger").of(1)
    stamped.token_path.write_bytes(authority.stamp(b"something else"))
    answer = recorderctl("-c", config, "--json", "ledger", "verify")
    assert answer.code == 20
    assert str(stamped.token_path) in answer.json["problems"][0]
    unchecked = recorderctl("--spool", desk.spool.path, "--json", "ledger", "verify")
    assert unchecked.code == 0
    assert "--ca" in unchecked.json["notes"][0]


def test_the_outbox_stamps_what_is_due(desk: Desk, authority: Authority) -> None:
    config = load_config(configured(desk, authority))
    with stamping(config, desk.spool):
        pass  # its last round is at the end, whatever came before
    assert Stamps(desk.spool.path / "ledger").of(1).token_path.exists()
    authority.ca.rename(authority.ca.with_name("moved"))
    try:
        with pytest.raises(ConfigError), stamping(config, desk.spool):
            pass
    finally:
        authority.ca.with_name("moved").rename(authority.ca)
