"""What the contract of a ledger is tested with: cells, packs, and values that tell keys and epochs apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from lawn_tune.cells import Cell, CellName, Packing, Phase, Protocol
from lawn_tune.ledger import Ledger, PackRow
from lawn_tune.ledger.database import Database
from search_spaces.space import Grid
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import Task, Trial, model_config

EPOCHS = 5
SECONDS = 60.0


def make_cell(
    space: str = "demo",
    batch_size: int = 64,
    lrs: Sequence[float] = (0.1, 0.2, 0.4),
    epochs: int = EPOCHS,
    selection: Any = "validation",
    **grid: tuple[float, ...],
) -> Cell:
    return Cell(
        name=CellName(space, "adam", batch_size),
        task=Task(
            dataset="digits",
            model=model_config("small-vgg"),
            loss="cross-entropy",
            optimizer="adam",
            batch_size=batch_size,
            epochs=epochs,
        ),
        grid=Grid({"peak_lr": tuple(lrs), "warmup_epochs": (0.5,), "weight_decay": (0.0, 1e-4)} | grid),
        protocol=Protocol(
            metric="accuracy",
            direction="maximize",
            selection=selection,
            reported="last",
            search_seeds=(0,),
            confirm_seeds=(7, 8, 9),
            full_epochs=EPOCHS,
        ),
    )


def records(pack: PackRow, epochs: Sequence[int], offset: float = 0.0) -> list[EpochRecord]:
    """Epochs whose values tell key, epoch and attempt apart."""
    return [
        EpochRecord(
            epoch=epoch,
            series={
                "validation/accuracy": [value(key, epoch) + offset for key in pack.keys],
                "test/accuracy": [value(key, epoch) - 1.0 for key in pack.keys],
                "last_bn_gamma_norm": [None for _ in pack.keys],
            },
        )
        for epoch in epochs
    ]


def value(key: str, epoch: int) -> float:
    return int(key[:3], 16) / 4096 + epoch


def outcomes(pack: PackRow, **changes: Any) -> list[TrialOutcome]:
    plain = [
        TrialOutcome(
            key=key,
            outcome="complete",
            epochs=EPOCHS,
            summary={"last/validation/accuracy": value(key, EPOCHS), "last/test/accuracy": 0.5, "seconds": 1.0},
            examples=bytes([0b10110000, 0b01000000]),
            example_count=10,
        )
        for key in pack.keys
    ]
    return [replace(outcome, **changes) for outcome in plain]


PROVENANCE = {"device": "cpu", "host": "host-1", "libraries": {"torch": "2.9"}}


def begun(ledger: Ledger, cell: Cell, trials: Sequence[Trial], phase: Phase = "search") -> PackRow:
    """Records one pack of these trials and begins it."""
    packs = ledger.record_packs(cell.name, phase, [trials])
    pack = next(pack for pack in packs if pack.keys == tuple(trial.key for trial in trials) and pack.state != "split")
    return ledger.begin(pack, trials)


def train(ledger: Ledger, cell: Cell, trials: Sequence[Trial], phase: Phase = "search", **changes: Any) -> PackRow:
    """Everything a driver does with a pack that succeeds."""
    pack = begun(ledger, cell, trials, phase)
    ledger.progress(pack, records(pack, range(1, EPOCHS)))
    ledger.progress(pack, records(pack, [EPOCHS]))
    ledger.finish(pack, outcomes(pack, **changes), PROVENANCE)
    return pack


def studied(url: str, name: str) -> list[FrozenTrial]:
    """The trials of a study, read as any other program would; none if there is no such study."""
    storage = storage_of(url)
    try:
        if name not in optuna.get_all_study_names(storage=storage):
            return []
        return optuna.load_study(study_name=name, storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def storage_of(url: str) -> optuna.storages.RDBStorage:
    full = Database(url).url.render_as_string(hide_password=False)
    return optuna.storages.RDBStorage(full, skip_compatibility_check=True, skip_table_creation=True)


def states(url: str, name: str) -> Counter[tuple[str, str]]:
    return Counter((trial.user_attrs["key"], trial.state.name) for trial in studied(url, name))


def packing(cell: Cell, size: int = 2, workers: int | None = 3) -> Packing:
    return Packing(search=size, confirm=1, workers=workers, plan=cell.plan_id)
