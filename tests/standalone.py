"""The stand-alone verifier as a module; it is in no package."""

import importlib.util
from pathlib import Path

SAMPLED = 7
"""One in so many damages is given to it, unless it gets all with ``--thorough``: every bit has its turn."""

SOURCE = Path(__file__).parent.parent / "tools/verifier/recorderd_verify.py"
_spec = importlib.util.spec_from_file_location("recorderd_verify", SOURCE)
assert _spec is not None
assert _spec.loader is not None
alone = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(alone)
