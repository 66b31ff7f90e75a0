"""A grid by Ray Tune's `grid_search`, one trial per core, in the variants of `USES`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune

from benchmarks.rivals import expert, typical
from benchmarks.rivals.case import WORKERS, Case, Job, Point, Report, Span, write_spans


@dataclass(frozen=True)
class Use:
    """A way to use Ray Tune.

    Args:
        train: trains one point.
        options: of `TuneConfig`, if not the defaults.
        environment: variables set before Ray starts, whose workers inherit them.
    """

    train: Callable[[Case, Point, Path, Report], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


USES: Mapping[str, Use] = {
    "typical": Use(typical.train),
    "expert": Use(expert.train, {"reuse_actors": True}, expert.ALLOCATOR),
}


def main() -> None:
    """Trains every point and writes its span; arguments: key of `USES`, then those of `Job.from_arguments`."""
    use, job = USES[sys.argv[1]], Job.from_arguments(sys.argv[2:])
    train, case, data_dir = use.train, job.case, job.data_dir

    def trainable(config: Point) -> None:
        started = time.time()
        train(case, config, data_dir, lambda values: tune.report(values | {"started": started, "ended": time.time()}))

    os.environ.update(use.environment)
    ray.init(num_cpus=WORKERS, num_gpus=0, include_dashboard=False)
    tuner = tune.Tuner(
        trainable,
        param_space={name: tune.grid_search(list(levels)) for name, levels in case.levels.items()},
        tune_config=tune.TuneConfig(**use.options),
        run_config=tune.RunConfig(storage_path=str(job.output.parent / "results")),
    )
    results = tuner.fit()
    write_spans(job.output, [_span(results[i]) for i in range(len(results))])


def _span(result: Any) -> Span:
    if result.error is not None:
        raise result.error
    last = {name: float(result.metrics[name]) for name in ("epoch", "train_loss", "validation", "test")}
    return Span(result.metrics["started"], result.metrics["ended"], last)


if __name__ == "__main__":
    main()
