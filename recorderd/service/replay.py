"""`recorderd replay`: capture files through the production path, at full speed."""

from collections.abc import Iterable
from pathlib import Path

from recorderd.capture.files import open_capture
from recorderd.errors import CaptureFileError
from recorderd.service.engine import Engine


def replay(files: Iterable[Path], engine: Engine) -> list[CaptureFileError]:
    """Feed the files, one after the other as one capture, and close what is open at the end.

    Damaged files are recorded up to the damage; the errors are returned.
    """
    damaged: list[CaptureFileError] = []
    for file in files:
        try:
            for frames in open_capture(file):
                engine.feed(frames)
                if len(frames):
                    engine.advance(int(frames.time_ns.max()))
        except CaptureFileError as error:
            damaged.append(error)
        except KeyboardInterrupt:
            engine.finish("replay interrupted")
            raise
    engine.finish("capture ended")
    return damaged
