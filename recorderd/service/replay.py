"""`recorderd replay`: capture files through the production path, at full speed."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from recorderd.capture.files import open_capture
from recorderd.errors import CaptureFileError
from recorderd.service.engine import Engine
from recorderd.wire.frames import Frames


def replay(files: Iterable[Path], engine: Engine) -> list[CaptureFileError]:
    """Feed the files, one after the other as one capture, and close what is open at the end.

    Damaged files are recorded up to the damage; the errors are returned.
    """
    damaged: list[CaptureFileError] = []
    for file in files:
        try:
            for frames in _timed(open_capture(file), engine):
                engine.feed(frames)
                if len(frames) and not frames.unfinished:
                    engine.advance(int(frames.time_ns.max()))
        except CaptureFileError as error:
            damaged.append(error)
        except KeyboardInterrupt:
            engine.finish("replay interrupted")
            raise
    engine.finish("capture ended")
    return damaged


def _timed(batches: Iterator[Frames], engine: Engine) -> Iterator[Frames]:
    """The same batches; what reading them takes is counted."""
    while True:
        with engine.stages["capture"]:
            frames = next(batches, None)
        if frames is None:
            return
        yield frames
