"""Runs benchmarks by name, all by default."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    allocator,
    coverage,
    dashboard,
    gpu,
    growth,
    ledger,
    optimizer_step,
    overhead,
    packs,
    profile,
    scaling,
    startup,
    throughput,
)
from benchmarks.measure import machine
from trainables.optimizers import build_kernels

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Writes one JSON file per benchmark, with the machine it ran on."""
    parser = argparse.ArgumentParser(description="Measure lawn_tune; results go to benchmarks/results/NAME.json.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="benchmark to run, all but gpu by default; an unknown name lists them",
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="folder of the datasets; missing ones are skipped"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="time of benchmark gpu, 8 by default")
    options = parser.parse_args()
    benchmarks: dict[str, Callable[[], dict[str, Any]]] = {
        "startup": startup.run,
        "optimizer_step": optimizer_step.run,
        "growth": growth.run,
        "profile": profile.run,
        "ledger": ledger.run,
        "overhead": overhead.run,
        "dashboard": dashboard.run,
        "scaling": scaling.run,
        "coverage": coverage.run,
        "allocator": lambda: allocator.run(options.data_dir),
        "packs": lambda: packs.run(options.data_dir),
        "throughput": lambda: throughput.run(options.data_dir),
    }
    on_request: dict[str, Callable[[], dict[str, Any]]] = {"gpu": lambda: gpu.run(options.minutes)}
    known = benchmarks | on_request
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    if "gpu" in options.names and not torch.cuda.is_available():
        parser.error(f"benchmark gpu needs a CUDA device, and torch {torch.__version__} sees none")
    RESULTS.mkdir(exist_ok=True)
    build_kernels()
    for name in options.names or benchmarks:
        print(f"{name} …", flush=True)
        where = machine()
        content = {"benchmark": name, "date": datetime.now(UTC).date().isoformat(), "machine": where}
        content["results"] = known[name]()
        text = json.dumps(content, indent=2)
        (RESULTS / f"{name}.json").write_text(text + "\n")
        print(text)


if __name__ == "__main__":
    main()
