"""Throughput of whole grids by Ray Tune and Optuna, as their users write them, and by lawn_tune.

Every side trains the same points for the same epochs on the same splits, evaluates validation and test after each
epoch, and has two workers with one thread each. A repeat runs each side once, in a new process and an empty folder.
Measured:

- throughput, the main result: trial epochs per second, from the start of the first trial's training to the end of the
  last. Processes that an alternative starts between trials are included; the start of Ray is not, on any side.
- wall time of the whole command: with imports, Ray's start and, for lawn_tune only, the confirmation of each cell's
  winner, an additional trial that a space requires; the time of that trial is recorded too.

With few epochs per trial, starting an actor weighs more than in a long search. So the seconds of a worker inside
trials, per trial epoch, are recorded as well: without process starts, but with reading the data in each new process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.measure import ratio, summary
from benchmarks.rivals.case import WORKERS, Case, Span, read_spans
from trainables.data import check

ROOT = Path(__file__).parents[1]
RIVALS: Mapping[str, tuple[str, ...]] = {
    "typical": ("benchmarks.rivals.tuning", "typical"),
    "expert": ("benchmarks.rivals.tuning", "expert"),
    "optuna": ("benchmarks.rivals.optuna_processes",),
}
OURS = "lawn_tune"
CLI = "lawn_tune.cli.main"
METRIC = {"movielens-100k": "hr@10", "digits": "accuracy"}
MEASURED = ("train_loss", "validation", "test")

CASES: Mapping[str, Case] = {
    "movielens-100k ncf-8 batch 1000": Case(
        dataset="movielens-100k",
        size=8,
        epochs=2,
        batch_size=(1000,),
        peak_lr=(0.003, 0.01, 0.03, 0.1),
        warmup_epochs=(0.5, 1.0),
        weight_decay=(0.1, 0.3, 0.5),
    ),
    "movielens-100k ncf-64 batch 100000": Case(
        dataset="movielens-100k",
        size=64,
        epochs=2,
        batch_size=(100_000,),
        peak_lr=(0.01, 0.03),
        warmup_epochs=(0.5, 1.0),
        weight_decay=(0.1, 0.5),
    ),
    "movielens-100k ncf-64 batch 1000": Case(
        dataset="movielens-100k",
        size=64,
        epochs=1,
        batch_size=(1000,),
        peak_lr=(0.003, 0.01, 0.03, 0.1),
        warmup_epochs=(0.25, 0.5),
        weight_decay=(0.1, 0.3, 0.5),
    ),
    "digits quickstart": Case(
        dataset="digits",
        size=8,
        epochs=20,
        batch_size=(64, 512),
        peak_lr=(0.01, 0.05, 0.25),
        warmup_epochs=(2.0,),
        weight_decay=(0.01, 0.1, 1.0),
    ),
}
"""Of the quickstart only the Adam half: plain AdamW has no LAWN."""


def run(data_dir: Path, repeats: int = 3, cases: Sequence[str] | None = None, slow_repeats: int = 1) -> dict[str, Any]:
    """Compares all sides on the given cases, or on all whose data is available.

    Args:
        data_dir: folder of the data sets.
        repeats: how often the expert and lawn_tune run.
        cases: keys of `CASES`; None takes all.
        slow_repeats: how often the typical alternative and plain Optuna run, which take minutes each.
    """
    chosen = {name: CASES[name] for name in (CASES if cases is None else cases)}
    return {
        name: race(case, rivals_of(name), data_dir.resolve(), repeats, slow_repeats)
        for name, case in chosen.items()
        if check(case.dataset, data_dir).state == "ready"
    }


SLOW = frozenset({"typical", "optuna"})
WITH_OPTUNA = frozenset({"digits quickstart"})
"""Cases that plain Optuna runs too: its trial is the typical one, and on MovieLens it takes minutes longer."""


def rivals_of(case: str) -> list[str]:
    """Returns the alternatives for the case with that name."""
    return [rival for rival in RIVALS if rival != "optuna" or case in WITH_OPTUNA]


def race(case: Case, rivals: Sequence[str], data_dir: Path, repeats: int, slow_repeats: int) -> dict[str, Any]:
    """Returns what the sides took for one case; arguments as of `run`."""
    runs: dict[str, list[Run]] = {side: [] for side in (*rivals, OURS)}
    for repeat in range(repeats):
        for side, found in runs.items():
            if side in SLOW and repeat >= slow_repeats:
                continue
            found.append(_run_side(side, case, data_dir))
            print(f"  {side}: {found[-1]}", file=sys.stderr, flush=True)
    throughput = {side: [run.throughput for run in found] for side, found in runs.items()}
    wall = {side: [run.wall for run in found] for side, found in runs.items()}
    search = {side: [run.wall - run.confirming for run in found] for side, found in runs.items()}
    busy = {side: [run.busy for run in found] for side, found in runs.items()}
    return {
        "points": len(case.points),
        "epochs": case.epochs,
        "throughput_trial_epochs_per_second": {side: summary(values) for side, values in throughput.items()},
        "wall_seconds": {side: summary(values) for side, values in wall.items()},
        "worker_seconds_per_trial_epoch": {side: summary(values) for side, values in busy.items()},
        "ratio_throughput": {rival: paired(throughput[OURS], throughput[rival]) for rival in rivals},
        "ratio_wall": {rival: paired(wall[rival], wall[OURS]) for rival in rivals},
        "ratio_wall_without_confirmation": {rival: paired(search[rival], search[OURS]) for rival in rivals},
        "ratio_worker_seconds": {rival: paired(busy[rival], busy[OURS]) for rival in rivals},
        "last_epoch": {side: found[-1].last for side, found in runs.items()},
    }


def paired(of: Sequence[float], to: Sequence[float]) -> dict[str, float]:
    """Returns the ratio of those repeats in which both sides ran."""
    both = min(len(of), len(to))
    return ratio(of[:both], to[:both])


@dataclass(frozen=True)
class Run:
    """One run of one side.

    Args:
        wall: seconds of the whole command.
        throughput: trial epochs per second, from the first start to the last end.
        busy: seconds of one worker for each epoch of each trial.
        last: metrics after the last epoch, averaged over the points.
        confirming: seconds of `wall` in which the winner is confirmed.
    """

    wall: float
    throughput: float
    busy: float
    last: dict[str, float]
    confirming: float


class Found(NamedTuple):
    """What one command left: wall seconds, spans of work, last metrics of each trial, and seconds of confirmation."""

    wall: float
    spans: list[Span]
    last: list[Mapping[str, float]]
    confirming: float = 0.0


def _run_side(side: str, case: Case, data_dir: Path) -> Run:
    with tempfile.TemporaryDirectory(prefix="throughput-") as name:
        folder = Path(name)
        found = (_ours if side == OURS else partial(_rival, RIVALS[side]))(case, data_dir, folder)
    spans = found.spans
    work = len(case.points) * case.epochs
    throughput = work / (max(span.ended for span in spans) - min(span.started for span in spans))
    busy = sum(span.ended - span.started for span in spans) / work
    last = {name: fmean(values[name] for values in found.last) for name in MEASURED}
    return Run(found.wall, throughput, busy, last, found.confirming)


def _rival(command: tuple[str, ...], case: Case, data_dir: Path, folder: Path) -> Found:
    (folder / "case.json").write_text(case.to_json())
    wall = _timed([*command, str(folder / "case.json"), str(data_dir), str(folder / "spans.json")], folder)
    spans = read_spans(folder / "spans.json")
    last: list[Mapping[str, float]] = [span.last for span in spans]
    if len(spans) != len(case.points) or any(values["epoch"] != case.epochs for values in last):
        raise RuntimeError(f"{' '.join(command)} did not train every point to its end")
    return Found(wall, spans, last)


def _ours(case: Case, data_dir: Path, folder: Path) -> Found:
    """Spans are those of packs; the confirmation, which only lawn_tune runs, is in the wall time only."""
    (folder / "raced.toml").write_text(space_text(case))
    arguments = ["launch", "raced.toml", "--executor", "ray", "--workers", str(WORKERS), "--gpus", "0"]
    wall = _timed([CLI, *arguments, "--data-dir", str(data_dir)], folder)
    exported = json.loads(_command([CLI, "export", "raced"], folder))
    trials = [trial for trial in exported if trial["phase"] == "search"]
    if len(trials) != len(case.points) or any(trial["outcome"] != "complete" for trial in trials):
        raise RuntimeError("lawn_tune did not train every point to its end")
    spans, confirming = _spans(trials), _spans([trial for trial in exported if trial["phase"] == "confirm"])
    seconds = max(span.ended for span in confirming) - min(span.started for span in confirming)
    metric = METRIC[case.dataset]
    names = {"train_loss": "last/train_loss"} | {s: f"last/{s}/{metric}" for s in ("validation", "test")}
    last: list[Mapping[str, float]] = [{name: trial["metrics"][key] for name, key in names.items()} for trial in trials]
    return Found(wall, spans, last, seconds)


def _spans(trials: Sequence[Mapping[str, Any]]) -> list[Span]:
    """Returns the span of each pack of some trials."""
    packs = {trial["pack"]: trial["provenance"] for trial in trials}
    return [Span(_seconds(pack["started"]), _seconds(pack["ended"]), {}) for pack in packs.values()]


def space_text(case: Case) -> str:
    """Returns the case as a search space."""
    model = {"name": "ncf", "factors": case.size, "init": "xavier"}
    if case.dataset == "digits":
        model = {"name": "small-vgg", "width": case.size}
    lines = [
        'description = "Raced"',
        f'dataset = "{case.dataset}"',
        f'loss = "{"cross-entropy" if case.dataset == "digits" else "bce"}"',
        f'metric = "{METRIC[case.dataset]}"',
        "[model]",
        *(f"{name} = {json.dumps(value)}" for name, value in model.items()),
        "[seeds]",
        "search = [0]",
        "confirm = [101]",
    ]
    for batch_size in case.batch_size:
        lines += ["[[budgets]]", f"batch_size = {batch_size}", f"epochs = {case.epochs}"]
    grid = {name: levels for name, levels in case.levels.items() if name != "batch_size"}
    lines += ["[optimizers.adam]", *(f"{name} = {json.dumps(levels)}" for name, levels in grid.items())]
    return "\n".join(lines) + "\n"


def _timed(arguments: Sequence[str], folder: Path) -> float:
    start = time.perf_counter()
    _command(arguments, folder)
    return time.perf_counter() - start


def _command(arguments: Sequence[str], folder: Path) -> str:
    """Runs a module in a folder, with one core and one thread per worker; returns its stdout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:WORKERS])
    try:
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
    finally:
        os.sched_setaffinity(0, cores)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def _seconds(time_utc: str) -> float:
    return datetime.fromisoformat(time_utc).timestamp()
