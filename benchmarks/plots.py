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
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parents[1] / "docs" / "performance"
COLORS = {"ncf-8": "#3b82c4", "ncf-64": "#d55e00"}
LABELS = {"ncf-8": "NCF, 8 factors", "ncf-64": "NCF, 64 factors"}


def main() -> None:
    """Draws every figure that has results."""
    PAGES.mkdir(exist_ok=True)
    for name, draw in {"growth": growth, "ledger": ledger, "scaling": scaling, "coverage": power}.items():
        if (path := RESULTS / f"{name}.json").exists():
            draw(json.loads(path.read_text())["results"])


def growth(results: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> None:
    """Milliseconds per step and model, and peak memory where measured, against K and batch size."""
    values = {
        "seconds_per_trial_step": ("ms per step and model", 1e3),
        "peak_memory_bytes": ("peak memory, MiB", 2**-20),
    }
    shown = {name: unit for name, unit in values.items() if name in next(iter(results.values()))["pack_size"][0]}
    figure, axes = plt.subplots(len(shown), 2, figsize=(9, 3.2 * len(shown)), layout="constrained", squeeze=False)
    for column, (kind, key, title) in enumerate(
        (("pack_size", "K", "models in a pack, K (batch 1000)"), ("batch_size", "batch_size", "batch size (K = 1)"))
    ):
        for axis, (value, (unit, scale)) in zip(axes[:, column], shown.items(), strict=True):
            for model, curves in results.items():
                x, y = ([point[name] for point in curves[kind]] for name in (key, value))
                axis.plot(x, [scale * number for number in y], "o-", color=COLORS[model], label=LABELS[model])
            _log(axis, title, unit if column == 0 else "")
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


def power(results: Mapping[str, Any]) -> None:
    """Share of repeats in which a difference is found, against the difference."""
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for seeds, shares in results["power"].items():
        axis.plot(results["effects"], shares, "o-", label=f"{seeds} seeds")
    axis.set(xlabel="true difference, points", ylabel="found, % of repeats", ylim=(0, 102))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    _save(figure, "power")


def scaling(results: Mapping[str, Any]) -> None:
    """Hours of the paper's study against GPUs; CPU of the driver against GPUs."""
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    shown = {("whole paper", None): "o-", ("without ImageNet", None): "s-", ("without ImageNet", 1): "s--"}
    for (name, size), style in shown.items():
        line = [one for one in results["schedules"] if (one["plan"], one["pack_size"]) == (name, size)]
        x, y, lower = ([one[key] for one in line] for key in ("workers", "makespan_hours", "longest_chain_hours"))
        (drawn,) = axis.plot(x, y, style, label=name + (", packs of 1" if size else ""))
        axis.plot(x, lower, ":", color=drawn.get_color(), linewidth=1)
    _log(axis, "simulated GPUs (dotted: the longest chain)", "hours")
    _label(axis.xaxis, x)
    _label(axis.yaxis, (3, 10, 30, 100, 300, 1000))
    axis.legend(frameon=False, fontsize=8)
    _save(figure, "scaling-makespan")
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for name, style in (("sqlite", "o-"), ("postgresql", "s-")):
        line = [one for one in results["dense"] if one["database"] == name]
        axis.plot([one["workers"] for one in line], [100 * one["cpu_share"] for one in line], style, label=name)
    axis.axhline(100, color="gray", linewidth=1, linestyle=":")
    _log(axis, "simulated GPUs, busiest part of the study", "driver, % of one core")
    axis.set_yscale("linear")
    axis.set_ylim(bottom=0)
    _label(axis.xaxis, [one["workers"] for one in line])
    axis.legend(frameon=False, fontsize=8)
    _save(figure, "scaling-driver")


def _label(axis: Axis, values: Sequence[float]) -> None:
    """Labels a logarithmic axis at these values only."""
    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _log(axis: Axes, x: str, y: str) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, name: str) -> None:
    with plt.rc_context({"svg.hashsalt": name}):  # the same ids, and so the same file, from the same numbers
        figure.savefig(PAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
