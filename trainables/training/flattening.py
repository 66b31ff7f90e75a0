"""Loss flattening: how small losses, gradients, their noise and the curvature have become (paper §2.2, Appendix C).

All of the mean loss over a fixed sample of training examples, with the loss that is trained, not flooded, and in
evaluation mode, so that BatchNorm does not couple the examples. Nothing here changes a trial's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.training.pack import Pack
from trainables.workloads.base import Batch, Workload

FLAT = 1e-3
"""Loss below which an example counts as flat, nats (our choice)."""
EXAMPLES = 512
"""Largest sample: its graph is kept while a row is measured (our choice)."""
STEPS = 10
"""Steps of the search for an eigenvalue; each keeps one vector as large as the weights."""
SIGNS = 8
"""Random vectors of the estimate of a trace, whose relative standard error is at most sqrt(2 / 8)."""
SEED = 100_004

Operator = Callable[[Tensor], Tensor]
"""A symmetric matrix, as the function that multiplies a vector [P] by it."""


@dataclass(frozen=True)
class _Part:
    """The graph of some examples' losses, which is built once and differentiated often.

    Args:
        w: the weights' tensors.
        losses: of each example, [B].
        u: ones, [B].
        pulled: Σ_i u_i·g_i, [P]: linear in u, and through the gradients g_i a function of w.
    """

    w: list[Tensor]
    losses: Tensor
    u: Tensor
    pulled: Tensor


class Surface:
    """The loss around the weights of one row: derivatives of the sample's losses, exact, without a matrix.

    Args:
        pack, row: whose weights.
        parts: the sample.
    """

    def __init__(self, pack: Pack, row: int, parts: Sequence[Batch]) -> None:
        self._parts = [_part(*pack.losses_of(row, part.inputs, part.targets)) for part in parts]
        self.losses = torch.cat([part.losses.detach() for part in self._parts])
        """Of each example, [n]."""
        self.gradient = torch.stack([part.pulled.detach() for part in self._parts]).sum(dim=0) / len(self.losses)
        """Of the mean loss, [P]."""

    def hessian(self, v: Tensor) -> Tensor:
        """Returns H·v, [P]."""
        return self._mean(
            torch.autograd.grad(part.pulled @ v, part.w, retain_graph=True, materialize_grads=True)
            for part in self._parts
        )

    def slopes(self, v: Tensor) -> Tensor:
        """Returns the slope of each example's loss along v, g_iᵀv, [n]: as a derivative by u."""
        return torch.cat([torch.autograd.grad(part.pulled @ v, part.u, retain_graph=True)[0] for part in self._parts])

    def noise(self, v: Tensor) -> Tensor:
        """Returns Σ·v, [P], with Σ = (1/n)·Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ, the covariance of the examples' gradients."""
        slopes = self.slopes(v)
        shares = torch.split(slopes - slopes.mean(), [len(part.losses) for part in self._parts])
        return self._mean(
            torch.autograd.grad(part.losses, part.w, share, retain_graph=True, materialize_grads=True)
            for part, share in zip(self._parts, shares, strict=True)
        )

    def noise_trace(self) -> Tensor:
        """Returns an unbiased estimate of trace Σ = E[zᵀΣz] over random signs z (Hutchinson)."""
        generator, (size,) = torch.Generator().manual_seed(SEED), self.gradient.shape
        signs = (torch.randint(2, (size,), generator=generator).to(self.gradient) * 2 - 1 for _ in range(SIGNS))
        return torch.stack([self.slopes(z).var(correction=0) for z in signs]).mean()

    def top(self, product: Operator) -> Tensor:
        """Returns the largest eigenvalue of a matrix over the weights."""
        return top_eigenvalue(product, len(self.gradient), self.gradient.device)

    def _mean(self, parts: Iterable[Sequence[Tensor]]) -> Tensor:
        return torch.stack([_flat(part) for part in parts]).sum(dim=0) / len(self.losses)


def _part(w: list[Tensor], losses: Tensor) -> _Part:
    u = torch.ones_like(losses, requires_grad=True)
    return _Part(w, losses, u, _flat(torch.autograd.grad(losses, w, u, create_graph=True, materialize_grads=True)))


