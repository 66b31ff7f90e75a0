"""Writes `docs/performance.md` from `benchmarks/results/*.json`: `python -m benchmarks.page`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import gpu_page
from benchmarks.markdown import ratio_text, table

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
TEXT = Path(__file__).with_name("performance.md.in")

GOALS: Mapping[str, Mapping[str, float]] = {
    "movielens-100k ncf-8 batch 1000": {"typical": 15, "expert": 2},
    "movielens-100k ncf-64 batch 100000": {"typical": 10, "expert": 2},
    "movielens-100k ncf-64 batch 1000": {"typical": 2.5, "expert": 1},
    "digits quickstart": {"typical": 3},
}
"""Goals for the ratios, set before any measurement."""


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page())


def page() -> str:
    """Returns the page for the committed results."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    results = {name: content["results"] for name, content in found.items()}
    parts = {
        "machine": machine_text(found["throughput"]["machine"]),
        "throughput": throughput(results["throughput"]),
        "few_points": few_points(results["few_points"]),
        "epochs": epochs(results["epochs"]),
        "packs": packs(results["growth"]),
        "image_steps": image_steps(results["image_steps"]),
        "optimizer_step": optimizer_step(results["optimizer_step"]),
        "decoding": decoding(results["decoding"]),
        "growth": growth(results["growth"]),
        "profile": profile(results["profile"]),
        "gpu": gpu_page.section(found.get("gpu")),
        "startup": _seconds(results["startup"]),
        "allocator": ratio_text(results["allocator"]["ratio"]),
        "overhead": overhead(results["overhead"]),
        "ledger": ledger(results["ledger"]),
        "against_optuna": against_optuna(results["ledger"]),
        "dashboard": _seconds(results["dashboard"], "view of 10,000 trials"),
    }
    parts |= {f"date of {name}": f"Measured on {content['date']}." for name, content in found.items()}
    text = TEXT.read_text()
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def throughput(results: Mapping[str, Any]) -> str:
    """One row per case and alternative: ratio of trial epochs per second, its goal, and ratio of whole commands."""
    rows = []
    for case, found in results.items():
        for rival, ratio in found["ratio_throughput"].items():
            goal, wall = GOALS[case].get(rival), found["ratio_wall"][rival]
            rows.append((case, rival, ratio_text(ratio), "" if goal is None else f"{goal:g}", ratio_text(wall)))
    return table(
        ("case", "alternative", "throughput, ours / alternative", "goal", "whole command, alternative / ours"), rows
    )


def few_points(results: Mapping[str, Any]) -> str:
    """One row per case and alternative: seconds of whole commands and their ratio, also without our confirmation."""
    rows = []
    for case, found in results.items():
        seconds = {side: f"{values['median']:.0f}" for side, values in found["wall_seconds"].items()}
        for rival, whole in found["ratio_wall"].items():
            alone = found["ratio_wall_without_confirmation"][rival]
            rows.append((case, rival, seconds[rival], seconds["lawn_tune"], ratio_text(whole), ratio_text(alone)))
    return table(("grid", "alternative", "its s", "our s", "its / ours", "its / ours without our confirmation"), rows)


def epochs(results: Mapping[str, Any]) -> str:
    """One row per case: CPU seconds of a trial's epoch on both sides, and their ratio."""
    rows = [
        (
            case,
            str(found["K"]),
            *(f"{found['cpu_seconds'][side]['median']:.3f}" for side in ("lawn_tune", "expert")),
            ratio_text(found["expert_over_ours"]),
        )
        for case, found in results.items()
    ]
    return table(("case", "K", "ours, CPU s", "*expert*, CPU s", "*expert* / ours"), rows)


def packs(results: Mapping[str, Any]) -> str:
    """Two rows per model: throughput of K stacked models relative to one, and peak memory."""
    rows = []
    for model, curves in results.items():
        points = curves["pack_size"]
        seconds = [point["seconds_per_trial_step"] for point in points]
        rows.append((f"{model}, batch 1000: relative to K = 1", *(f"{seconds[0] / each:.2f}" for each in seconds)))
        rows.append(("peak memory, MiB", *(f"{point['peak_memory_bytes'] / 2**20:.0f}" for point in points)))
    sizes = [point["K"] for point in next(iter(results.values()))["pack_size"]]
    return table(("cell", *(f"K = {size}" for size in sizes)), rows)


