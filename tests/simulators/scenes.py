"""Scripts of many calls at once."""

from typing import Literal

import numpy as np

from tests.simulators.script import CallScript, SideName


def mixed_calls(
    count: int,
    *,
    seed: int,
    talk_s: float = 60.0,
    codec: Literal["pcmu", "pcma", "opus"] = "pcmu",
    spread_s: float = 5.0,
) -> list[CallScript]:
    """Calls that start within ``spread_s`` of each other, with media beginning on either side first, before
    or after the answer, and early media from neither, one or both ends; who hangs up varies too.
    """
    rng = np.random.default_rng(seed)
    choices: list[frozenset[SideName]] = [
        frozenset(), frozenset(), frozenset({"callee"}), frozenset({"caller"}), frozenset({"caller",
        "callee"}),
    ]  # fmt: skip
    return [
        CallScript(
            caller=str(1000 + number),
            callee=str(7000 + number),
            start_s=float(rng.uniform(0, spread_s)),
            ring_s=float(rng.uniform(0.5, 1.5)),
            talk_s=talk_s,
            codec=codec,
            early=choices[int(rng.integers(len(choices)))],
            caller_media_s=float(rng.uniform(-0.3, 0.3)),
            callee_media_s=float(rng.uniform(-0.3, 0.3)),
            hangup_by="caller" if rng.random() < 0.5 else "callee",
        )
        for number in range(count)
    ]
