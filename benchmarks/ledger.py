"""Reading a big ledger: `compare`, `status` and `export` as whole commands, and all trials against the same by Optuna.

Ledgers of 100, 1,000 and 10,000 trials x 300 epochs. Optuna holds the same trials twice: with the few intermediate
values that our mirror keeps, and with the curve that selects at every epoch, as someone stores it who has no tables of
curves. Both sides open the database again in every repeat, in one process, in turn; a repeat of our side reads all
trials with every value and every whole curve of each trial of one cell.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from benchmarks import big_ledger, big_studies
from benchmarks.measure import interleaved, ratio, summary
from lawn_tune.ledger import open_ledger
from lawn_tune.ledger.curves import THINNED

SIZES = (100, 1_000, 10_000)
SPACE = "big"
EPOCHS = 300
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "compare": ("compare", SPACE),
    "status": ("status",),
    "export": ("export", SPACE),
}
CLI = "lawn_tune.cli.main"
WHOLE_UP_TO = 1_000
"""Trials beyond which Optuna does not load whole curves here: at 10,000 it would take minutes and gigabytes."""


def run(
    sizes: tuple[int, ...] = SIZES, epochs: int = EPOCHS, repeats: int = 7, optuna_repeats: int = 3
) -> dict[str, Any]:
    """Measures ledgers of several sizes.

    Args:
        sizes: search trials of each ledger.
        epochs: of every trial.
        repeats: of the commands.
        optuna_repeats: of the reads.
    """
    found = {}
    for trials in sizes:
        with tempfile.TemporaryDirectory(prefix="lawn-tune-ledger-") as folder:
            found[f"{trials} trials"] = _measure(Path(folder), trials, epochs, repeats, optuna_repeats)
    return found


def _measure(folder: Path, trials: int, epochs: int, repeats: int, optuna_repeats: int) -> dict[str, Any]:
    ours = f"sqlite:///{folder}/ours.db"
    start = time.perf_counter()
    big_ledger.write(ours, trials=trials, epochs=epochs)
    written = time.perf_counter() - start
    points = {"thinned": THINNED} | ({"whole": epochs} if trials <= WHOLE_UP_TO else {})
    rivals = {name: f"sqlite:///{folder}/{name}.db" for name in points}
    with open_ledger(ours) as ledger:
        count = len(ledger.trials(SPACE))
    for name, url in rivals.items():
        big_studies.write(ours, url, curve_values=points[name])
    commands = interleaved({name: partial(_command, words, ours) for name, words in COMMANDS.items()}, repeats)
    return {
        "trials": count,
        "epochs": epochs,
        "bytes": {path.stem: path.stat().st_size for path in sorted(folder.glob("*.db"))},
        "seconds_to_write": written,
        "commands": {name: summary(values) for name, values in commands.items()},
        "reads": {name: _against_optuna(ours, url, optuna_repeats) for name, url in rivals.items()},
    }


def _against_optuna(ours: str, url: str, repeats: int) -> dict[str, Any]:
    rivals: dict[str, Callable[[], object]] = {
        "lawn_tune": partial(read, ours),
        "lawn_tune, every curve": partial(read, ours, cells=None),
        "optuna": partial(load, url),
    }
    seconds = interleaved(rivals, repeats)
    return {
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "optuna_over_lawn_tune": {
            name: ratio(seconds["optuna"], values) for name, values in seconds.items() if name != "optuna"
        },
    }


def read(url: str, cells: int | None = 1) -> tuple[int, int]:
    """Reads all trials of the big space and the curves of its first cells (None: of all); returns how many of each."""
    with open_ledger(url, create=False) as ledger:
        rows = ledger.trials(SPACE)
        chosen = {str(cell.name) for cell in ledger.cells(SPACE)[:cells]}
        curves = ledger.curves([row.key for row in rows if row.cell in chosen])
    return len(rows), len(curves)


def load(url: str) -> list[FrozenTrial]:
    """Reads every trial of every study as Optuna's users do."""
    optuna.logging.set_verbosity(logging.WARNING)
    storage = RDBStorage(url)
    names = optuna.get_all_study_names(storage)
    found = [trial for name in names for trial in optuna.load_study(study_name=name, storage=storage).trials]
    storage.remove_session()
    storage.engine.dispose()
    return found


def _command(words: tuple[str, ...], url: str) -> None:
    command = [sys.executable, "-m", CLI, *words, "--storage", url]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
