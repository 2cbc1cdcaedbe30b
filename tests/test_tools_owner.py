"""Root leaves nothing in a recorder's spool that the recorder could not go on with."""

import os
from pathlib import Path

import pytest

from recorderd.spool.index import Index
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter, ledger_of
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl

OWNER = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused as root")
def test_commands_that_write_are_the_owners(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        one = desk.record()
        desk.enter(index, one)
        enter(ledger_of(desk.spool), index, [Entry("started", 1, "pbx.example")])
    (tmp_path / "nas").mkdir()
    config = tmp_path / "recorderd.yaml"
    config.write_text(
        f"spool: {{path: {desk.spool.path}}}\n"
        f"encryption: {{recipients: [{desk.identity_file}.pub]}}\n"
        f"sync: {{remotes: [{{name: nas, type: file, path: {tmp_path / 'nas'}}}]}}\n"
    )
    everything = [desk.spool.path, *desk.spool.path.rglob("*")]
    for path in everything:
        os.chown(path, OWNER, OWNER)
    before = sorted(everything)
    for words in (
        ["hold", one.recording, "--reason", "r"],
        ["hold", "--number", "1", "--future", "--reason", "r"],
        ["review", one.recording, "--done"],
        ["sync"],
        ["restore", one.recording],
        ["reindex"],
        ["ledger", "checkpoint"],
        ["retention", "apply"],
    ):
        answer = recorderctl("-c", config, *words)
        assert answer.code == 2, words
        assert f"sudo -u '#{OWNER}'" in answer.err, words
    assert sorted([desk.spool.path, *desk.spool.path.rglob("*")]) == before
    assert {path.stat().st_uid for path in before} == {OWNER}
    assert recorderctl("-c", config, "list").code == 0
