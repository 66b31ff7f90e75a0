"""Steps of a pack of one row by a torch optimizer class, and what of it a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.catalogue.rows import Method
from trainables.optimizers.bases import plain_attributes
from trainables.optimizers.build import torch_optimizer
from trainables.optimizers.classes import OptimizerClassError, unused
from trainables.optimizers.lawn import Lawn
from trainables.optimizers.layers import Layer
from trainables.training.trees import packed, unpacked


class OwnSteps:
    """A torch optimizer over the weights of a row.

    Args:
        method: its rule names a class; its control, if there is one, is that of `Lawn` around it.
        values: its hyperparameters, and the peak learning rate.
        views: the weights of the row, a tensor for each parameter.
        layers: of the same parameters; which of them the control holds.

    Raises:
        OptimizerClassError: the class cannot be used, or has no argument for a hyperparameter.
    """

    def __init__(
        self, method: Method, values: Mapping[str, float], views: Sequence[Tensor], layers: Sequence[Layer]
    ) -> None:
        self._name = method.rule.optimizer
        if names := sorted(unused(method)):
            raise OptimizerClassError(
                f"optimizer class {self._name} has no argument {names[0]}; remove it from the grid"
            )
        self._params = [nn.Parameter(view.clone()) for view in views]
        self._method, self._values = method, values
        self._held = [layer.constrained for layer in layers]
        self._optimizer = self._made()

    def _made(self) -> Optimizer:
        """Returns a fresh optimizer; under a control, each parameter has a group that says whether it is held."""
        groups = [{"params": [p], "constrained": held} for p, held in zip(self._params, self._held, strict=True)]
        params = groups if self._method.control else self._params
        return torch_optimizer(self._method, self._values, params, free_steps=None)

    def constrain(self, views: Sequence[Tensor]) -> None:
        """Ends the free phase of the control, with the weights as they are."""
        assert isinstance(self._optimizer, Lawn)
        self._follow(views)
        self._optimizer.constrain()

    def step(self, views: Sequence[Tensor], gradients: Sequence[Tensor], lr: float) -> None:
        """Makes a step at a learning rate, in place.

        Args:
            views: the weights of the row, a tensor for each parameter.
            gradients: of the same shapes.
        """
        self._follow(views)
        for parameter, gradient in zip(self._params, gradients, strict=True):
            parameter.grad = gradient.contiguous()
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        try:
            self._optimizer.step()
        except SystemExit as error:
            raise RuntimeError(f"optimizer class {self._name} called sys.exit({error.code})") from error
        for parameter, view in zip(self._params, views, strict=True):
            parameter.grad = None
            if parameter.data_ptr() != view.data_ptr():  # some classes replace `data`
                view.copy_(parameter.detach())

    def _follow(self, views: Sequence[Tensor]) -> None:
        for parameter, view in zip(self._params, views, strict=True):
            parameter.data = view

    def saved(self, tensors: dict[str, Tensor]) -> Any:
        """Returns the optimizer's state as JSON; what it draws is seeded before each step, see `seed_step`.

        Args:
            tensors: receives the tensors by name.

        Raises:
            TypeError: the state holds what no file can.
        """
        state = {
            "optimizer": self._optimizer.state_dict(),
            "attributes": plain_attributes(_base(self._optimizer)),
        }
        return packed(state, f"state of optimizer class {self._name}", tensors, self._params[0].device)

    def load(self, tree: Any, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Puts a fresh optimizer into a saved state; if that fails, nothing has changed.

        Args:
            tree, tensors: see `saved`.
            device: of the weights.
        """
        state = unpacked(tree, tensors, device)
        fresh = self._made()
        fresh.load_state_dict(state["optimizer"])
        vars(_base(fresh)).update(state["attributes"])
        _restore_types(fresh, state["optimizer"])
        self._optimizer = fresh


def _base(optimizer: Optimizer) -> Optimizer:
    return optimizer.base if isinstance(optimizer, Lawn) else optimizer


def _restore_types(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Gives buffers the precision they were saved in: torch converts them to that of the weights."""
    numbers = [i for group in saved["param_groups"] for i in group["params"]]
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in zip(numbers, params, strict=True):
        state = optimizer.state.get(parameter, {})
        for name, value in saved["state"].get(number, {}).items():
            if isinstance(value, Tensor) and isinstance(state.get(name), Tensor) and state[name].dtype != value.dtype:
                state[name] = value.clone()
