"""A ledger in memory for tests of everything that reads: fabricated cells, trials, outcomes and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Cell, CellName, Phase, Protocol, default_baselines
from lawn_tune.results import Outcome, TrialRow
from search_spaces.space import Grid
from tests.helpers.phases import phase_of
from trainables.catalogue.methods import METHODS
from trainables.tasks import Task, Trial, model_config

PROVENANCE: Mapping[str, Any] = {
    "lawn_tune": "0.1.0",
    "python": "3.11.2",
    "libraries": {"torch": "2.14.1", "numpy": "2.4.6"},
    "device": "cpu: x86_64",
    "threads": 1,
    "host": "node-1",
    "started": "2026-11-24T05:00:00+00:00",
    "ended": "2026-11-24T05:10:00+00:00",
}


@dataclass
class MemorySource:
    """Implements `ResultSource` over lists."""

    planned: list[Cell] = field(default_factory=list)
    rows: list[TrialRow] = field(default_factory=list)
    outcomes: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    series: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    closed: bool = False

    def spaces(self) -> tuple[str, ...]:
        return tuple(sorted({cell.name.space for cell in self.planned}))

    def latest(self) -> str:
        moved = [
            (str(row.provenance[time]), row.cell.partition("/")[0])
            for row in self.rows
            for time in ("started", "ended")
            if time in row.provenance
        ]
        return max(moved, default=("", ""))[1]

    def cells(self, space: str) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.planned if cell.name.space == space)

    def trials(self, space: str) -> tuple[TrialRow, ...]:
        return tuple(row for row in self.rows if row.cell.startswith(f"{space}/"))

    def curves(self, keys: Sequence[str]) -> dict[str, dict[str, NDArray[np.float64]]]:
        return {key: self.series[key] for key in keys if key in self.series}

    def examples(self, keys: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        return {key: self.outcomes[key] for key in keys if key in self.outcomes}

    def version(self, space: str) -> str:
        return repr((self.cells(space), self.trials(space)))

    def close(self) -> None:
        self.closed = True


PROTOCOL = Protocol(
    metric="accuracy",
    direction="maximize",
    selection="validation",
    reported="last",
    search_seeds=(0,),
    confirm_seeds=(101, 102, 103),
    full_epochs=20,
)

LEVELS = (0.001, 0.003, 0.01)


def make_cell(
    optimizer: str = "adam",
    batch_size: int = 64,
    *,
    space: str = "digits",
    lrs: tuple[float, ...] = LEVELS,
    warmups: tuple[float, ...] = (2.0,),
    decays: tuple[float, ...] = (0.0, 0.1, 1.0),
    frees: tuple[float, ...] = (0.0, 1.0, 3.0),
    epochs: int = 20,
    dataset: str = "digits",
    protocol: Protocol = PROTOCOL,
) -> Cell:
    """Returns a cell of 3 x 1 x 3 points unless told otherwise."""
    last = {"free_epochs": frees} if optimizer.endswith("-lawn") else {"weight_decay": decays}
    model = model_config("ncf" if dataset == "movielens-100k" else "small-vgg")
    loss = "bce" if dataset == "movielens-100k" else "cross-entropy"
    return Cell(
        name=CellName(space, optimizer, batch_size),
        task=Task(dataset=dataset, model=model, loss=loss, optimizer=optimizer, batch_size=batch_size, epochs=epochs),
        grid=Grid({"peak_lr": lrs, "warmup_epochs": warmups} | last),
        protocol=protocol,
        baselines=default_baselines(METHODS[optimizer]) if optimizer in METHODS else (),
    )


def make_row(
    cell: Cell,
    trial: Trial,
    summary: Mapping[str, float | None],
    outcome: Outcome = "complete",
    provenance: Mapping[str, Any] = PROVENANCE,
) -> TrialRow:
    """Returns the row of a planned trial."""
    epochs = cell.task.epochs
    return TrialRow(
        key=trial.key,
        cell=str(cell.name),
        phase=phase_of(cell, trial),
        seed=trial.seed,
        hyperparameters=trial.hyperparameters,
        outcome=outcome,
        epochs=epochs if outcome == "complete" else epochs // 3,
        total_epochs=epochs,
        summary=summary,
        pack="p",
        attempts=1,
        error="",
        provenance=provenance,
    )


def search_rows(cell: Cell, values: Sequence[float | Outcome]) -> list[TrialRow]:
    """Returns one row a search trial, in plan order; a word in place of a value is the outcome."""
    return [_row(cell, trial, value) for trial, value in zip(cell.search_trials, values, strict=True)]


def confirm_rows(cell: Cell, winner: Mapping[str, float], values: Sequence[float | Outcome | None]) -> list[TrialRow]:
    """Returns one row a confirm trial of the winner; None leaves the trial out."""
    pairs = zip(cell.confirm_trials(winner), values, strict=True)
    return [_row(cell, trial, value) for trial, value in pairs if value is not None]


def _row(cell: Cell, trial: Trial, value: float | Outcome) -> TrialRow:
    if isinstance(value, str):
        return make_row(cell, trial, {"seconds": 1.0}, value)
    return make_row(cell, trial, summary(cell, phase_of(cell, trial), value))


def summary(cell: Cell, phase: Phase, value: float) -> dict[str, float | None]:
    """Returns a summary whose last value is `value` and whose best is one point above."""
    split = cell.protocol.selection if phase == "search" else "test"
    metric = cell.protocol.metric
    return {f"last/{split}/{metric}": value, f"best/{split}/{metric}": value + 1, "seconds": 2.0}


def with_protocol(cell: Cell, **changes: Any) -> Cell:
    """Returns the cell with another protocol."""
    return replace(cell, protocol=replace(cell.protocol, **changes))


def outcomes(hits: int, total: int = 200, seed: int = 0) -> NDArray[np.bool_]:
    """Returns `total` outcomes with exactly `hits` hits in random places."""
    return np.random.default_rng(seed).permutation(np.arange(total) < hits)


# --- a whole, realistic space ----------------------------------------------------------------------------------------

DEMO_SEEDS = tuple(range(101, 111))
"""With 10 runs a cell, some of the demo's pairs are decided and some are not."""


