"""Draws `docs/performance/*.svg` from `benchmarks/results/*.json`: `python -m benchmarks.plots`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parents[1] / "docs" / "performance"
COLOURS = {"ncf-8": "#3b82c4", "ncf-64": "#d55e00"}
LABELS = {"ncf-8": "NCF, 8 factors", "ncf-64": "NCF, 64 factors"}


def main() -> None:
    """Draws every figure whose results are there."""
    PAGES.mkdir(exist_ok=True)
    for name, draw in {"growth": growth, "ledger": ledger}.items():
        if (path := RESULTS / f"{name}.json").exists():
            draw(json.loads(path.read_text())["results"])


def growth(results: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> None:
    """Seconds a trial step and peak memory against K and against the batch size."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for model, curves in results.items():
        for column, (kind, key) in enumerate((("pack_size", "K"), ("batch_size", "batch_size"))):
            x = [point[key] for point in curves[kind]]
            for row, (value, scale) in enumerate((("seconds_per_trial_step", 1e3), ("peak_memory_bytes", 2**-20))):
                y = [point[value] * scale for point in curves[kind]]
                axes[row, column].plot(x, y, "o-", color=COLOURS[model], label=LABELS[model])
    for column, title in enumerate(("models in a pack, K (batch 1000)", "batch size (K = 1)")):
        for row, unit in enumerate(("ms a step and model", "peak memory of the process, MiB")):
            _log(axes[row, column], title if row else "", unit if column == 0 else "")
    axes[0, 0].legend(frameon=False)
    _save(figure, "growth")


def ledger(results: Mapping[str, Any]) -> None:
    """Seconds of whole commands and of reads against the number of trials, ours and Optuna's."""
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    sizes = [found["trials"] for found in results.values()]
    for name in ("compare", "status", "export"):
        axis.plot(
            sizes, [found["commands"][name]["median"] for found in results.values()], "o-", label=f"lawn-tune {name}"
        )
    reads = [found["reads"]["thinned"]["seconds"] for found in results.values()]
    for name, style in (("lawn_tune", "o--"), ("optuna", "s--")):
        axis.plot(sizes, [read[name]["median"] for read in reads], style, label=f"reading all trials, {name}")
    _log(axis, "trials in the ledger, 300 epochs each", "seconds")
    axis.legend(frameon=False, fontsize=8)
    _save(figure, "ledger")


def _log(axis: Axes, x: str, y: str) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, name: str) -> None:
    figure.savefig(PAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