def profile(results: Mapping[str, Any]) -> str:
    """One row per case: milliseconds per step, and the share of each group of operations."""
    names = list(next(iter(results.values()))["shares"])
    rows = [
        (case, f"{1e3 * found['seconds_per_step']:.1f}", *(f"{100 * found['shares'][name]:.0f} %" for name in names))
        for case, found in results.items()
    ]
    return table(("step of", "ms", *names), rows)


def image_steps(results: Mapping[str, Any]) -> str:
    """One row per model: CPU seconds of a step on both sides, and their ratio."""
    rows = [
        (
            name,
            *(f"{found['cpu_seconds'][side]['median']:.2f}" for side in ("pack", "plain loop")),
            ratio_text(found["pack_over_loop"]),
        )
        for name, found in results.items()
    ]
    return table(("a step of", "pack of one, CPU s", "plain loop, CPU s", "pack / plain loop"), rows)


def optimizer_step(results: Mapping[str, Any]) -> str:
    """One row per optimizer: time of a step, relative to fused AdamW."""
    rows = [
        (name, f"{1e3 * results['seconds'][name]['median']:.1f}", ratio_text(ratio))
        for name, ratio in results["ratio_to_fused"].items()
    ]
    rows.insert(0, ("AdamW fused", f"{1e3 * results['seconds']['AdamW fused']['median']:.1f}", "1"))
    return table(("step", "ms", "relative to fused AdamW"), rows)


def decoding(results: Mapping[str, Any]) -> str:
    """One row per way: images a second, and those of lawn_tune relative to it."""
    rows = [
        (name, f"{speed:.0f}", ratio_text(results["ratio"][name]) if name in results["ratio"] else "1")
        for name, speed in results["images_per_second"].items()
    ]
    return table(("decoded by", "images a second and core", "ours / its"), rows)


def growth(results: Mapping[str, Any]) -> str:
    """One row per model and batch size: milliseconds per step, share of the core's peak FLOP/s, peak memory."""
    rows = [
        (
            model,
            f"{point['batch_size']:,}",
            f"{1e3 * point['seconds_per_trial_step']:.2f}",
            f"{100 * point['share_of_peak_flops']:.0f} %",
            f"{point['peak_memory_bytes'] / 2**20:.0f}",
        )
        for model, curves in results.items()
        for point in curves["batch_size"]
    ]
    return table(
        ("model, K = 1", "batch size", "ms per step", "share of one core's peak FLOP/s", "peak memory, MiB"), rows
    )


def overhead(results: Mapping[str, Any]) -> str:
    """One row per number of workers: seconds per pack, and wall time of the launch relative to `PackRun` alone."""
    rows = [
        (name, f"{found['pack_seconds']['bare']['median']:.1f}", ratio_text(found["launch_over_bare"]))
        for name, found in results.items()
    ]
    return table(("eight packs on", "seconds per pack", "launch / `PackRun` alone"), rows)


def ledger(results: Mapping[str, Any]) -> str:
    """One row per size: seconds of whole commands, and the size of the database."""
    rows = [
        (
            f"{found['trials']:,} x {found['epochs']}",
            *(f"{found['commands'][name]['median']:.2f}" for name in ("compare", "status", "export")),
            f"{found['bytes']['ours'] / 2**20:.1f}",
        )
        for found in results.values()
    ]
    return table(("trials x epochs", "`compare`, s", "`status`, s", "`export`, s", "database, MiB"), rows)


def against_optuna(results: Mapping[str, Any]) -> str:
    """One row per size: time of Optuna's loading relative to our reading of the same trials."""
    rows = []
    for found in results.values():
        reads = found["reads"]
        ratios = [
            ratio_text(reads[kind]["optuna_over_lawn_tune"]["lawn_tune"]) if kind in reads else "not run"
            for kind in ("thinned", "whole")
        ]
        seconds = f"{reads['thinned']['seconds']['optuna']['median']:.1f}"
        rows.append((f"{found['trials']:,}", seconds, *ratios))
    heads = (
        "trials",
        "Optuna, 20 values per trial, s",
        "Optuna / ours, 20 values per trial",
        "Optuna / ours, whole curves",
    )
    return table(heads, rows)


def _seconds(results: Mapping[str, Mapping[str, float]], what: str = "command") -> str:
    rows = [
        (name, f"{found['median']:.2f}", f"{found['min']:.2f} to {found['max']:.2f}", str(found["n"]))
        for name, found in results.items()
    ]
    return table((what, "seconds", "min to max", "n"), rows)


def machine_text(machine: Mapping[str, Any]) -> str:
    """Returns the machine of a measurement."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    return f"{machine['cores']} cores of an {machine['cpu']}, Python {machine['python']}, {libraries}"


if __name__ == "__main__":
    main()
