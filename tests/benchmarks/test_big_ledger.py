"""The big ledger is what a launch would have left, and Optuna's copy of it is what our mirror writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import FrozenTrial

from benchmarks import big_ledger, big_studies
from benchmarks import ledger as ledger_benchmark
from lawn_tune.comparison.compare import compare_space
from lawn_tune.ledger import Ledger, open_ledger
from lawn_tune.results import FINISHED, TrialRow
from trainables.catalogue.datasets import DATASETS
from trainables.outcomes import SERIES
from trainables.tasks import trial_key

pytestmark = pytest.mark.long

TRIALS, EPOCHS = 96, 12


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small "big" ledger of one space, with its studies."""
    url = f"sqlite:///{tmp_path_factory.mktemp('big')}/ledger.db"
    big_ledger.write(url, trials=TRIALS, epochs=EPOCHS, optuna=True)
    return url


def finished(ledger: Ledger) -> list[TrialRow]:
    return [row for row in ledger.trials("big") if row.outcome in FINISHED]


def test_every_planned_trial_is_there_and_only_the_last_cell_is_open(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/wide.db"
    big_ledger.write(url, trials=3_600, epochs=EPOCHS)
    with open_ledger(url, create=False) as ledger:
        cells, rows = ledger.cells("big"), {row.key: row for row in ledger.trials("big")}
    outcomes = Counter(row.outcome for row in rows.values())
    assert set(outcomes) == {"complete", "diverged", "failed", "running"}
    for cell in cells:
        assert {trial.key for trial in cell.search_trials} <= rows.keys()
        for trial in cell.search_trials:
            assert trial.key == trial_key(cell.task, trial.seed, trial.hyperparameters)
    open_cells = {row.cell for row in rows.values() if row.outcome not in FINISHED}
    assert open_cells == {str(cells[-1].name)}


def test_summaries_curves_and_examples_agree(url: str) -> None:
    with open_ledger(url, create=False) as ledger:
        rows = finished(ledger)
        curves, examples = ledger.curves([r.key for r in rows]), ledger.examples([r.key for r in rows])
    for row in rows:
        curve = curves[row.key]
        assert set(SERIES) <= curve.keys()
        assert {len(values) for values in curve.values()} == {row.epochs}
        if row.outcome == "diverged":
            assert row.epochs < row.total_epochs
            assert row.key not in examples
            continue
        for name, values in curve.items():
            last = row.summary[f"last/{name}"]
            assert (last is None) == bool(np.isnan(values[-1]))
            assert last is None or last == values[-1]
        metric = DATASETS["fashion-mnist"].metrics[0]
        assert row.summary[f"last/test/{metric}"] == 100 * examples[row.key].mean()


def test_it_is_compared_like_any_other(url: str) -> None:
    with open_ledger(url, create=False) as ledger:
        comparison = compare_space(ledger, "big")
    confirmed = [result for result in comparison.cells if result.confirmed]
    assert len(confirmed) == len(comparison.cells) - 1
    assert all(result.confirmed is not None and result.confirmed.n == 3 for result in confirmed)
    separated = [pair.difference for pair in comparison.pairs if pair.difference is not None]
    assert separated
    assert all(difference.examples == 10_000 for difference in separated)


def test_the_same_seed_makes_the_same_numbers(url: str, tmp_path: Path) -> None:
    again = f"sqlite:///{tmp_path}/again.db"
    big_ledger.write(again, trials=TRIALS, epochs=EPOCHS)
    with open_ledger(url, create=False) as one, open_ledger(again, create=False) as other:
        assert one.trials("big") == other.trials("big")


def content(trials: Sequence[FrozenTrial]) -> list[tuple[str, ...]]:
    """All of a trial but its place in its study; a failed one's times are of the moment it was written."""
    return sorted(
        (
            json.dumps(trial.user_attrs, sort_keys=True),
            trial.state.name,
            repr(trial.values),
            repr(sorted(trial.params.items())),
            repr(sorted(trial.distributions.items())),
            repr(sorted(trial.intermediate_values.items())),
        )
        for trial in trials
    )


def test_optunas_copy_holds_what_the_mirror_writes(url: str, tmp_path: Path) -> None:
    copied = f"sqlite:///{tmp_path}/optuna.db"
    big_studies.write(url, copied)
    assert content(ledger_benchmark.load(copied)) == content(ledger_benchmark.load(url))


def test_whole_curves_have_a_value_for_every_epoch(url: str, tmp_path: Path) -> None:
    copied = f"sqlite:///{tmp_path}/optuna.db"
    big_studies.write(url, copied, curve_values=EPOCHS)
    with open_ledger(url, create=False) as ledger:
        epochs = {row.key: row.epochs for row in ledger.trials("big")}
    loaded = [trial for trial in ledger_benchmark.load(copied) if trial.state.name != "FAIL"]
    assert loaded
    assert {t.user_attrs["key"]: len(t.intermediate_values) for t in loaded} == {
        t.user_attrs["key"]: epochs[t.user_attrs["key"]] for t in loaded
    }


def test_the_benchmark_reads_every_trial_and_the_curves_it_says(url: str) -> None:
    with open_ledger(url, create=False) as ledger:
        rows = ledger.trials("big")
        first = str(ledger.cells("big")[0].name)
    assert ledger_benchmark.read(url) == (len(rows), sum(row.cell == first for row in rows))
