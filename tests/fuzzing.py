"""How many inputs a property test tries, where it is not the usual number."""

from hypothesis import settings

EXAMPLES = 100
"""The usual number; `--fuzz` tries `FUZZ_TIMES` as many of all."""

FUZZ_TIMES = 100


def inputs(count: int) -> settings:
    """So many examples, and with ``--fuzz`` so many times more."""
    return settings(max_examples=count * settings.default.max_examples // EXAMPLES, deadline=None)
