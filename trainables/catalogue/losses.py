"""Losses, metrics and references, one row each."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.catalogue.rows import Hyperparameter, Loss, Metric, Reference

SMOOTHING = Hyperparameter(name="smoothing", label="label smoothing", default=0.05, below_one=True)
"""Weight that a label gives away; 0.05 in the paper."""

LOSSES: Mapping[str, Loss] = {
    row.name: row
    for row in (
        Loss(
            name="cross-entropy",
            label="cross-entropy",
            targets="classes",
            function="trainables.losses:cross_entropy",
            parameters=(SMOOTHING.name,),
        ),
        Loss(
            name="bce",
            label="binary cross-entropy",
            targets="binary",
            function="trainables.losses:bce",
            parameters=(SMOOTHING.name,),
        ),
        *(
            Loss(
                name=f"focal-{gamma:g}",
                label=f"focal, γ = {gamma:g}",
                targets="classes|binary",
                function="trainables.losses:focal",
                values={"gamma": gamma},
            )
            for gamma in (0.5, 2.0, 5.0)
        ),
    )
}
"""Focal losses have the γ of the paper's Table 5; another γ is a row of its own, so that it is never selected over."""

METRICS: Mapping[str, Metric] = {
    row.name: row
    for row in (
        Metric(name="accuracy", label="accuracy", direction="maximize", unit="%"),
        Metric(name="accuracy@5", label="top-5 accuracy", direction="maximize", unit="%"),
        Metric(name="hr@10", label="HR@10", direction="maximize", unit="%"),
        Metric(name="ndcg@10", label="NDCG@10", direction="maximize", unit="%"),
        Metric(name="auc", label="AUC", direction="maximize", unit="%"),
    )
}

REFERENCES: Mapping[str, Reference] = {
    row.name: row
    for row in (
        Reference(
            name="itempop",
            label="ItemPop",
            summary="items ranked by their number of training and validation interactions, nothing is trained",
        ),
    )
}

ECE_BINS = 15
"""Equal-width bins of confidence in an expected calibration error and its reliability diagram (our choice)."""
