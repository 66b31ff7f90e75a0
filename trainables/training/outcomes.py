"""What a pack's training comes to: one outcome a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainables import ranks
from trainables.catalogue.rows import Metric
from trainables.examples import encode
from trainables.metrics import Calibration
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.training.loop import Training
from trainables.training.peak_memory import peak_memory
from trainables.training.rows import row_of_member


def outcomes(training: Training, seconds: float) -> list[TrialOutcome]:
    """Returns each trial's outcome, the surviving ones with their outcome on every test example.

    Args:
        seconds: wall time of the training, s.
    """
    rows = row_of_member(training.rows)
    final = training.measured["test"] if rows else None
    by_example = np.empty((0, 0), bool) if final is None else final.outcomes.cpu().numpy()
    ece = None if final is None or final.ece is None else final.ece.tolist()
    bins = final.calibration if final else None
    device_seconds = seconds * ranks.count() / len(training.config.members)
    shared = {"seconds": device_seconds, "peak_memory_bytes": peak_memory(training.device)}
    held, metrics = training.constrained_tensors, training.config.task.catalogue.metrics
    found = []
    for position, member in enumerate(training.config.members):
        summary = summarize(training.records, position, metrics) | shared | {"ece": None}
        if position not in rows:
            last = training.diverged[position]
            end = TrialOutcome(key=member.key, outcome="diverged", epochs=last, summary=summary, constrained=held)
            found.append(end)
            continue
        row = rows[position]
        summary["ece"] = None if ece is None else ece[row]
        summary |= {} if bins is None else calibrated(Calibration(*(values[row] for values in bins)))
        found.append(
            TrialOutcome(
                key=member.key,
                outcome="complete",
                epochs=training.epoch,
                summary=summary,
                examples=encode(by_example[row]),
                example_count=by_example.shape[1],
                constrained=held,
            )
        )
    return found


def summarize(records: Sequence[EpochRecord], position: int, metrics: Mapping[str, Metric]) -> dict[str, float | None]:
    """Returns "last/<series>" of all series and "best/<split>/<metric>" of all metrics, for one trial of a pack."""
    summary: dict[str, float | None] = {}
    for name in records[-1].series:
        values = [value for record in records if (value := record.series[name][position]) is not None]
        summary[f"last/{name}"] = records[-1].series[name][position]
        metric = metrics.get(name.partition("/")[2])
        if metric is not None:
            best = max if metric.direction == "maximize" else min
            summary[f"best/{name}"] = best(values, default=None)
    return summary


def calibrated(bins: Calibration) -> dict[str, float]:
    """Returns "calibration/<what>/<bin>" of the bins [bins] of one trial that are not empty."""
    named = {name: values.tolist() for name, values in bins._asdict().items()}
    filled = [b for b, examples in enumerate(named["examples"]) if examples]
    return {f"calibration/{name}/{b:02d}": float(values[b]) for name, values in named.items() for b in filled}
