"""The reliability diagram: its bins count every prediction once, give the ECE, and are stored in the rows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lawn_tune.cli.export import record, to_csv, to_json
from lawn_tune.results import TrialRow
from tests.helpers.memory_source import make_cell, make_row
from trainables.catalogue.losses import ECE_BINS
from trainables.metrics import calibration, ece
from trainables.outcomes import TrialOutcome
from trainables.tasks import PackConfig, Task, Trial, model_config
from trainables.training.trial import PackRun

PREDICTIONS = st.lists(
    st.tuples(st.floats(0, 1) | st.integers(0, 15).map(lambda b: b / 15), st.booleans()), min_size=1, max_size=40
)


@given(PREDICTIONS)
def test_bins_count_every_prediction_once_and_give_the_ece(predictions: list[tuple[float, bool]]) -> None:
    p = torch.tensor([confidence for confidence, _ in predictions], dtype=torch.float64)
    hits = torch.tensor([hit for _, hit in predictions])
    bins = calibration(p, hits)
    filled = bins.examples > 0
    assert bins.examples.sum() == len(predictions)
    assert bins.confidence.isnan().equal(~filled)
    assert bins.accuracy.isnan().equal(~filled)
    weights = (bins.examples.double() / len(predictions))[filled]
    gaps = (bins.accuracy - bins.confidence).abs()[filled]
    assert (weights * gaps).sum().item() == pytest.approx(ece(p, hits).item(), abs=1e-12)
    assert (weights * bins.accuracy[filled]).sum().item() == pytest.approx(hits.double().mean().item(), abs=1e-12)
    upper = torch.arange(1, ECE_BINS + 1, dtype=torch.float64)[filled] / ECE_BINS
    assert (bins.confidence[filled] <= upper + 1e-12).all()
    assert (bins.confidence[filled] >= upper - 1 / ECE_BINS - 1e-12).all()


def test_a_leading_dimension_of_bins_is_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    p, hits = torch.rand(3, 50, generator=generator), torch.rand(3, 50, generator=generator) < 0.5
    stacked = calibration(p, hits)
    for i, (row, hit) in enumerate(zip(p, hits, strict=True)):
        for got, alone in zip(stacked, calibration(row, hit), strict=True):
            assert torch.equal(got[i].nan_to_num(-1), alone.nan_to_num(-1))


def trained(dataset: str) -> list[TrialOutcome]:
    task = Task(
        dataset=dataset,
        model=model_config("small-vgg", width=4),
        loss="cross-entropy",
        optimizer="adam",
        batch_size=64,
        epochs=1,
    )
    point = {"peak_lr": 0.01, "warmup_epochs": 0.0, "weight_decay": 0.0}
    members = tuple(Trial(key=f"k{seed}", seed=seed, hyperparameters=point) for seed in (0, 1))
    run = PackRun(PackConfig(task=task, members=members), data_dir=Path("nowhere"), device=torch.device("cpu"))
    for _ in run:
        pass
    return run.outcomes or []


def test_training_records_the_bins_of_its_ece() -> None:
    for outcome in trained("synthetic"):
        cell = make_cell()
        bins = make_row(cell, cell.search_trials[0], outcome.summary).calibration
        assert sum(b.examples for b in bins) == outcome.example_count
        gap = math.fsum(b.examples / outcome.example_count * abs(b.accuracy - b.confidence) for b in bins)
        assert gap == pytest.approx(outcome.summary["ece"], abs=1e-12)
        assert all(b.place / ECE_BINS <= b.confidence <= (b.place + 1) / ECE_BINS for b in bins)


def row(**summary: float | None) -> TrialRow:
    cell = make_cell()
    return make_row(cell, cell.search_trials[0], summary)


def test_rows_without_bins_have_none() -> None:
    assert row(ece=0.1).calibration == ()


def test_bins_are_in_json_but_not_in_csv() -> None:
    bins: dict[str, float | None] = {f"calibration/{what}/07": 0.5 for what in ("examples", "confidence", "accuracy")}
    full = record(replace(row(), summary={"ece": 0.1} | bins))
    assert "calibration" not in to_csv([full])
    assert "metrics.ece" in to_csv([full])
    assert all(name in to_json([full]) for name in bins)
