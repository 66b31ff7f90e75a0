"""Lawn: the two phases around any first-order torch optimizer, as an optimizer of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainables.optimizers import rules
from trainables.optimizers.phases import HALF, TwoPhase, gradients_of, one_layer, reject_decay


class Lawn(TwoPhase):
    """LAWN over `base`: in the constrained phase the base sees projected gradients, and its move is projected too.

        g ← P g        w' = base step with g        w ← c · n(w − P(w − w'))

    Algorithm 1 with lines 5-8 and 10 left to the base: its displacement is η·r. Param groups are the base's own, so
    learning-rate schedulers take either; a group's `constrained` overrules "two or more dimensions". The base's state
    stays its own and is cleared at the switch. `p.grad` is the same tensor, unchanged, after a step as before.

    Args:
        base: a torch optimizer without weight decay that makes one update a step.
        free_steps: steps before the switch; 0 from the start, None when the loop calls `constrain()`.

    Raises:
        TypeError: base is no torch optimizer.
        ValueError: base has weight decay, half-precision parameters, state that it cannot make anew, or LAWN already.

    Source: Algorithm 1, §3 "stacked onto any gradient-based optimizer".
    """

    def __init__(self, base: Optimizer, free_steps: int | None = None) -> None:
        if not isinstance(base, Optimizer):
            raise TypeError(f"Lawn needs a torch.optim.Optimizer as base, got {type(base).__name__}")
        _reject_unsuitable(base)
        self.base = base
        super().__init__(base.param_groups, base.defaults, free_steps)
        self.param_groups = base.param_groups
        if self.constrained:
            self._forget()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the base; in the constrained phase its norms are read at the next step."""
        reject_decay(self, self.base.defaults | param_group)
        params = param_group["params"]
        param_group["params"] = [params] if isinstance(params, Tensor) else list(params)
        _reject_half(param_group["params"])
        if self.base.param_groups is not self.param_groups:
            return super().add_param_group(param_group)  # the base's own groups, shown to torch once by __init__
        self.base.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Returns the phase and the stored norms, and under "base" the base's own state dictionary."""
        return super().state_dict() | {"base": self.base.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores both, into this optimizer and its base."""
        super().load_state_dict(state_dict)
        self.base.load_state_dict(state_dict["base"])
        self.param_groups = self.base.param_groups

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"base": self.base}

    def _forget(self) -> None:
        self.base.state.clear()

    def _advance(self) -> None:
        for group in self.param_groups:
            reject_decay(self, group)
        gradients = {p: grad for p, grad in gradients_of(self).items() if "radius" in self.state[p]}
        before = {p: p.detach().clone() for p in gradients}
        with _lent({p: self._projected(p, grad) for p, grad in gradients.items()}):
            self.base.step()
        for p, w in before.items():
            self._pull_back(p, w)

    def _projected(self, p: Tensor, grad: Tensor) -> Tensor:
        w, held = p.detach().reshape(-1), self.state[p]["radius"] > 0
        flat = rules.project(grad.reshape(-1), w, one_layer(w), held)  # line 4
        return torch.empty_like(grad).copy_(flat.view(p.shape))  # the base may count on the gradient's strides

    def _pull_back(self, p: Tensor, before: Tensor) -> None:
        """Replaces the base's move from `before` by its tangential part, and brings p back to its norm."""
        w, radius = before.reshape(-1), self.state[p]["radius"]
        layers, held = one_layer(w), radius > 0
        r = rules.project(w - p.detach().reshape(-1), w, layers, held)  # line 9
        moved = torch.where(held, w - r, p.detach().reshape(-1))  # line 10
        p.copy_(rules.rescale(moved, layers, held, radius).view(p.shape))  # line 11


def _reject_unsuitable(base: Optimizer) -> None:
    if isinstance(base, TwoPhase):
        raise ValueError(f"{type(base).__name__} is under LAWN already: use it as it is")
    if isinstance(base, torch.optim.LBFGS):
        raise ValueError("Lawn needs a base that makes one update from one gradient, got LBFGS, which makes several")
    if any("step" in state and state["step"] == 0 for state in base.state.values()):
        raise ValueError(
            f"{type(base).__name__} makes its state when it is built, so it cannot be reset at the switch; Lawn "
            "needs a base that makes it at its first step, as SGD, Adam, AdamW, NAdam, RAdam and RMSprop do"
        )


def _reject_half(params: Iterable[Any]) -> None:
    for entry in params:
        p = entry[1] if isinstance(entry, tuple) else entry
        if getattr(p, "dtype", None) in HALF:
            raise ValueError(
                f"Lawn needs parameters of fp32 or more, as small steps vanish in half precision, got {p.dtype} for "
                f"shape {tuple(p.shape)}; train under autocast, or use AdamLawn, which keeps fp32 master weights"
            )


@contextmanager
def _lent(gradients: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Lends other gradients to parameters and gives them back their own, the very tensors, whatever happens."""
    own = {p: p.grad for p in gradients}
    try:
        for p, g in gradients.items():
            p.grad = g
        yield
    finally:
        for p, grad in own.items():
            p.grad = grad
