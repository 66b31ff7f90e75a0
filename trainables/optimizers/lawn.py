"""Lawn: the two phases around any first-order torch optimizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainables.optimizers.bases import COUNTS, Start, reject_hidden_decay, reject_unsuitable
from trainables.optimizers.controls import LAWN, Control
from trainables.optimizers.lists import Sums
from trainables.optimizers.loading import HALF, check_shapes, fits_any
from trainables.optimizers.phases import (
    PHASE,
    UNREAD,
    Gradients,
    TwoPhase,
    checked_control,
    multipliers,
    reject_decay,
    with_phase,
)
from trainables.optimizers.scratch import Scratch
from trainables.optimizers.shards import local, sums_over
from trainables.optimizers.tangents import Tangents
from trainables.optimizers.weights import Weights

CACHED = 2**19
"""Weights of the tensors that a CPU works on at once (our choice)."""


class Lawn(TwoPhase):
    """LAWN over `base`: in the constrained phase the base receives projected gradients, and its move is projected.

        g ← P g        w' = base step with g        w ← c · n(w − P(w − w'))

    Algorithm 1 with lines 5-8 and 10 left to the base: its displacement is η·r. Param groups and state are the base's
    own, so learning-rate schedulers take either; a group's `constrained` overrules "two or more dimensions". The base's
    state is cleared at the switch. In the constrained phase `p.grad` is the same tensor, unchanged, after a step as
    before; in the free phase a base may write into `p.grad` as without LAWN. On a CPU, memory for a copy of the held
    weights stays allocated between constrained steps, and for one of their gradients around torch's own optimizers.

    Args:
        base: a torch optimizer without weight decay that makes one update per step.
        free_steps: steps before the switch; 0 from the start, None when the loop calls `constrain()`.
        control: applied to the weights after the switch (`controls`): LAWN, or one of its relatives.

    Raises:
        TypeError: base is not a torch optimizer.
        ValueError: base has weight decay, half-precision parameters, state it cannot rebuild, or is already under LAWN.

    Source: Algorithm 1, §3 "stacked onto any gradient-based optimizer".
    """

    def __init__(self, base: Optimizer, free_steps: int | None = None, control: Control = LAWN) -> None:
        if not isinstance(base, Optimizer):
            raise TypeError(f"Lawn needs a torch.optim.Optimizer as base, got {type(base).__name__}")
        if isinstance(base, TwoPhase):
            raise ValueError(f"{type(base).__name__} is already under LAWN: use it without Lawn")
        reject_unsuitable(base, (*PHASE, "constrained", COUNTS))
        for group in base.param_groups:  # from an earlier Lawn around the same base
            for key in (*PHASE, COUNTS):
                group.pop(key, None)
        self.base, self.control = base, checked_control(self, control)
        self._start = Start()
        self._kept: dict[Tensor, dict[str, Any]] = {}
        self._pending: dict[Tensor, dict[str, Any]] = {}
        self._copies, self._projected = Scratch(), Scratch()
        self._tangents: defaultdict[int, Tangents] = defaultdict(Tangents)
        super().__init__(base.param_groups, base.defaults, free_steps)
        self._link()
        self._start.record_new_groups(base)
        # Lawn shares the hooks of the base, so that each fires once, on whichever it was registered.
        self._optimizer_step_pre_hooks = base._optimizer_step_pre_hooks
        self._optimizer_step_post_hooks = base._optimizer_step_post_hooks
        if self.constrained:
            self._forget()

    def _link(self) -> None:
        self.state, self.param_groups = self.base.state, self.base.param_groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the base; in the constrained phase its norms are read at the next step."""
        reject_decay(self, self.base.defaults | param_group)
        reject_hidden_decay(type(self.base).__name__, self.base.defaults | param_group)
        params = param_group["params"]
        param_group["params"] = [params] if isinstance(params, Tensor) else list(params)
        _reject_half(param_group["params"])
        if self.param_groups is not self.base.param_groups:
            return super().add_param_group(param_group)  # the base's own groups, registered with torch once by __init__
        phase = {key: self.param_groups[0][key] for key in ("free_steps", "steps", "phase")}
        self.base.add_param_group({"constrained": None} | param_group | phase)
        self._start.record_new_groups(self.base)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state dictionary of the base, with "radius" (and "multiplier") next to its moments."""
        handle = self.register_state_dict_post_hook(lambda _, packed: self._with_kept(packed), prepend=True)
        try:
            return super().state_dict()
        finally:
            handle.remove()

    def _with_kept(self, packed: dict[str, Any]) -> dict[str, Any]:
        if _overrides(self.base, "state_dict"):  # some store counts next to "state", or pack their moments
            packed = packed | self.base.state_dict()
        entries = dict(packed["state"])
        for i, p in self._numbered(packed):
            # From the start and for every parameter: distributed loading fills only existing entries.
            if self.constrained or i in entries:
                entries[i] = entries.get(i, {}) | {"radius": UNREAD} | self._kept.get(p, {})
        return packed | {"state": entries}

    def _numbered(self, packed: Mapping[str, Any]) -> Iterator[tuple[Any, Tensor]]:
        saved = [i for group in packed["param_groups"] for i in group["params"]]
        yield from zip(saved, [p for group in self.param_groups for p in group["params"]], strict=False)

    def _readable(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        # Besides those of parameters, some optimizers have an entry of their own, which is kept as it is.
        entries = {i: dict(entry) if isinstance(entry, Mapping) else entry for i, entry in state_dict["state"].items()}
        if "base" in state_dict:  # versions before 2 stored the base's state separately
            for i, own in state_dict["base"]["state"].items():
                entries[i] = own | entries.get(i, {})
        state_dict = with_phase(self, state_dict) | {"state": entries}
        check_shapes(self, state_dict, fits_any)
        self._pending = {}
        for i, p in self._numbered(state_dict):
            entry = entries.get(i, {})
            if (radius := float(entry.pop("radius", UNREAD))) != UNREAD:
                self._pending[p] = {"radius": radius}
            if "multiplier" in entry:
                self._pending[p]["multiplier"] = entry.pop("multiplier").to(p.device, copy=True)
        return state_dict | {"state": {i: entry for i, entry in entries.items() if entry != {}}}

    def _loaded(self, state_dict: dict[str, Any]) -> None:
        if _overrides(self.base, "load_state_dict"):  # torch would round all to the parameter's dtype
            self.base.load_state_dict(state_dict)
            self._link()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "base": self.base,
            "control": self.control,
            "_kept": self._kept,
            "_start": self._start,
            "_pending": {},
            "_copies": Scratch(),
            "_projected": Scratch(),
            "_tangents": defaultdict(Tangents),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "base" in state:
            super().__setstate__(state)
        else:  # torch sets a loaded state
            self.base.__setstate__(state)
            self._keep(self._pending)
            self._start.known, self._start.seen = None, []
        self._link()

    def _forget(self) -> None:
        self._start.restore(self.base)
        self._keep({})

    def _keep(self, kept: Mapping[Tensor, dict[str, Any]]) -> None:
        """Replaces the stored numbers in place: a wrapper may have a copy of the attributes."""
        self._kept.clear()
        self._kept.update(kept)

    def _rewind(self) -> None:
        self._start.rewind(self.base)

    def _radius(self, p: Tensor) -> float | None:
        return self._kept[p]["radius"] if p in self._kept else None

    def _store(self, p: Tensor, radius: float) -> None:
        self._kept[p] = {"radius": radius}

    def _advance(self, gradients: Gradients) -> None:
        self._link()
        for group in self.param_groups:
            reject_decay(self, group)
            reject_hidden_decay(type(self.base).__name__, group)
        parts: list[_Part] = []
        gradients_seen: dict[Tensor, Tensor] = {}
        for part in self._held(gradients):
            gradients_seen |= part.projected(self.control)
            parts.append(part)
        if parts:  # a base that writes into gradients writes into these copies
            gradients_seen |= _copied({p: g for p, g in gradients.items() if p not in gradients_seen})
        with _temporary_gradients(gradients_seen):
            self._step_base()
        for part in parts:
            part.pull_back(self.control)

    def _held(self, gradients: Gradients) -> Iterator[_Part]:
        for i, group in enumerate(self.param_groups):
            held = [p for p in dict.fromkeys(group["params"]) if p in gradients and self._radius(p)]
            for sums, params in (found for alike in sums_over(held) for found in _parts(*alike)):
                own = list(map(local, params))
                before = Weights(
                    [self._copies.like(p, w) for p, w in zip(params, own, strict=True)],
                    [self._kept[p]["radius"] for p in params],
                    sums=sums,
                )
                torch._foreach_copy_(before.tensors, own)
                if self._borrows and own[0].device.type == "cpu":
                    before.memory = [self._projected.like(p, local(gradients[p])) for p in params]
                before.multiplier = multipliers(self.control, [self._kept[p] for p in params], params)
                lr = float(group.get("lr", 1)) or 1.0
                part = _Part(params, [gradients[p] for p in params], before, lr)
                lawn = self.control == LAWN and all(c > 0 for c in before.radius)
                if lawn and self._tangents[i].take(own, part.gradients):  # and so their copies
                    part.tangents = self._tangents[i]
                yield part

    @property
    def _borrows(self) -> bool:
        """Whether the base uses gradients in its step only, as torch's own do; others may keep references to them."""
        return type(self.base).__module__.startswith("torch.optim.")

    def _step_base(self) -> None:
        """Makes the base's step without torch's wrapper, whose hooks have already fired for Lawn."""
        step: Any = type(self.base).step
        inner = step.__wrapped__ if getattr(step, "hooked", False) else step
        with self._start.watching(self.base):
            inner(self.base)
        self.base._opt_called = True  # type: ignore[attr-defined]  # read by a scheduler of the base


