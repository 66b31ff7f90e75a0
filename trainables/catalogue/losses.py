"""Losses and metrics, one row each."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.catalogue.rows import Loss, Metric

LOSSES: Mapping[str, Loss] = {
    row.name: row
    for row in (
        Loss(
            name="cross-entropy",
            label="cross-entropy",
            targets="classes",
            function="trainables.losses:cross_entropy",
        ),
        Loss(name="bce", label="binary cross-entropy", targets="binary", function="trainables.losses:bce"),
    )
}

METRICS: Mapping[str, Metric] = {
    row.name: row
    for row in (
        Metric(name="accuracy", label="accuracy", direction="maximize", unit="%"),
        Metric(name="hr@10", label="HR@10", direction="maximize", unit="%"),
        Metric(name="ndcg@10", label="NDCG@10", direction="maximize", unit="%"),
    )
}

ECE_BINS = 15
"""Equal-width bins of confidence in an expected calibration error and its reliability diagram (our choice)."""
