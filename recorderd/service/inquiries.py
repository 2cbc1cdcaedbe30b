"""Commands that were passed on to several workers, and the one answer that theirs make."""

from typing import Any, Final

from recorderd.service.control import Asked

MAX_OPEN: Final = 64
"""Commands without all their answers that are remembered; who asked stops waiting by itself."""


class Inquiries:
    """The open commands by number."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Asked, int, list[dict[str, Any]]]] = {}
        self._next = 0

    def begin(self, asked: Asked, workers: int) -> int:
        """So many workers are being asked; the number that goes with their answers."""
        self._next += 1
        if workers:
            self._open[self._next] = asked, workers, []
        else:
            asked.reply({"error": "no worker is recording"})
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]
        return self._next

    def heard(self, told: list[dict[str, Any]]) -> None:
        """Take what workers answered out of ``told``."""
        while told:
            said = told.pop(0)
            known = self._open.get(said["number"])
            if known is None:
                continue
            asked, workers, answers = known
            answers.append(said["answer"])
            if len(answers) == workers:
                del self._open[said["number"]]
                asked.reply(_one(answers))


def _one(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Every worker knows of every call, and the one that records it says so."""
    calls: dict[str, dict[str, Any]] = {}
    for answer in answers:
        for call in answer.get("calls", []):
            if call["recording"] or call["call_id"] not in calls:
                calls[call["call_id"]] = call
    return {"calls": list(calls.values())} if calls else answers[0]
