"""The page on methods, made from their rows: `python -m trainables.catalogue.page > docs/methods.md`."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.losses import ECE_BINS, LOSSES, METRICS
from trainables.catalogue.methods import METHODS
from trainables.catalogue.rows import Loss, Method

HEAD = """# Methods, losses and measures

Each row is a row of the catalogue ([`methods.py`](../trainables/catalogue/methods.py),
[`losses.py`](../trainables/catalogue/losses.py)); this page is generated from them.

g is the gradient, r the direction of the rule: b ← μ·b + g for SGD, m̂/(√v̂ + ε) for Adam and LAMB. η is the learning
rate, λ the weight decay, P d = d − (wᵀd/|w|²)·w removes the part of d along a tensor w, n(x) = x/|x|, and c is the norm
that a tensor had when its control began: after `free_epochs`, or at the first step. Tensors of one dimension are free
of norms and bounds.

Every method also has `peak_lr` and `warmup_epochs`. Hyperparameters with a value here have it where a grid leaves them
out; the others must be in the grid.

## Methods

| method | step | hyperparameters | source | our choice | compared with |
| --- | --- | --- | --- | --- | --- |
"""

FACES = """
## In a training script

`free_steps` counts the steps of the free phase; 0 constrains from the first step ([README](../README.md)).

| method | torch optimizer |
| --- | --- |
"""

LOSS_HEAD = """
## Losses

`loss` of a space names one. Parameters are set by the row, or by a method that lists them; `flood_level` works with
every loss.

| loss | targets | parameters |
| --- | --- | --- |
"""

MEASURES = """
## Measures

`metric` of a space names one of its data set's. A tie counts against the positive in ranks and top-k accuracy, and
as half in AUC, which is the mean over users of the share of candidates ranked below the positive.

| metric | | data sets |
| --- | --- | --- |
"""

FLATTENING = """
Every epoch also records the loss, the gradient norm, norms of weights and quantiles of the logit margin;
classifiers have the expected calibration error with {bins} bins.

With `--flattening`, a launch measures **loss flattening** (paper §2.2) after each epoch, on a fixed sample of
training examples and in evaluation mode ([`flattening.py`](../trainables/training/flattening.py)): the share of
examples with a loss below 1e-3 (`flat_share`), the gradient norm (`flat_grad_norm`), trace and largest eigenvalue
of the covariance Σ of the examples' gradients (`noise_trace`, `noise_top`), the largest eigenvalue of the Hessian H
(`hessian_top`), and λ_max of (I − η·H)² + η²·(m − B)/(B·(m − 1))·Σ (`escape`), which the paper gives as a rough
guide: SGD can leave a minimum where it exceeds 1. The sample has at most 512 examples, eigenvalues come from 10
Lanczos steps, the trace from 8 random vectors (our choice). Results and keys of trials do not depend on it. It takes
about two seconds for each epoch of a trial of `digits` on a CPU core, and one of `movielens-100k`.
"""


def page() -> str:
    """Returns the text of `docs/methods.md`."""
    return "".join(
        [
            HEAD,
            *(_row(_method(row)) for row in METHODS.values()),
            FACES,
            *(_row((f"`{row.name}`", f"`{row.face}`")) for row in METHODS.values() if row.face),
            LOSS_HEAD,
            *(_row(_loss(row)) for row in LOSSES.values()),
            MEASURES,
            *(_row((f"`{name}`", row.label, ", ".join(_data_sets(name)))) for name, row in METRICS.items()),
            FLATTENING.format(bins=ECE_BINS),
        ]
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _method(row: Method) -> tuple[str, ...]:
    tuned = [item for role in ("control", "loss", "rule") for item in _hyperparameters(row, role)]
    baseline = f"`{row.baseline}`" if row.baseline else ""
    return f"`{row.name}`", row.formula, ", ".join(tuned), row.source, row.choice, baseline


def _hyperparameters(row: Method, role: str) -> list[str]:
    defaults = row.hyperparameters
    names = [hyperparameter.name for kind, hyperparameter in row.roles() if kind == role]
    return [f"`{name}`" if defaults[name] is None else f"`{name}` = {defaults[name]:g}" for name in names]


def _loss(row: Loss) -> tuple[str, ...]:
    values = [f"`{name}` = {value:g}" for name, value in row.values.items()]
    return f"`{row.name}`", row.targets.replace("|", " or "), ", ".join([*values, *(f"`{x}`" for x in row.parameters)])


def _data_sets(metric: str) -> list[str]:
    return [f"`{name}`" for name, row in DATASETS.items() if metric in row.metrics]


if __name__ == "__main__":
    print(page(), end="")
