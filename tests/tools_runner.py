"""Runs recorderctl inside the test's process, as its entry point would."""

import io
import json
from dataclasses import dataclass
from typing import Any

from recorderd.tools.cli import run


@dataclass
class Answer:
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error of a command that was run with --json."""
        assert self.err == ""
        error = self.json["error"]
        assert error["code"] == self.code != 0
        assert isinstance(error["hint"], str)
        return error


def recorderctl(*arguments: object) -> Answer:
    """Run one command line."""
    out, err = io.StringIO(), io.StringIO()
    code = run([str(argument) for argument in arguments], out, err)
    return Answer(code, out.getvalue(), err.getvalue())
