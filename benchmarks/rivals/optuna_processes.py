"""Plain Optuna: a grid sampler and one SQLite file, worked off by processes that each ask for the next trial."""

from __future__ import annotations

import subprocess
import sys

import optuna
import torch

from benchmarks.rivals.case import WORKERS, Job, Point, Span, write_spans
from benchmarks.rivals.typical import train

STUDY = "grid"


def main() -> None:
    """Creates the study, waits for the processes and writes the spans."""
    if sys.argv[1] == "worker":
        work(Job.from_arguments(sys.argv[2:]))
        return
    job = Job.from_arguments(sys.argv[1:])
    study = optuna.create_study(study_name=STUDY, storage=_storage(job), direction="maximize")
    command = [sys.executable, "-m", "benchmarks.rivals.optuna_processes", "worker", *sys.argv[1:]]
    processes = [subprocess.Popen(command) for _ in range(WORKERS)]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError("a worker failed")
    write_spans(job.output, first_of_each_point(study.get_trials()))


def work(job: Job) -> None:
    """Trains until the sampler has exhausted the grid."""
    torch.set_num_threads(1)

    def objective(trial: optuna.Trial) -> float:
        point: Point = {name: trial.suggest_categorical(name, levels) for name, levels in job.case.levels.items()}
        last: dict[str, float] = {}

        def report(values: dict[str, float]) -> None:
            trial.report(values["validation"], int(values["epoch"]))
            last.update(values)

        train(job.case, point, job.data_dir, report)
        trial.set_user_attr("last", last)
        return last["validation"]

    sampler = optuna.samplers.GridSampler({name: list(levels) for name, levels in job.case.levels.items()})
    optuna.load_study(study_name=STUDY, storage=_storage(job), sampler=sampler).optimize(objective)


def first_of_each_point(trials: list[optuna.trial.FrozenTrial]) -> list[Span]:
    """Returns one span per point: the sampler may train a point twice, and the first to end counts."""
    spans: dict[tuple[float, ...], Span] = {}
    for trial in trials:
        if trial.datetime_start is None or trial.datetime_complete is None:
            raise RuntimeError(f"trial {trial.number} did not end")
        span = Span(trial.datetime_start.timestamp(), trial.datetime_complete.timestamp(), trial.user_attrs["last"])
        point = tuple(trial.params.values())
        if point not in spans or span.ended < spans[point].ended:
            spans[point] = span
    return list(spans.values())


def _storage(job: Job) -> str:
    return f"sqlite:///{job.output.parent / 'optuna.db'}"


if __name__ == "__main__":
    main()
