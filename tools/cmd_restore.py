"""`recorderctl restore`: bring recordings back from a remote, each checked against its signed manifest.

Exit code 0 when all that was asked for is here, 30 when a remote does not give it back.
"""

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from recorderd.errors import NoSuchRecording, RecorderError, RemoteError, SpoolCorrupt, UsageError
from recorderd.spool.bring_back import Told
from recorderd.spool.bring_ledger import bring_ledger
from recorderd.spool.budget import Limits
from recorderd.spool.durable import write_file
from recorderd.spool.evidence import HERE, Damage, Witness
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool, is_recording_id
from recorderd.spool.ledger_keeping import learn, ledger_of
from recorderd.spool.rebuild import open_for_writing
from recorderd.spool.reindex import Reindexed, take_ledger
from recorderd.spool.restoration import Restored, Restorer, fetch_host_public, ids_on
from recorderd.spool.signing import HOST_PUBLIC_NAME, HostPublic, find_host_public
from recorderd.spool.stores import Retrying, Store, open_store
from recorderd.tools.cli import error_json
from recorderd.tools.command import Session, as_owner, user
from recorderd.tools.terminal import Advance
from recorderd.tools.texts import since_until, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="recordings to bring back")
    parser.add_argument(
        "--all", action="store_true", help="everything that the remote has and this spool lacks"
    )
    parser.add_argument("--since", metavar="TIME", help="what began from this time on (UTC)")
    parser.add_argument("--until", metavar="TIME", help="what began before this time (UTC)")
    parser.add_argument(
        "--from", dest="remote", metavar="REMOTE", help="only from this remote; else from any"
    )
    parser.add_argument(
        "--into", type=Path, metavar="DIR", help="into a spool of its own instead of this one"
    )
    parser.add_argument(
        "--manifests", action="store_true", help="only manifests and key slots: enough for list and show"
    )
    parser.add_argument(
        "--host-key",
        type=Path,
        metavar="FILE",
        help="the recorder's host.pub from a place that can be trusted",
    )


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Restore; returns 0 or 30."""
    chosen = bool(arguments.all or arguments.since or arguments.until)
    if bool(arguments.ids) == chosen:
        raise UsageError("restore: give recording ids, or --all, --since, --until")
    stores = _stores(session, arguments.remote)
    own = Spool(session.spool_path or session.config.spool.path)
    spool = own if arguments.into is None else Spool(arguments.into)
    as_owner(spool)
    if session.config.ledger.enabled:
        as_owner(own)
    spool.prepare()
    public = _host_key(session, spool, own, stores, arguments.host_key)
    index, problems = open_for_writing(spool, public)
    session.warn(problems)
    with contextlib.ExitStack() as stack:
        stack.enter_context(index)
        wanted = session.config.ledger.enabled and (arguments.all or spool is own)
        brought = _ledger(session, spool, index, stores, public) if wanted else False
        restorer = Restorer(
            spool,
            index,
            stores,
            public,
            ledger_of(own) if session.config.ledger.enabled and own.path.is_dir() else None,
            # On another disk nobody records.
            session.config.spool.budget.limits if spool is own else Limits(reserve_bytes=0),
            user(),
            None if arguments.into is None else str(arguments.into),
            stack.enter_context(Index.read(own)) if spool is not own and own.index_path.exists() else None,
        )
        ids = _asked(arguments, restorer.own or index) if arguments.ids else _listed(arguments, stores)
        done: list[Restored] = []
        with session.progress("restoring", unit_bytes=True) as advance:

            def told(recording_id: str) -> Told:
                return _bar(advance, recording_id)

            thoroughly, manifests = bool(arguments.ids), arguments.manifests
            for each in restorer.restore(ids, thoroughly=thoroughly, manifests_only=manifests, told=told):
                done.append(each)
                if each.damage is not None:
                    damage = Damage(f"{each.id}.rec", "damaged", each.damage)
                    now_ns = time.time_ns()
                    Witness(spool, index, HERE).note(damage, each.id, now_ns, "local-damage", restored=True)
        if brought:
            entered = Reindexed()
            take_ledger(spool, index, entered)
            session.warn(entered.problems)
    return _tell(session, done)


def _ledger(
    session: Session, spool: Spool, index: Index, stores: dict[str, Store], public: HostPublic
) -> bool:
    """Bring the ledger, where this spool has none; whether it came."""
    for name, store in stores.items():
        try:
            size = bring_ledger(store, spool, public)
        except (RemoteError, SpoolCorrupt) as error:
            session.warn([f"{name}: {error}"])
            continue
        if size is not None:
            learn(ledger_of(spool), index)
            session.warn([f"the ledger has {size} entries, as {name} has it"])
            return True
    return False


def _stores(session: Session, only: str | None) -> dict[str, Store]:
    remotes = session.config.sync.remotes
    stores: dict[str, Store] = {each.name: Retrying(open_store(each)) for each in remotes}
    if not stores:
        raise UsageError("restore: the configuration has no sync.remotes")
    if only is not None and only not in stores:
        raise UsageError(f"restore: no remote is named {only!r}")
    return stores if only is None else {only: stores[only]}


def _host_key(
    session: Session, spool: Spool, own: Spool, stores: dict[str, Store], trusted: Path | None
) -> HostPublic:
    """The key that manifests must be signed with: one that was given, else this recorder's, else the
    remote's."""
    if trusted is not None:
        public = HostPublic.load(trusted)
        if not spool.host_public_path.exists():
            write_file(spool.host_public_path, trusted.read_bytes(), mode=0o644)
        return public
    public_here = find_host_public(spool) or find_host_public(own)
    if public_here is not None:
        if not spool.host_public_path.exists() and own.host_public_path.exists():
            write_file(spool.host_public_path, own.host_public_path.read_bytes(), mode=0o644)
        return public_here
    if spool is own and not session.config.signing_key.exists():
        session.warn(
            [
                f"{session.config.signing_key}: the recorder's key is not here; put its backup there before"
                f" the recorder is started, or restore with --into and leave this folder to a new recorder"
            ]
        )
    found = fetch_host_public(stores, spool.host_public_path)
    session.warn(
        [f"{HOST_PUBLIC_NAME} is the remote's ({found.id.hex()}); --host-key names one to be trusted"]
    )
    return found


