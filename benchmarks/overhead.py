"""Overhead of the engine: packs of about 20 s by `launch` on Ray, compared with the same packs by `PackRun` alone.

The bare side is one plain process per worker that trains its share of the packs in sequence, on as many threads,
without storing anything. Both times run from the start of the first pack to the end of the last, so process starts are
excluded; the launch includes its reports, its ledger and the time between packs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import interleaved, ratio, summary
from lawn_tune.executors.base import Job
from lawn_tune.executors.machine import machine_cpus
from lawn_tune.executors.messages import read_job, write_job
from lawn_tune.executors.slots import slots_of
from lawn_tune.ledger import open_ledger
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.plan import plan_all
from lawn_tune.planning.spaces import find_spaces
from trainables.tasks import PackConfig
from trainables.training.process_memory import keep_freed_memory
from trainables.training.trial import PackRun

ROOT = Path(__file__).parents[1]
SPACE = """
description = "Eight packs"
dataset = "digits"
loss = "cross-entropy"
metric = "accuracy"
[model]
name = "small-vgg"
width = 8
[seeds]
search = [0]
confirm = [1]
[[budgets]]
batch_size = 64
epochs = {epochs}
[optimizers.adam]
peak_lr = [0.01, 0.02, 0.03, 0.05]
warmup_epochs = [2]
weight_decay = [0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3]
"""
PACK = 4


def run(epochs: int = 140, workers: tuple[int, ...] = (2,), repeats: int = 3) -> dict[str, Any]:
    """Measures the grid's search packs with several numbers of workers.

    Args:
        epochs: of every trial; enough for a pack of about 20 s.
        workers: packs at once; they share the machine's cores as threads.
        repeats: of both sides, interleaved.
    """
    return {f"{count} workers": _measure(epochs, count, repeats) for count in workers}


def _measure(epochs: int, workers: int, repeats: int) -> dict[str, Any]:
    spans: dict[str, list[list[tuple[float, float]]]] = {"launch": [], "bare": []}
    sides = {"launch": partial(_launch, epochs, workers), "bare": partial(_bare, epochs, workers)}
    interleaved({name: lambda name=name: spans[name].append(sides[name]()) for name in sides}, repeats)  # type: ignore[misc]
    walls = {name: [max(e for _, e in found) - min(s for s, _ in found) for found in spans[name]] for name in spans}
    return {
        "seconds": {name: summary(values) for name, values in walls.items()},
        "pack_seconds": {name: summary([e - s for found in spans[name] for s, e in found]) for name in spans},
        "launch_over_bare": ratio(walls["launch"], walls["bare"]),
    }


def _launch(epochs: int, workers: int) -> list[tuple[float, float]]:
    """Returns start and end of every search pack, by the clocks of the workers."""
    with tempfile.TemporaryDirectory(prefix="lawn-tune-overhead-") as folder:
        space, url = _space(Path(folder), epochs), f"sqlite:///{folder}/ledger.db"
        command = [sys.executable, "-m", "lawn_tune.cli.main", "launch", str(space), "--executor", "ray", "--quiet"]
        options = [
            "--workers",
            str(workers),
            "--pack-size",
            str(PACK),
            "--storage",
            url,
            "--work-dir",
            f"{folder}/work",
        ]
        subprocess.run([*command, *options], cwd=ROOT, check=True, capture_output=True, timeout=600)
        with open_ledger(url, create=False) as ledger:
            rows = [row for row in ledger.trials(space.stem) if row.phase == "search"]
        return sorted({(_time(row.provenance["started"]), _time(row.provenance["ended"])) for row in rows})


def _time(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _bare(epochs: int, workers: int) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory(prefix="lawn-tune-overhead-") as folder:
        command = [sys.executable, "-m", "benchmarks.overhead", str(_space(Path(folder), epochs)), str(workers)]
        processes = [
            subprocess.Popen([*command, str(i)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for i in range(workers)
        ]
        return [tuple(span) for process in processes for span in json.loads(process.communicate(timeout=600)[0])]


def _space(folder: Path, epochs: int) -> Path:
    path = folder / "overhead.toml"
    path.write_text(SPACE.format(epochs=epochs))
    return path


def jobs(space: Path) -> list[Job]:
    """Returns the search packs of the space, as in a launch."""
    (cell,) = plan_all(find_spaces([str(space)]), cells=(), max_epochs=None, seeds=None)
    packs = make_packs(cell, "search", cell.search_trials, PACK)
    configs = [PackConfig(task=cell.task, members=tuple(trial for trial in pack)) for pack in packs]
    return [read_job(write_job(Job(pack=str(i), config=config))) for i, config in enumerate(configs)]


def main() -> None:
    """Trains this process's share of the packs: `overhead.py SPACE WORKERS NUMBER`."""
    space, workers, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(slots_of(workers, machine_cpus(), 0).cpus)
    keep_freed_memory()
    spans = []
    for job in jobs(space)[number::workers]:
        start = time.time()
        for _ in PackRun(job.config, data_dir=Path("data"), device=torch.device("cpu")):
            pass
        spans.append((start, time.time()))
    print(json.dumps(spans))


if __name__ == "__main__":
    main()
