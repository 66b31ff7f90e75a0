"""Training steps that benchmarks time: those of a pack, and of loops of plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.catalogue.methods import METHODS
from trainables.training.pack import Pack

HYPER = {"momentum": 0.9, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.01}
Batch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs and targets."""


@dataclass(frozen=True)
class Step:
    """A step of a pack, on the same batch at every call or on the next one."""

    pack: Pack
    inputs: tuple[Tensor, ...]
    targets: Tensor
    lr: Tensor
    batches: Callable[[], Batch] | None = None
    tf32: bool = False

    def __call__(self) -> Tensor:
        """Returns the losses [R] before it."""
        inputs, targets = self.batches() if self.batches else (self.inputs, self.targets)
        self.pack.gradients(inputs, targets, shared=True)
        return self.pack.apply(self.lr)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Those of training: deterministic operations, in memory that is not filled first."""
        matmul: Any = torch.backends.cuda.matmul
        deterministic: Any = torch.utils.deterministic
        before = matmul.allow_tf32, deterministic.fill_uninitialized_memory
        matmul.allow_tf32, deterministic.fill_uninitialized_memory = self.tf32, False
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)
            matmul.allow_tf32, deterministic.fill_uninitialized_memory = before


class Images:
    """Random square images in color on a device, channels last as those of training, in batches without an end.

    Args:
        count: images of an epoch.
        batch: those of a batch.
        device: where they are.
        pixels: the side of each.
        classes: number of labels.
    """

    def __init__(self, count: int, batch: int, device: torch.device, pixels: int = 32, classes: int = 10) -> None:
        images = torch.randn(count, 3, pixels, pixels, device=device)
        self._images = images.contiguous(memory_format=torch.channels_last)
        self._targets = torch.randint(classes, (count,), device=device)
        self._order = torch.randperm(count, device=device)
        self._size, self._start = batch, 0

    def next(self) -> Batch:
        """Returns the next batch; the last ones of an epoch, if too few, are left out."""
        if self._start + self._size > len(self._order):
            self._start = 0
        chosen = self._order[self._start : self._start + self._size]
        self._start += self._size
        return (self._images[chosen],), self._targets[chosen]


def pack_of(
    models: Sequence[nn.Module], loss: Any, device: torch.device, precision: str, name: str = "adam-lawn"
) -> Pack:
    """Returns a pack of a method, constrained if its control holds norms.

    Args:
        models: initialised, on the CPU.
        loss: outputs, targets → loss of each example.
        device, precision: of training.
        name: of the method.
    """
    method = METHODS[name]
    names = {*method.names("rule"), *method.names("control")} - {method.switch}
    hyper = {name: torch.full((len(models), 1), HYPER[name], dtype=torch.float64) for name in names}
    pack = Pack(models, method, hyper, loss, constrain="all", device=device, precision=precision)
    if pack.control.held:
        pack.constrain(range(len(models)))
    return pack


def step_of(pack: Pack, inputs: tuple[Tensor, ...], targets: Tensor) -> Step:
    """Returns the step of a pack on one batch."""
    lr = torch.full((pack.size, 1), 1e-3, dtype=torch.float64, device=pack.device)
    return Step(pack, inputs, targets, lr)


def channels_last(model: nn.Module, device: torch.device) -> nn.Module:
    """Returns a model on a device, its weights as convolutions of images with channels last want them."""
    return model.to(device).to(memory_format=torch.channels_last)


def plain_loop(model: Any, images: Images, norm: bool = False) -> Callable[[], list[Tensor]]:
    """Returns the step of a loop as people write it, with torch's fused AdamW: it returns the loss.

    Args:
        model: on the device of the images.
        images: whose next batch each step takes.
        norm: whether the norm of the gradient is computed and returned as well.
    """
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def step() -> list[Tensor]:
        (inputs,), targets = images.next()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        norms = [nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])] if norm else []
        optimizer.step()
        return [loss.detach(), *norms]

    return step
