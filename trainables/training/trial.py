"""One whole pack: load, resume, train, report, finish.

`python -m trainables.training.trial pack.json` runs it alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from trainables.catalogue.losses import METRICS
from trainables.metrics import Calibration
from trainables.optimizers.fused import build_kernels
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import PackConfig, Task
from trainables.training.checkpoint import UNWRITABLE, Unusable, load_checkpoint, log_unusable, save_checkpoint
from trainables.training.loop import Training
from trainables.training.process_memory import keep_freed_memory, process_peak, reset_process_peak
from trainables.training.rows import row_of_member
from trainables.training.seeding import make_deterministic
from trainables.workloads import build_workload
from trainables.workloads.base import Workload

Report = Callable[[Sequence[EpochRecord]], None]


class Interrupted(Exception):
    """Training was asked to stop; the checkpoint holds what was done."""


def train_pack(
    config: PackConfig,
    *,
    data_dir: Path,
    device: torch.device,
    report: Report = lambda records: None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    saved: Callable[[], None] = lambda: None,
    unsaved: Callable[[Exception], None] = lambda error: None,
    resumed: Callable[[int], None] = lambda epoch: None,
    unusable: Unusable = log_unusable,
    report_seconds: float = 0.5,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TrialOutcome]:
    """Trains every trial of a pack to its end and returns their outcomes in the pack's order.

    Args:
        config: the pack.
        data_dir: folder of the data sets.
        device: where to train.
        report: called with the records of one or more epochs, at most every `report_seconds`; after a resume the first
            call repeats the epochs before it.
        checkpoint: file to resume from and to write, or None for neither; deleted by whoever stored the outcomes.
        checkpoint_seconds: least time between two writes, s; doubled by every write that failed.
        saved: called after every write, to copy the file; may raise OSError as a write may.
        unsaved: called with the error of a write that failed; training goes on all the same.
        resumed: called with the epoch that a checkpoint brought the pack to.
        unusable: called with the file of a checkpoint that is there and cannot be used, and why; the pack starts again.
        should_stop: asked after every epoch.

    Raises:
        Interrupted: `should_stop` answered True; the checkpoint was written if it could be.
        torch.OutOfMemoryError: the pack does not fit the device.
        ValueError: the data is missing or does not fit the task.
    """
    make_deterministic(config.members[0].seed)
    reset_peak_memory(device)
    training = Training(config, resident_workload(config.task, data_dir, device), device)
    spent = load_checkpoint(checkpoint, training, unusable) if checkpoint else None
    if spent is not None:
        resumed(training.epoch)
    start = time.monotonic() - (spent or 0.0)
    reported, written, told = 0, time.monotonic(), 0.0
    while not training.finished:
        training.run_epoch()
        now, stop = time.monotonic(), should_stop()
        if checkpoint and (stop or now - written >= checkpoint_seconds) and not training.finished:
            try:
                save_checkpoint(checkpoint, training, now - start)
                saved()
            except UNWRITABLE as error:
                checkpoint_seconds *= 2
                unsaved(error)
            written = time.monotonic()
        if stop and not training.finished:
            raise Interrupted(f"stopped after epoch {training.epoch} of {config.task.epochs}")
        if now - told >= report_seconds or training.finished:
            report(training.records[reported:])
            reported, told = len(training.records), now
    return outcomes(training, time.monotonic() - start)


@lru_cache(maxsize=1)
def resident_workload(task: Task, data_dir: Path, device: torch.device) -> Workload:
    """Returns the workload of a task, built once for all packs of a cell that a worker trains in a row."""
    return build_workload(task, data_dir, device)


def outcomes(training: Training, seconds: float) -> list[TrialOutcome]:
    """Returns each trial's outcome, the surviving ones with their hit or miss on every test example."""
    rows = row_of_member(training.rows)
    final = training.measured["test"] if rows else None
    hits = np.empty((0, 0), bool) if final is None else final.hits.cpu().numpy()
    ece = None if final is None or final.ece is None else final.ece.tolist()
    bins = final.calibration if final else None
    shared = {"seconds": seconds / len(training.config.members), "peak_memory_bytes": peak_memory(training.device)}
    held = training.constrained_tensors
    found = []
    for position, member in enumerate(training.config.members):
        summary = summarise(training.records, position) | shared | {"ece": None}
        if position not in rows:
            last = training.diverged[position]
            end = TrialOutcome(key=member.key, outcome="diverged", epochs=last, summary=summary, constrained=held)
            found.append(end)
            continue
        row = rows[position]
        summary["ece"] = None if ece is None else ece[row]
        summary |= {} if bins is None else calibrated(Calibration(*(values[row] for values in bins)))
        bits = np.packbits(hits[row]).tobytes()
        found.append(
            TrialOutcome(
                key=member.key,
                outcome="complete",
                epochs=training.epoch,
                summary=summary,
                examples=bits,
                example_count=hits.shape[1],
                constrained=held,
            )
        )
    return found


def summarise(records: Sequence[EpochRecord], position: int) -> dict[str, float | None]:
    """Returns "last/<series>" of all series and "best/<split>/<metric>" of all metrics, for one trial of a pack."""
    summary: dict[str, float | None] = {}
    for name in records[-1].series:
        values = [value for record in records if (value := record.series[name][position]) is not None]
        summary[f"last/{name}"] = records[-1].series[name][position]
        metric = METRICS.get(name.partition("/")[2])
        if metric is not None:
            best = max if metric.direction == "maximize" else min
            summary[f"best/{name}"] = best(values, default=None)
    return summary


def calibrated(bins: Calibration) -> dict[str, float]:
    """Returns "calibration/<what>/<bin>" of the bins [bins] of one trial that are not empty."""
    named = {name: values.tolist() for name, values in bins._asdict().items()}
    filled = [b for b, examples in enumerate(named["examples"]) if examples]
    return {f"calibration/{name}/{b:02d}": float(values[b]) for name, values in named.items() for b in filled}


def reset_peak_memory(device: torch.device) -> None:
    """Resets `peak_memory` for a pack, as a worker trains one pack after another."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # before it there is no peak to reset
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_process_peak()


def peak_memory(device: torch.device) -> float:
    """Returns the peak memory since `reset_peak_memory`, bytes: allocated on the device, or of the process on a CPU.

    The process's includes what it already held then: libraries, data, and freed blocks that the C library keeps. Where
    the peak cannot be reset (not Linux), it is that of the whole process.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(process_peak())


def main() -> None:
    """Trains the pack of a JSON file and prints one JSON line per report and outcome."""
    parser = argparse.ArgumentParser(description="Train one pack without the service.")
    parser.add_argument("pack", type=Path, help="JSON file as written by PackConfig.to_dict")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    config = PackConfig.from_dict(json.loads(options.pack.read_text()))
    keep_freed_memory()
    build_kernels()
    ends = train_pack(
        config,
        data_dir=options.data_dir,
        device=torch.device(options.device),
        report=lambda records: print(json.dumps([asdict(record) for record in records]), flush=True),
        checkpoint=options.checkpoint,
    )
    json.dump([asdict(end) | {"examples": end.examples.hex()} for end in ends], sys.stdout)
    print()


if __name__ == "__main__":
    main()
