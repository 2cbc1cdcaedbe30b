"""Draws what a call costs against how many there are: flat where nothing grows with their number."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(points: list[tuple[float, float]], path: Path) -> None:
    """Write a PNG of (calls, CPU milliseconds a call)."""
    figure, axes = plt.subplots(figsize=(7, 4), dpi=120)
    axes.plot([calls for calls, _ in points], [cost for _, cost in points], marker="o")
    for calls, cost in points:
        axes.annotate(f"{cost:.1f}", (calls, cost), textcoords="offset points", xytext=(0, 8), ha="center")
    axes.set_xscale("log")
    axes.set_xticks([calls for calls, _ in points], [f"{calls:.0f}" for calls, _ in points])
    axes.minorticks_off()
    axes.set_ylim(0, max(cost for _, cost in points) * 1.25)
    axes.set_xlabel("calls at once")
    axes.set_ylabel("CPU milliseconds a call (start-up taken off)")
    axes.set_title("Cost of recording a call of 60 s, G.711")
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path)


def main(arguments: list[str]) -> int:
    """``[[calls, milliseconds], ...] FILE``."""
    points, path = arguments
    draw([(calls, cost) for calls, cost in json.loads(points)], Path(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
