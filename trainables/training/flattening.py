"""Loss flattening: how small losses, gradients, their noise and the curvature have become (paper §2.2, Appendix C).

All of the mean loss over the workload's fixed sample of training examples, with the loss that is trained, not flooded,
and in evaluation mode, so that BatchNorm does not couple the examples. Nothing here changes a trial's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from trainables.training.pack import Pack
from trainables.workloads.base import Batch, Workload

FLAT = 1e-3
"""Loss below which an example counts as flat, nats (our choice)."""
STEPS = 10
"""Steps of the search for an eigenvalue; each keeps one vector as large as the weights."""
SIGNS = 8
"""Random vectors of the estimate of a trace, whose relative standard error is at most sqrt(2 / 8)."""
SEED = 100_004

Operator = Callable[[Tensor], Tensor]
"""A symmetric matrix, as the function that multiplies a vector [P] by it."""


class Surface:
    """The loss around the weights of one row: derivatives of the sample's losses, exact, without a matrix.

    Args:
        pack, row: whose weights.
        parts: the sample.
    """

    def __init__(self, pack: Pack, row: int, parts: Sequence[Batch]) -> None:
        self._pack, self._row, self._parts = pack, row, parts
        self.size, self.examples = pack.state.weights.shape[1], sum(part.examples for part in parts)
        self.device = pack.device

    def losses(self) -> Tensor:
        """Returns the loss of each example, [n]."""
        return torch.cat([losses.detach() for _, losses in self._graphs()])

    def gradient(self) -> Tensor:
        """Returns the gradient of the mean loss, [P]."""
        return self._sum(torch.autograd.grad(losses.sum(), w) for w, losses in self._graphs()) / self.examples

    def hessian(self, v: Tensor) -> Tensor:
        """Returns H·v, [P]."""
        return self._sum(self._curved(w, losses, v) for w, losses in self._graphs()) / self.examples

    def slopes(self, v: Tensor) -> Tensor:
        """Returns the slope of each example's loss along v, g_iᵀv, [n]."""
        return torch.cat([self._slopes(w, losses, v) for w, losses in self._graphs()])

    def noise(self, v: Tensor) -> Tensor:
        """Returns Σ·v, [P], with Σ = (1/n)·Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ, the covariance of the examples' gradients."""
        slopes = self.slopes(v)
        weights = iter(torch.split(slopes - slopes.mean(), [part.examples for part in self._parts]))
        graphs = self._graphs()
        return self._sum(torch.autograd.grad(losses, w, next(weights)) for w, losses in graphs) / self.examples

    def noise_trace(self) -> Tensor:
        """Returns an unbiased estimate of trace Σ = E[zᵀΣz] over random signs z (Hutchinson)."""
        generator = torch.Generator().manual_seed(SEED)
        signs = (torch.randint(2, (self.size,), generator=generator).to(self.device) * 2.0 - 1 for _ in range(SIGNS))
        return torch.stack([self.slopes(z).var(correction=0) for z in signs]).mean()

    def _graphs(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Yields the weights' tensors and each part's losses [B], as a graph that can be differentiated twice."""
        for part in self._parts:
            yield self._pack.losses_of(self._row, part.inputs, part.targets)

    def _slopes(self, w: list[Tensor], losses: Tensor, v: Tensor) -> Tensor:
        """The derivative of u ↦ (Σ_i u_i·g_i)ᵀv, since the graph has no forward mode."""
        u = torch.zeros_like(losses, requires_grad=True)
        pulled = torch.autograd.grad(losses, w, u, create_graph=True, materialize_grads=True)
        return torch.autograd.grad(_flat(pulled) @ v, u)[0]

    def _curved(self, w: list[Tensor], losses: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        slope = _flat(torch.autograd.grad(losses.sum(), w, create_graph=True, materialize_grads=True)) @ v
        if not slope.requires_grad:  # a linear loss
            return tuple(map(torch.zeros_like, w))
        return torch.autograd.grad(slope, w, materialize_grads=True)

    def _sum(self, parts: Iterator[Sequence[Tensor]]) -> Tensor:
        total = torch.zeros(self.size, device=self.device)
        for part in parts:
            total += _flat(part)
        return total


def flattening_series(pack: Pack, workload: Workload, rates: Tensor, batch_size: int) -> dict[str, Tensor]:
    """Returns the measures of loss flattening of every row, each [R].

    "flat_share" of examples with a loss below `FLAT`; "flat_grad_norm" |ḡ|; "noise_trace" and "noise_top", trace and
    largest eigenvalue of Σ; "hessian_top", the largest eigenvalue of H; "escape", see `escape`.

    Args:
        rates: η of each row, [R].
        batch_size: B, examples a step.
    """
    parts = list(workload.probe())
    rows = [
        _measured(Surface(pack, i, parts), float(rates[i]), batch_size, workload.examples) for i in range(pack.size)
    ]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _measured(surface: Surface, rate: float, batch_size: int, examples: int) -> dict[str, Tensor]:
    return {
        "flat_share": (surface.losses() < FLAT).float().mean(),
        "flat_grad_norm": surface.gradient().norm(),
        "noise_trace": surface.noise_trace(),
        "noise_top": top_eigenvalue(surface.noise, surface.size, surface.device),
        "hessian_top": top_eigenvalue(surface.hessian, surface.size, surface.device),
        "escape": top_eigenvalue(escape(surface, rate, batch_size, examples), surface.size, surface.device),
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
        for _ in range(2):  # once leaves what rounding puts back
            for known in basis:
                v = v - (v @ known) * known
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


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