@dataclass
class _Part:
    """Held parameters of one param group, device and precision in a step.

    Args:
        params: the parameters.
        gradients: their gradients.
        before: their weights before the step, as copies.
        lr: η of the group, 1 where it is 0 or the base has none.
        tangents: makes both parts of LAWN on a GPU; None for torch operations.
    """

    params: list[Tensor]
    gradients: list[Tensor]
    before: Weights
    lr: float
    tangents: Tangents | None = None

    def projected(self, control: Control) -> dict[Tensor, Tensor]:
        """Returns the gradient that the base sees for each parameter, with the strides of its own (line 4)."""
        w, own = self.before, [local(grad) for grad in self.gradients]
        projected = self.tangents.project(w.tensors, own, w.radius) if self.tangents else control.project(w, own)
        return {p: _like(grad, d) for p, grad, d in zip(self.params, self.gradients, projected, strict=True)}

    def pull_back(self, control: Control) -> None:
        """Replaces the base's move by that of the control (lines 9-11)."""
        w, moved = self.before, [local(p) for p in self.params]
        if self.tangents is not None and self.tangents.take(w.tensors, moved):
            self.tangents.replace(w.tensors, moved, w.radius)
        else:
            control.replace(w, moved, self.lr)


def _parts(sums: Sums, params: list[Tensor]) -> Iterator[tuple[Sums, list[Tensor]]]:
    """Yields all at once; on a CPU as many as stay in its cache from one operation to the next, or a larger one."""
    part: list[Tensor] = []
    size = 0
    for p in params:
        size += p.numel()
        if part and size > CACHED and p.device.type == "cpu" and sums.reduce is None:
            yield sums, part
            part, size = [], p.numel()
        part.append(p)
    yield sums, part


