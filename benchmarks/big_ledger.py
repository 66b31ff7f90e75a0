"""Writes a ledger of the size of a study of months, in seconds: synthetic numbers of the form of real ones.

Curves are smooth functions of the hyperparameters with an optimum inside the grid, so that winners, edges, divergence
and intervals look as in a real ledger. Nothing in it was trained, as its provenance shows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from lawn_tune import __version__
from lawn_tune.cells import Cell, CellName, Phase, Protocol, default_baselines
from lawn_tune.ledger import PackRow, curves, definitions, open_ledger, packs, roster, trials
from lawn_tune.ledger.database import Database, insert
from lawn_tune.ledger.mirror import Mirror
from lawn_tune.planning.packing import make_packs, pack_size
from search_spaces.space import Grid
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.losses import METRICS
from trainables.catalogue.methods import METHODS
from trainables.outcomes import EpochRecord
from trainables.outcomes import TrialOutcome as Outcome
from trainables.tasks import ModelConfig, Task, Trial, model_config

Array = NDArray[np.float64]
BATCH_SIZES = (256, 512, 1024, 2048, 4096, 10_000)
CONFIRM_SEEDS = (101, 102, 103)
OPTIMIZERS = ("sgd", "sgd-lawn", "adam", "adam-lawn", "lamb", "lamb-lawn")
BEST_LR = {"sgd": 0.1, "adam": 0.003, "lamb": 0.01}
DIVERGES = 1.0
"""Decades above the best learning rate from which training diverges; a longer warm-up moves it up."""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PROVENANCE = {
    "lawn_tune": __version__,
    "python": "none",
    "libraries": {"torch": "none", "numpy": np.__version__},
    "device": "none: synthetic numbers",
    "threads": 1,
    "host": "none",
}


@dataclass(frozen=True)
class _Kind:
    """A synthetic space: its task, its best metric, and its number of test examples."""

    dataset: str
    loss: str
    batch_scale: int
    chance: float
    top: float
    examples: int

    def model(self, i: int) -> ModelConfig:
        return (
            model_config("small-vgg", width=16 + i)
            if self.dataset == "fashion-mnist"
            else model_config("ncf", factors=64 + i)
        )


KINDS = (
    _Kind("fashion-mnist", "cross-entropy", 1, 10.0, 92.5, 10_000),
    _Kind("movielens-100k", "bce", 10, 10.0, 65.0, 943),
)


def write(
    url: str, *, trials: int = 10_000, epochs: int = 300, spaces: int = 1, seed: int = 0, optuna: bool = False
) -> None:
    """Writes a ledger where all cells are finished except the last of each space, with failed and running packs.

    Args:
        url: of a ledger that does not have these spaces ("big", "big_2", …) yet.
        trials: approximate number of search trials; three confirm trials per finished cell are added.
        epochs: of every trial.
        spaces: number of spaces, alternately like Fashion-MNIST and like MovieLens.
        seed: of all synthetic numbers.
        optuna: write the Optuna studies as well, as a launch does; this takes most of the time.
    """
    with open_ledger(url) as ledger:
        planned = [_cells(i, max(trials // spaces, 1), epochs) for i in range(spaces)]
        ledger.register([cell for cells in planned for cell in cells])
        database = Database(url)
        mirror = Mirror(database, print)
        for i, cells in enumerate(planned):
            for j, cell in enumerate(cells):
                with database.writing() as connection:
                    _write_cell(connection, cell, KINDS[i % len(KINDS)], [seed, i, j], finished=j + 1 < len(cells))
                if optuna:
                    mirror.sync(cell, "search")
                    mirror.sync(cell, "confirm")
        mirror.close()
        database.close()


# --- cells -----------------------------------------------------------------------------------------------------------


def _cells(i: int, trials: int, epochs: int) -> list[Cell]:
    kind = KINDS[i % len(KINDS)]
    count = min(max(trials // (len(OPTIMIZERS) * 16), 1), len(BATCH_SIZES))
    batch_sizes = [kind.batch_scale * size for size in BATCH_SIZES[:: len(BATCH_SIZES) // count][:count]]
    points = trials / (count * len(OPTIMIZERS))
    return [
        _cell("big" if i == 0 else f"big_{i + 1}", kind, kind.model(i), name, size, points, epochs)
        for name in OPTIMIZERS
        for size in batch_sizes
    ]


def _cell(
    space: str, kind: _Kind, model: ModelConfig, optimizer: str, batch_size: int, points: float, epochs: int
) -> Cell:
    metric = DATASETS[kind.dataset].metrics[0]
    return Cell(
        name=CellName(space, optimizer, batch_size),
        task=Task(
            dataset=kind.dataset,
            model=model,
            loss=kind.loss,
            optimizer=optimizer,
            batch_size=batch_size,
            epochs=epochs,
        ),
        grid=_grid(optimizer, points, epochs),
        protocol=Protocol(
            metric=metric,
            direction=METRICS[metric].direction,
            selection="validation",
            reported="last",
            search_seeds=(0,),
            confirm_seeds=CONFIRM_SEEDS,
            full_epochs=epochs,
        ),
        baselines=default_baselines(METHODS[optimizer]),
    )


def _grid(optimizer: str, points: float, epochs: int) -> Grid:
    """Returns a grid of about this number of points, its levels spread evenly in the logarithm around the optimum."""
    side = points ** (1 / 3)
    warmups, thirds = max(round(0.7 * side), 1), max(round(side), 1)
    rates = max(round(points / (warmups * thirds)), 1)
    third = METHODS[optimizer].switch or "weight_decay"
    return Grid(
        {
            "peak_lr": _spread(_best(optimizer, "peak_lr", epochs), 1.5, rates),
            "warmup_epochs": _spread(_best(optimizer, "warmup_epochs", epochs), 0.8, warmups),
            third: _spread(_best(optimizer, third, epochs), 1.2, thirds),
        }
    )


def _best(optimizer: str, name: str, epochs: int) -> float:
    optima = {
        "peak_lr": BEST_LR[METHODS[optimizer].rule.name],
        "warmup_epochs": 0.04 * epochs,
        "free_epochs": 0.05 * epochs,
        "weight_decay": 5e-4 if optimizer == "sgd" else 0.1,
    }
    return optima[name]


def _spread(middle: float, decades: float, count: int) -> tuple[float, ...]:
    places = decades * (2 * (np.arange(count) + 0.5) / count - 1)
    return tuple(dict.fromkeys(float(f"{middle * 10**place:.3g}") for place in places))


# --- numbers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Numbers:
    """Numbers of N trials: series → values [N, E], epochs trained [N], and outcomes [N, examples]."""

    series: Mapping[str, Array]
    lasted: NDArray[np.int64]
    bits: NDArray[np.bool_]


def _numbers(cell: Cell, kind: _Kind, phase: Phase, planned: Sequence[Trial], random: np.random.Generator) -> _Numbers:
    epochs, optimizer = cell.task.epochs, cell.name.optimizer
    lawn = METHODS[optimizer].switch is not None
    value = {name: np.array([trial.hyperparameters[name] for trial in planned])[:, None] for name in cell.grid.values}
    off = {name: np.log10(values / _best(optimizer, name, epochs)) for name, values in value.items()}
    size = np.log2(cell.name.batch_size / (256 * kind.batch_scale))
    third = off["free_epochs" if lawn else "weight_decay"]
    top = kind.top - 0.5 * size + (0.25 * size if lawn else 0.0) + random.normal(0, 0.15, (len(planned), 1))
    final = top - 2.5 * off["peak_lr"] ** 2 - 0.8 * third**2 - 0.7 * off["warmup_epochs"] ** 2

    def wobble(scale: float) -> Array:
        return np.asarray(scale * random.standard_normal((len(planned), epochs)))

    epoch = np.arange(1, epochs + 1)[None, :]
    t = epoch / epochs
    speed = 5.0 * 10 ** (0.2 * off["peak_lr"])
    rise = -np.expm1(-speed * t) / -np.expm1(-speed)
    held = np.minimum(epoch / value["free_epochs"], 1.0) if lawn else rise * (1 - 0.4 * t * 10 ** (0.3 * third))
    norm = 17.0 + 25.0 * held * 10 ** (0.3 * off["peak_lr"])
    margin = (4.0 if lawn else 9.0) * rise - 0.5 * off["peak_lr"] ** 2
    rate = np.minimum(epoch / value["warmup_epochs"], (epochs - epoch + 0.01) / (epochs - value["warmup_epochs"]))
    metric = cell.protocol.metric
    test = kind.chance + (final - 1.0 - kind.chance) * rise + wobble(0.1) * (1.1 - t)
    bits = _bits(test[:, -1], kind, random)
    test[:, -1] = 100 * bits.mean(axis=1)
    series = {
        "train_loss": (0.02 + 0.05 * off["peak_lr"] ** 2) * rise + 2.3 * np.exp(-speed * t) + np.abs(wobble(0.002)),
        "learning_rate": value["peak_lr"] * np.minimum(rate, 1.0),
        "grad_norm": 0.6 * np.exp(-2.5 * t + wobble(0.1)),
        "weight_norm": norm,
        "last_layer_norm": 0.1 * norm + wobble(0.01),
        "last_bn_gamma_norm": (5.6 - 0.4 * rise + wobble(0.005)) if kind.loss != "bce" else np.full_like(norm, np.nan),
        "margin_p10": 0.3 * margin - 1.0 + wobble(0.05),
        "margin_p50": margin + wobble(0.05),
        "margin_p90": 1.6 * margin + 1.0 + wobble(0.05),
    }
    if phase == "search":
        series[f"validation/{metric}"] = kind.chance + (final - kind.chance) * rise + wobble(0.1) * (1.1 - t)
    series = {name: values.astype(np.float32).astype(np.float64) for name, values in series.items()}
    series[f"test/{metric}"] = test
    for other in DATASETS[kind.dataset].metrics[1:]:
        for name in [name for name in series if name.endswith(f"/{metric}")]:
            series[name.replace(metric, other)] = 0.58 * series[name]
    early = np.minimum(random.integers(1, max(epochs // 4, 2), len(planned)), epochs)
    diverges = (off["peak_lr"] - 0.3 * off["warmup_epochs"] > DIVERGES + random.normal(0, 0.1, (len(planned), 1)))[:, 0]
    return _Numbers(series, np.where(diverges, early, epochs), bits)


def _bits(accuracy: Array, kind: _Kind, random: np.random.Generator) -> NDArray[np.bool_]:
    """Returns outcomes [N, examples] of that accuracy (%); an example that is hard for one trial is hard for most."""
    hardness = np.random.default_rng(kind.examples).standard_normal(kind.examples, np.float32)
    scores = hardness + 0.7 * random.standard_normal((len(accuracy), kind.examples), np.float32)
    right = np.clip(np.round(accuracy / 100 * kind.examples), 1, kind.examples).astype(int)
    cuts = np.array([np.partition(row, k - 1)[k - 1] for row, k in zip(scores, right, strict=True)], np.float32)
    return np.asarray(scores <= cuts[:, None])


# --- rows ------------------------------------------------------------------------------------------------------------


def _write_cell(connection: Connection, cell: Cell, kind: _Kind, seed: list[int], finished: bool) -> None:
    random = np.random.default_rng(seed)
    search = _numbers(cell, kind, "search", cell.search_trials, random)
    recorded = _record(connection, cell, "search", cell.search_trials)
    few = 0 if finished else min(3, len(recorded) // 3)
    done = len(recorded) - 2 * few
    _write_packs(connection, cell, cell.search_trials, search, recorded[:done])
    for failed in recorded[done : done + few]:
        _fail(connection, failed)
    for running in recorded[done + few :]:
        _run(connection, cell, running, search)
    value = search.series[f"validation/{cell.protocol.metric}"][:, -1]
    complete = search.lasted == cell.task.epochs
    if finished and complete.any():
        best = cell.search_trials[int(np.argmax(np.where(complete, value, -np.inf)))]
        confirm = cell.confirm_trials(best.hyperparameters)
        numbers = _numbers(cell, kind, "confirm", confirm, random)
        _write_packs(connection, cell, confirm, numbers, _record(connection, cell, "confirm", confirm))


def _record(connection: Connection, cell: Cell, phase: Phase, planned: Sequence[Trial]) -> tuple[PackRow, ...]:
    size = min(pack_size(cell, phase), max(cell.grid.size // 6, 1))  # even a small grid needs failed and running packs
    groups = [[trial.key for trial in pack] for pack in make_packs(cell, phase, planned, size)]
    roster.assign(connection, cell, phase, planned)
    packs.add(connection, cell.name, phase, groups)
    return packs.read(connection, cell.name, phase)


def _write_packs(
    connection: Connection,
    cell: Cell,
    planned: Sequence[Trial],
    numbers: _Numbers,
    done: Sequence[PackRow],
) -> None:
    """Writes the rows that `Ledger.finish` would leave of these packs, without the epochs that it would drop."""
    place = {trial.key: i for i, trial in enumerate(planned)}
    rows, curve_rows, example_rows = [], [], []
    for number, pack in enumerate(done):
        began = BEGAN + timedelta(seconds=40 * number)
        for key in pack.keys:
            i = place[key]
            epochs = int(numbers.lasted[i])
            outcome = _outcome(cell, key, numbers, i)
            curve = {name: values[i, :epochs] for name, values in numbers.series.items()}
            rows.append(_row(cell, pack, outcome, began.isoformat(), (began + timedelta(seconds=39)).isoformat()))
            curve_rows.append({"key": key, "data": curves.encode(curve)})
            if outcome.example_count:
                example_rows.append({"key": key, "count": outcome.example_count, "data": outcome.examples})
        packs.change(connection, pack, state="finished", attempts=1)
    for table, content in (
        (definitions.trials, rows),
        (definitions.curves, curve_rows),
        (definitions.examples, example_rows),
    ):
        if content:
            connection.execute(insert(connection, table), content)


def _outcome(cell: Cell, key: str, numbers: _Numbers, i: int) -> Outcome:
    epochs = int(numbers.lasted[i])
    complete = epochs == cell.task.epochs
    summary: dict[str, float | None] = {}
    for name, values in numbers.series.items():
        last = float(values[i, -1])
        summary[f"last/{name}"] = last if complete and not np.isnan(last) else None
        if name.partition("/")[2] in METRICS:
            summary[f"best/{name}"] = float(values[i, :epochs].max())
    summary |= {"seconds": 30.0 + i % 17, "peak_memory_bytes": 1.5e9, "ece": 0.02 + 0.001 * (i % 9)}
    if not complete:
        return Outcome(key=key, outcome="diverged", epochs=epochs, summary=summary | {"ece": None})
    bits = np.packbits(numbers.bits[i]).tobytes()
    count = numbers.bits.shape[1]
    return Outcome(key=key, outcome="complete", epochs=epochs, summary=summary, examples=bits, example_count=count)


def _row(cell: Cell, pack: PackRow, outcome: Outcome, began: str, ended: str) -> dict[str, object]:
    return {
        "key": outcome.key,
        "cell": str(cell.name),
        "pack": pack.id,
        "outcome": outcome.outcome,
        "epochs": outcome.epochs,
        "attempts": 1,
        "error": "",
        "summary": json.dumps(asdict(outcome)["summary"]),
        "provenance": json.dumps({"started": began, "ended": ended} | PROVENANCE),
        "started": began,
        "ended": ended,
    }


def _fail(connection: Connection, pack: PackRow) -> None:
    packs.change(connection, pack, attempts=3)
    failed = packs.get(connection, pack)
    trials.fail(connection, failed, "RuntimeError: a synthetic failure")
    packs.change(connection, failed, state="failed", error="RuntimeError: a synthetic failure")


def _run(connection: Connection, cell: Cell, pack: PackRow, numbers: _Numbers) -> None:
    """Leaves a pack as if a launch were half through it."""
    packs.change(connection, pack, state="running", attempts=1)
    begun = packs.get(connection, pack)
    trials.start(connection, begun)
    place = {trial.key: i for i, trial in enumerate(cell.search_trials)}
    members = [place[key] for key in pack.keys]
    half = {name: values[members].tolist() for name, values in numbers.series.items()}
    records = [
        EpochRecord(epoch=e + 1, series={name: [values[e] for values in rows] for name, rows in half.items()})
        for e in range(max(cell.task.epochs // 2, 1))
    ]
    trials.follow(connection, begun, records)


def main() -> None:
    """Writes a big ledger and prints the duration."""
    parser = argparse.ArgumentParser(description="Write a big ledger of synthetic numbers.")
    parser.add_argument("url", help="sqlite:////path/to/file.db, or a PostgreSQL URL")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--spaces", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optuna", action="store_true", help="write the Optuna studies as well (slow)")
    options = parser.parse_args()
    start = time.perf_counter()
    write(
        options.url,
        trials=options.trials,
        epochs=options.epochs,
        spaces=options.spaces,
        seed=options.seed,
        optuna=options.optuna,
    )
    print(f"{options.trials} x {options.epochs} in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