def _asked(arguments: argparse.Namespace, index: Index) -> list[str]:
    """The ids that were given, whole or their first letters."""
    found: list[str] = []
    for text in arguments.ids:
        like = [text] if is_recording_id(text) else index.ids_like(text)
        if len(like) != 1:
            raise NoSuchRecording(f"{text[:80]!r} is no recording here; of others the whole id is needed")
        found += like
    return found


def _listed(arguments: argparse.Namespace, stores: dict[str, Store]) -> Iterator[str]:
    """What the remotes have, each once."""
    since, until = (None if time is None else _as_id(time) for time in since_until(arguments))
    seen: set[str] = set()
    problems = []
    for name, store in stores.items():
        try:
            for each in ids_on(store, since or "", until):
                if each not in seen:
                    seen.add(each)
                    yield each
        except RemoteError as error:
            problems.append(f"{name}: {error}")
    if problems and len(problems) == len(stores):
        raise RemoteError("; ".join(problems))


def _as_id(time: str) -> str:
    """A time as the first letters of the ids of then, to the second."""
    digits = "".join(char for char in time[:19] if char.isdigit()).ljust(14, "0")
    return f"{digits[:8]}T{digits[8:14]}Z"


def _bar(advance: Advance, recording_id: str) -> Told:
    return lambda done: advance(done, description=recording_id)


def _tell(session: Session, done: list[Restored]) -> int:
    failed = [each for each in done if each.became == "failed"]
    brought = [each for each in done if each.became == "restored"]
    failure: RecorderError | None = None
    if failed:
        first = failed[0]
        others = f" (and {len(failed) - 1} others)" if len(failed) > 1 else ""
        failure = RemoteError(f"{first.id}: {first.error}{others}")
    if session.json:
        answer = {"ok": not failed, "recordings": [asdict(each) for each in done]}
        session.emit(answer if failure is None else {**answer, "error": error_json(failure)})
        return 0 if failure is None else failure.exit_code
    for each in done:
        if len(done) <= 20 or each.became in ("failed", "destroyed"):
            place = f" from {each.remote}" if each.remote else ""
            session.say(f"{each.id}  {each.became}{place}{': ' + each.error if each.error else ''}")
        if each.damage is not None:
            kept = each.damage["kept"]
            session.say(f"{each.id}  what was here was damaged{f'; kept as {kept}' if kept else ''}")
    here = sum(each.became == "here" for each in done)
    total = size(sum(each.bytes for each in brought))
    session.say(f"{len(brought)} restored ({total}), {here} were here, {len(failed)} failed")
    return 0 if failure is None else failure.exit_code