def _like(grad: Tensor, d: Tensor) -> Tensor:
    """Returns d as a tensor of the gradient's kind and strides that shares no memory with it."""
    if type(d) is type(grad) and d.dtype == grad.dtype and d.stride() == grad.stride() and d is not grad:
        return d
    copied = torch.empty_like(grad)
    local(copied).copy_(d)
    return copied


def _copied(gradients: Gradients) -> dict[Tensor, Tensor]:
    copies = [torch.empty_like(grad) for grad in gradients.values()]
    if copies:
        torch._foreach_copy_(list(map(local, copies)), list(map(local, gradients.values())))
    return dict(zip(gradients, copies, strict=True))


def _overrides(base: Optimizer, method: str) -> bool:
    return getattr(type(base), method) is not getattr(Optimizer, method)


def _reject_half(params: Iterable[Any]) -> None:
    for entry in params:
        p = entry[1] if isinstance(entry, tuple) else entry
        if getattr(p, "dtype", None) in HALF:
            raise ValueError(
                f"Lawn requires parameters of fp32 or more, as small steps vanish in half precision, got {p.dtype} for "
                f"shape {tuple(p.shape)}; train under autocast, or use AdamLawn, which keeps fp32 master weights"
            )


@contextmanager
def _temporary_gradients(gradients: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Sets other gradients inside the context; afterwards, also after an error, restores the original tensors."""
    own = {p: p.grad for p in gradients}
    try:
        for p, g in gradients.items():
            p.grad = g
        yield
    finally:
        for p, grad in own.items():
            p.grad = grad
