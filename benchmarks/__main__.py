"""Runs benchmarks by name, all by default."""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import machine
from lawn_tune.launching.commit import commit
from trainables.optimizers import build_kernels

RESULTS = Path(__file__).parent / "results"
NAMES = (
    "startup",
    "optimizer_step",
    "decoding",
    "growth",
    "profile",
    "image_steps",
    "ledger",
    "overhead",
    "dashboard",
    "scaling",
    "coverage",
    "allocator",
    "packs",
    "epochs",
    "throughput",
    "few_points",
)
"""Modules that `python -m benchmarks` runs; each is imported when it is its turn, as gpu needs torch alone."""
ON_REQUEST = ("gpu",)
OF_DATA = ("allocator", "packs", "epochs", "throughput", "few_points")
"""Those that read data sets."""


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
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="of benchmark gpu; cpu tries its code at small sizes, prints the results and keeps none",
    )
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # commands run from bytecode, as from an installed wheel
    if unknown := set(options.names) - {*NAMES, *ON_REQUEST}:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; known: {', '.join(NAMES + ON_REQUEST)}")
    if "gpu" in options.names and options.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"benchmark gpu needs a CUDA device, and torch {torch.__version__} sees none")
    RESULTS.mkdir(exist_ok=True)
    build_kernels()
    for name in options.names or NAMES:
        print(f"{name} …", flush=True)
        where = machine()
        today = datetime.now(UTC).date().isoformat()
        content = {"benchmark": name, "date": today, "commit": commit(), "machine": where}
        content["results"] = _run(name, options)
        text = json.dumps(content, indent=2)
        if name != "gpu" or options.device == "cuda":
            (RESULTS / f"{name}.json").write_text(text + "\n")
        print(text)


def _run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    benchmark = import_module(f"benchmarks.{name}")
    results: dict[str, Any]
    if name == "gpu":
        sizes = benchmark.TRIAL if options.device == "cpu" else None
        results = benchmark.run(options.minutes, options.device, sizes)
    else:
        results = benchmark.run(options.data_dir) if name in OF_DATA else benchmark.run()
    return results


if __name__ == "__main__":
    main()