def sample(workload: Workload) -> list[Batch]:
    """Returns a fixed choice of at most `EXAMPLES` of the workload's fixed sample, in parts for one call of a model."""
    parts, generator = list(workload.probe()), torch.Generator().manual_seed(SEED)
    inputs = [torch.cat(tensors) for tensors in zip(*(part.inputs for part in parts), strict=True)]
    targets = torch.cat([part.targets for part in parts])
    chosen = torch.randperm(len(targets), generator=generator)[:EXAMPLES].to(targets.device)
    cuts = torch.split(chosen, max(part.examples for part in parts))
    return [Batch(tuple(x[cut] for x in inputs), targets[cut], len(cut)) for cut in cuts]


def flattening_series(pack: Pack, workload: Workload, rates: Tensor, batch_size: int) -> dict[str, Tensor]:
    """Returns the measures of loss flattening of every row, each [R].

    "flat_share" of examples with a loss below `FLAT`; "flat_grad_norm" |ḡ|; "noise_trace" and "noise_top", trace and
    largest eigenvalue of Σ; "hessian_top", the largest eigenvalue of H; "escape", see `escape`.

    Args:
        rates: η of each row, [R].
        batch_size: B, examples a step.
    """
    parts = sample(workload)
    rows = [
        _measured(Surface(pack, i, parts), float(rates[i]), batch_size, workload.examples) for i in range(pack.size)
    ]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _measured(surface: Surface, rate: float, batch_size: int, examples: int) -> dict[str, Tensor]:
    return {
        "flat_share": (surface.losses < FLAT).float().mean(),
        "flat_grad_norm": surface.gradient.norm(),
        "noise_trace": surface.noise_trace(),
        "noise_top": surface.top(surface.noise),
        "hessian_top": surface.top(surface.hessian),
        "escape": surface.top(escape(surface, rate, batch_size, examples)),
    }


def escape(surface: Surface, rate: float, batch_size: int, examples: int) -> Operator:
    """Returns (I − η·H)² + η²·(m − B)/(B·(m − 1))·Σ: SGD can leave a minimum where its largest eigenvalue exceeds 1.

    "A rough guiding condition" by the paper's own words, and for SGD; it is at least 1 wherever a direction is flat.

    Args:
        rate: η.
        batch_size, examples: B and m, the size of the training data.

    Source: paper §2.2, after Wu et al. 2018.
    """
    batch = min(batch_size, examples)
    factor = rate**2 * (examples - batch) / (batch * max(examples - 1, 1))

    def product(v: Tensor) -> Tensor:
        once = v - rate * surface.hessian(v)
        twice = once - rate * surface.hessian(once)
        return twice + factor * surface.noise(v) if factor else twice

    return product


def top_eigenvalue(product: Operator, size: int, device: torch.device) -> Tensor:
    """Returns the largest eigenvalue of a symmetric matrix, from below, by Lanczos steps from a fixed random vector.

    Power iteration's vectors, used together: the largest value also where a negative one is larger in magnitude, and
    with fewer products (our choice).
    """
    start = torch.randn(size, generator=torch.Generator().manual_seed(SEED)).to(device)
    basis, diagonal, beside = [start / start.norm()], [], []
    while True:
        v = product(basis[-1])
        diagonal.append(v @ basis[-1])
        length = v.norm()
        v = _without(_without(v, basis), basis)  # once leaves what rounding puts back
        if len(basis) == min(STEPS, size) or v.norm() <= 1e-6 * length:
            break
        beside.append(v.norm())
        basis.append(v / beside[-1])
    matrix = torch.diag(torch.stack(diagonal))
    if beside:
        matrix = matrix + torch.diag(torch.stack(beside), 1) + torch.diag(torch.stack(beside), -1)
    if not matrix.isfinite().all():
        return torch.full((), torch.nan, device=device)
    found: Tensor = torch.linalg.eigvalsh(matrix.double().cpu())[-1]
    return found.to(matrix)


def _without(v: Tensor, basis: Sequence[Tensor]) -> Tensor:
    """Returns a vector without its parts along orthonormal ones."""
    for known in basis:
        v = v - (v @ known) * known
    return v


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