def demo_source(*, space: str = "movielens_100k", epochs: int = 300, users: int = 943) -> MemorySource:
    """Returns two pairs at three batch sizes, searched and mostly confirmed, with realistic numbers.

    LAMB at the largest batch is unconfirmed and has an untrained tail; large learning rates diverge under Adam.
    """
    protocol = replace(PROTOCOL, metric="hr@10", full_epochs=epochs, search_seeds=(0, 1), confirm_seeds=DEMO_SEEDS)
    source = MemorySource()
    for optimizer in ("adam", "adam-lawn", "lamb", "lamb-lawn"):
        for batch_size in (1_000, 10_000, 100_000):
            cell = make_cell(
                optimizer,
                batch_size,
                space=space,
                lrs=(0.001, 0.003, 0.01, 0.03),
                warmups=(5.0, 20.0),
                decays=(0.0, 0.1, 1.0),
                frees=(1.0, 5.0, 15.0),
                epochs=epochs,
                dataset="movielens-100k",
                protocol=protocol,
            )
            source.planned.append(cell)
            _fill(source, cell, np.random.default_rng([batch_size, *optimizer.encode()]), users)
    return source


_TOPS = {
    "adam": {1_000: 66.2, 10_000: 66.0, 100_000: 62.6},
    "adam-lawn": {1_000: 66.9, 10_000: 67.1, 100_000: 66.4},
    "lamb": {1_000: 67.4, 10_000: 65.4, 100_000: 64.0},
    "lamb-lawn": {1_000: 64.7, 10_000: 66.7, 100_000: 66.5},
}
"""The value each demo cell is drawn around; LAMB-LAWN loses at the smallest batch."""


def _fill(source: MemorySource, cell: Cell, generator: np.random.Generator, users: int) -> None:
    lawn, large = cell.name.optimizer.endswith("-lawn"), cell.name.batch_size >= 100_000
    top = _TOPS[cell.name.optimizer][cell.name.batch_size]
    pending = cell.name.optimizer == "lamb" and large
    scores: dict[tuple[float, ...], list[float]] = {}
    for i, trial in enumerate(cell.search_trials):
        point = tuple(trial.hyperparameters.values())
        if pending and i >= 40:
            continue
        if cell.name.optimizer == "adam" and large and point[0] >= 0.03 and point[1] < 10:
            source.rows.append(make_row(cell, trial, {"seconds": 9.0}, "diverged"))
            continue
        value = top + _place(point, lawn, large) + float(generator.normal(0, 0.25))
        scores.setdefault(point, []).append(value)
        source.rows.append(_demo_row(source, cell, trial, value - 0.4, generator))
    if not pending:
        best = max((p for p in scores if len(scores[p]) == 2), key=lambda p: sum(scores[p]))
        _confirm(source, cell, dict(zip(cell.grid.values, best, strict=True)), top, generator, users)


def _place(point: tuple[float, ...], lawn: bool, large: bool) -> float:
    lr, warmup, third = point
    best_lr = 0.03 if large else 0.01
    loss = 3.0 * abs(np.log10(lr / best_lr)) ** 1.5 + (0.4 if (warmup > 10) != large else 0.0)
    loss += {1.0: 0.9, 5.0: 0.0, 15.0: 1.2}[third] if lawn else {0.0: 2.4, 0.1: 0.8, 1.0: 0.0}[third]
    return -float(loss)


def _confirm(
    source: MemorySource,
    cell: Cell,
    winner: Mapping[str, float],
    top: float,
    generator: np.random.Generator,
    users: int,
) -> None:
    ease = np.sort(np.random.default_rng(5).normal(0, 6.0, users))  # most users are easy or hard for every method
    threshold = ease[int(users * (1 - top / 100))]
    for trial in cell.confirm_trials(winner):
        chance = 1 / (1 + np.exp(threshold - ease))
        hits = generator.random(users) < chance
        source.outcomes[trial.key] = hits
        source.rows.append(_demo_row(source, cell, trial, 100 * float(hits.mean()), generator))


def _demo_row(source: MemorySource, cell: Cell, trial: Trial, value: float, generator: np.random.Generator) -> TrialRow:
    metric, epochs = cell.protocol.metric, cell.task.epochs
    split = "validation" if phase_of(cell, trial) == "search" else "test"
    t = np.arange(1, epochs + 1)
    free = trial.hyperparameters.get("free_epochs")
    peak = 45 + (value - 45) * (1 - np.exp(-t / (epochs / 12)))
    curve = peak + generator.normal(0, 0.5, epochs) * (1 - t / epochs)
    scale = 1 + 0.1 * len(cell.name.optimizer) - 0.08 * np.log10(cell.name.batch_size)
    margin = 3.4 * np.minimum(1, t / free) ** 0.7 + 0.4 * t / epochs if free else 6.5 * (t / epochs) ** 0.6
    source.series[trial.key] = {f"{split}/{metric}": curve, "margin_p50": np.asarray(scale * margin, dtype=np.float64)}
    summary: dict[str, float | None] = {f"last/{split}/{metric}": value, f"best/{split}/{metric}": value + 0.8}
    return make_row(cell, trial, summary | {"seconds": 14.0})
