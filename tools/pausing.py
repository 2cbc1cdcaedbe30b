"""What `recorderctl pause` and `recorderctl resume` have in common."""

from typing import Any

from recorderd.errors import NoSuchRecording, SpoolError
from recorderd.service.control import ask
from recorderd.tools.command import Session


def obey(session: Session, command: str, target: str, **more: Any) -> int:
    """Have the daemon do it, and tell what it did. Raises SpoolError where no daemon answers,
    NoSuchRecording where it records no such call.
    """
    path = session.spool_path / "control.sock" if session.spool_path else session.config.control_socket
    answer = ask(path, command, target=target, **more)
    if answer is None:
        raise SpoolError(f"no recorder answers at {path}")
    if "error" in answer:
        raise NoSuchRecording(str(answer["error"]))
    if session.json:
        session.emit(answer)
        return 0
    for call in answer["calls"]:
        state = "paused" if call["paused"] else "recording"
        session.say(f"{call['recording'] or 'not begun yet'}  call {call['call_id']}: {state}")
    return 0
