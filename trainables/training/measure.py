"""What is measured of a pack after each epoch, one value a row (`config.SERIES`)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.tasks import Split
from trainables.training.pack import Pack
from trainables.workloads.base import Evaluation, Predict, Workload

MARGIN_QUANTILES = {"margin_p10": 0.1, "margin_p50": 0.5, "margin_p90": 0.9}


def weight_series(pack: Pack) -> dict[str, Tensor]:
    """Returns the global weight norm, the last layer's and the last BN gamma's (NaN without BN), each [R].

    The last layer is the last tensor of dim >= 2. With BN, LAWN bounds neither gamma nor the logits: hence the log.
    """
    norms = pack.layer_norms()
    matrices = [i for i, shape in enumerate(pack.shapes) if len(shape) >= 2]
    gammas = [i for i, name in enumerate(pack.names) if name in pack.gamma_names]
    missing = torch.full_like(pack.grad_norm, torch.nan)
    return {
        "grad_norm": pack.grad_norm,
        "weight_norm": norms.norm(dim=1),
        "last_layer_norm": norms[:, matrices[-1]] if matrices else missing,
        "last_bn_gamma_norm": norms[:, gammas[-1]] if gammas else missing,
    }


def margin_series(predict: Predict, workload: Workload) -> dict[str, Tensor]:
    """Returns quantiles [R] of the logit margin over the workload's fixed sample of training examples (paper §2.1)."""
    margin = torch.vmap(workload.margin, in_dims=(0, None))
    margins = torch.cat([margin(predict(*part.inputs), part.targets) for part in workload.probe()], dim=1)
    levels = torch.tensor(list(MARGIN_QUANTILES.values()), dtype=margins.dtype, device=margins.device)
    return dict(zip(MARGIN_QUANTILES, torch.quantile(margins, levels, dim=1), strict=True))


def metric_series(evaluation: Evaluation, split: Split) -> dict[str, Tensor]:
    """Returns "<split>/<metric>" values [R] of an evaluation."""
    return {f"{split}/{name}": values for name, values in evaluation.metrics.items()}
