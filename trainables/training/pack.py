"""R models trained as one: parameters, buffers and optimizer state stacked along a leading axis of rows.

One flat tensor [R, P] holds every parameter, so an optimizer step is a few whole-tensor operations; the model sees
views of it. R = 1 is the same code with the vmap left out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from trainables import ranks
from trainables.catalogue.rows import FLOOD, LOGIT_FACTOR, Method
from trainables.losses import LossFn
from trainables.optimizers import rules
from trainables.optimizers.layers import layers_of
from trainables.tasks import GPU_CALL, LANES
from trainables.training.averages import Averages
from trainables.training.graphed import Graphs
from trainables.training.recorded import Recorded
from trainables.training.state import PackState
from trainables.training.updates import Update

if TYPE_CHECKING:
    from trainables.training.own_steps import OwnSteps

Tensors = dict[str, Tensor]


class Pack:
    """The stacked models with their optimizer.

    Args:
        models: one initialised model a row, all of one architecture, on the CPU.
        method: its rule, its control, and the parameters of the loss that it sets.
        hyper: hyperparameters of the method but for its schedule and switch, each float64 [R, 1]; with the peak
            learning rate for a torch optimizer class.
        loss: outputs, targets and parameters → loss of each example [B].
        constrain: which tensors a control holds that names none itself, see `layers_of`.
        device: where it all lives.
        precision: "float32", or "bfloat16" for autocast around the forward pass of training; weights, state and
            `predict` stay fp32.

    `own` makes the steps where the rule of the method is a torch optimizer class, of one row alone.

    While `watch` is a function of outputs and targets that returns each example's margin [B], `margins` [R] holds the
    median margin of each row's last batch before its step, of micro-batches their weighted mean; else 0.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        method: Method,
        hyper: Mapping[str, Tensor],
        loss: LossFn,
        *,
        constrain: str,
        device: torch.device,
        precision: str = "float32",
    ) -> None:
        first = models[0]
        self.names = [name for name, _ in first.named_parameters()]
        self.shapes = [parameter.shape for _, parameter in first.named_parameters()]
        final = getattr(first, "final_layers", ())
        tables = {f"{name}.weight" for name, module in first.named_modules() if isinstance(module, nn.Embedding)}
        constrain = (method.control.tensors if method.control else "") or constrain
        self.layers = layers_of(zip(self.names, self.shapes, strict=True), constrain, final, tables)
        self.gamma_names = frozenset(
            f"{prefix}.weight" for prefix, module in first.named_modules() if isinstance(module, _BatchNorm)
        )
        self.method, self.loss, self.device, self.precision = method, loss, device, precision
        self.hyper = {name: value.to(device) for name, value in hyper.items()}
        self._loss_names = [name for name in method.names("loss") if name != FLOOD]
        self.graphs = Graphs(device)
        self._moves = Update(method, self.hyper, self.layers, self.graphs)
        self.control = self._moves.control
        self._training = copy.deepcopy(first).to(device).train()
        if precision == "bfloat16":
            _normalize_in_fp32(self._training)
        self._evaluating = copy.deepcopy(first).to(device).eval()
        self.state = self._first_state(models)
        self._viewed: Tensor | None = None
        self._whole: list[Tensor] = []
        self.own = self._own_steps()
        self.grad_norm = torch.zeros(len(models), device=device)
        self.watch: Callable[[Tensor, Tensor], Tensor] | None = None
        self._phases = [False] * len(models)
        self._averages = Averages(first)
        self._lanes: dict[int, list[Tensor]] = {}
        self._count = 1
        self._loss = self.margins = torch.zeros(len(models), device=device)
        self._gradients = self._recorded()

    def _first_state(self, models: Sequence[nn.Module]) -> PackState:
        weights = torch.stack([flatten(model.parameters()) for model in models]).to(self.device)
        return PackState(
            weights=weights,
            slots=rules.init_state(self._moves.rule, weights, self.control, self.layers),
            buffers=stack_buffers(models, self.device),
            step=torch.zeros(len(models), 1, dtype=torch.int64, device=self.device),
            constrained=torch.zeros(len(models), 1, dtype=torch.bool, device=self.device),
            radii=torch.zeros(len(models), len(self.layers), dtype=weights.dtype, device=self.device),
        )

    def _recorded(self) -> dict[tuple[bool, bool], Recorded]:
        """Returns `_losses_and_gradients` by whether rows share the batch, and whether margins are wanted."""
        fixed = len(self.names) + len(self.state.buffers)
        buffers, lasting = slice(len(self.names), fixed), slice(None if self.own else 2)
        return {
            (shared, watched): Recorded(
                partial(self._losses_and_gradients, shared, watched),
                buffers,
                self.graphs.runner(fixed, buffers, lasting),
            )
            for shared, watched in product((False, True), repeat=2)
        }

    @property
    def size(self) -> int:
        """R, the number of rows."""
        return self.state.weights.shape[0]

    def end(self) -> None:
        """Makes no step any more: gives the memory of graphs back, and ends the only cycle of references to itself."""
        self.graphs.forget()
        self._gradients.clear()

    def select(self, source: Sequence[int]) -> None:
        """Makes row i a copy of row `source[i]`, hyperparameters included."""
        if list(source) == list(range(self.size)):
            return
        self.graphs.forget()
        self._viewed, self._whole = None, []
        index = torch.tensor(source, device=self.device, dtype=torch.long)
        self.state = self.state.select(source)
        self.hyper = {name: value[index] for name, value in self.hyper.items()}
        self.grad_norm = self.grad_norm[index]
        self._phases = [self._phases[i] for i in source]

    def constrain(self, rows: Sequence[int]) -> None:
        """Starts the constrained phase of `rows`: c is read once; moments and step start afresh (not under CPR)."""
        state, index = self.state, torch.tensor(rows, device=self.device, dtype=torch.long)
        state.radii[index] = rules.radii_of(state.weights[index], self.layers)
        state.constrained[index] = True
        if self.control.resets:
            state.step[index] = 0
            for slot in state.slots.values():
                slot[index] = 0
        if self.own:
            self.own.constrain(self._row())
        self.note_phases()

    def note_phases(self) -> None:
        """Copies the rows' phases to the host, once a switch or a load, so that steps need not ask the device."""
        self._phases = [bool(phase) for phase in self.state.constrained.flatten().tolist()]

    def gradients(
        self,
        inputs: tuple[Tensor, ...],
        targets: Tensor,
        shared: bool,
        share: float = 1.0,
        index: int = 0,
        count: int = 1,
    ) -> None:
        """Adds a micro-batch's part to the gradients of the step that `apply` takes.

        Args:
            inputs, targets: one micro-batch for all rows [B, ...] if `shared`, else one a row [R, B, ...].
            share: its part of the whole batch's examples, in (0, 1].
            index, count: which of the step's micro-batches it is, from 0.
        """
        parameters, buffers = self._loss_parameters().values(), self.state.buffers
        if count > 1:
            buffers = self._averages.of_part(buffers)
        parts = self._gradients[shared, self.watch is not None](
            [*self._views(), *buffers.values(), *parameters, *inputs, targets]
        )
        if share != 1.0 or count > 1:  # new tensors, as the next micro-batch may overwrite the gradients
            parts = list(torch._foreach_mul(parts, share))
        if count > 1:
            parts += self._averages.terms(buffers, self.state.buffers, later=count - 1 - index)
        lane, self._count = index % LANES, count
        self._lanes[lane] = list(torch._foreach_add(self._lanes[lane], parts)) if lane in self._lanes else parts

    def apply(self, lr: Tensor) -> Tensor:
        """Takes one step of every row along the gradients since the last one.

        Args:
            lr: learning rate of each row, float64 [R, 1].

        Returns:
            Each row's mean loss over the whole batch before the step, not flooded, [R], detached.
        """
        self._loss, self.margins, *parts = self._summed()
        if FLOOD in self.hyper:  # d/dw (abs(L - b) + b) = sign(L - b) dL/dw, with L of the whole batch
            above = torch.where(self._loss < self.hyper[FLOOD].flatten(), -1.0, 1.0)
            parts = [part * above.view(-1, *([1] * (part.dim() - 1))) for part in parts]
        self.state.step += 1
        self._update(parts, lr)
        return self._loss

    def _summed(self) -> list[Tensor]:
        """Returns losses [R], margins [R] and gradients of the whole step, and updates the running statistics."""
        lanes, self._lanes = self._lanes, {}
        if self._count == 1 and lanes:
            return lanes[0]
        rows, views = torch.zeros(self.size, device=self.device), self._views()
        nothing = [rows, rows, *map(torch.zeros_like, views), *self._averages.nothing(self.state.buffers, rows)]
        total = ranks.summed(lanes, nothing)
        own = 2 + len(views)
        self._averages.update(self.state.buffers, total[own:])
        return total[:own]

    def _losses_and_gradients(self, shared: bool, watched: bool, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns the losses [R] and median margins [R] of rows, and the gradients of their parameters.

        Args:
            shared: whether the rows share the batch.
            watched: whether the margins are wanted, else they are 0.
            tensors: the weights in order, the buffers, the loss's parameters [R], the inputs and the targets; nothing
                else is read.
        """
        views = [view.detach().requires_grad_() for view in tensors[: len(self.names)]]
        rest = tensors[len(self.names) :]
        buffers = dict(zip(self.state.buffers, rest, strict=False))
        parameters = dict(zip(self._loss_names, rest[len(buffers) :], strict=False))
        *inputs, targets = rest[len(buffers) + len(parameters) :]

        def mean_loss(
            weights: Tensors, rows: tuple[Tensors, Tensors], batch: tuple[Tensor, ...], targets: Tensor
        ) -> Tensor:
            buffers, parameters = rows
            outputs = functional_call(self._training, (weights, buffers), batch)
            outputs, parameters = _attenuated(outputs, parameters)
            loss = self.loss(outputs, targets, **parameters).mean()
            return loss if self.watch is None else _with_median(loss, self.watch(outputs.detach(), targets))

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            losses = self._over_rows(mean_loss, views, (buffers, parameters), (tuple(inputs), targets), shared)
        losses, margins = losses.unbind(1) if watched else (losses, torch.zeros_like(losses))
        gradients = torch.autograd.grad(losses.sum(), views, materialize_grads=True)
        return [losses, margins, *(gradient.contiguous() for gradient in gradients)]

    def predict(self, *inputs: Tensor) -> Tensor:
        """Returns the outputs [R, B, ...] of all rows in evaluation mode on one shared batch.

        In fp32 whatever the precision of training: in bf16 the scores of a model whose outputs differ by less than one
        part in 256 tie, and a tie is a miss.
        """

        parameters = self._loss_parameters()

        def outputs(weights: Tensors, rows: tuple[Tensors, Tensors], batch: tuple[Tensor, ...]) -> Tensor:
            buffers, parameters = rows
            return _attenuated(functional_call(self._evaluating, (weights, buffers), batch), parameters)[0]

        def of(rows: slice) -> tuple[Tensors, Tensors]:
            return self._buffers(rows), {name: value[rows] for name, value in parameters.items()}

        # Row by row on a CPU: without gradients there is little to share, and one model's activations fit the cache.
        at_once = 1 if self.device.type == "cpu" else max(1, GPU_CALL // len(inputs[0]))
        with torch.no_grad():
            parts = [
                self._over_rows(outputs, self._views_of(rows), of(rows), (inputs,), shared=True)
                for rows in (slice(row, row + at_once) for row in range(0, self.size, at_once))
            ]
        return torch.cat(parts)

    def losses_of(self, row: int, inputs: tuple[Tensor, ...], targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Returns copies of a row's tensors, and the loss of each example [B] as a function of them, not flooded.

        In evaluation mode and fp32, whatever the training.
        """
        rows = slice(row, row + 1)
        views = [view[0].clone().requires_grad_() for view in self._views_of(rows)]
        weights = dict(zip(self.names, views, strict=True))
        outputs = functional_call(self._evaluating, (weights, _first(self._buffers(rows))), inputs)
        parameters = {name: value[row] for name, value in self._loss_parameters().items()}
        outputs, parameters = _attenuated(outputs, parameters)
        return views, self.loss(outputs, targets, **parameters)

    def sizes(self) -> Tensor:
        """Returns |w|²/2 of every row, over the tensors that the control may hold, [R], in fp64."""
        radii = rules.radii_of(self.state.weights, self.layers)
        return radii.double().square().sum(dim=1) / 2

    def layer_norms(self) -> Tensor:
        """Returns the Frobenius norm of every parameter tensor, [R, number of tensors], fp32."""
        return torch.stack([view.flatten(1).norm(dim=1) for view in self._views()], dim=1)

    def _views(self) -> list[Tensor]:
        """The parameters of all rows, each [R, ...]; made again where the weights have moved."""
        if self._viewed is not self.state.weights:
            self._viewed, self._whole = self.state.weights, self._views_of(slice(None))
        return self._whole

    def _views_of(self, rows: slice) -> list[Tensor]:
        weights = self.state.weights.detach()[rows]
        parts = weights.split_with_sizes([math.prod(shape) for shape in self.shapes], dim=1)
        return [part.view(len(weights), *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _row(self) -> tuple[Tensor, ...]:
        """The parameters of a pack of one row, as views."""
        return tuple(view[0] for view in self._views())

    def _buffers(self, rows: slice) -> Tensors:
        return {name: buffer[rows] for name, buffer in self.state.buffers.items()}

    def _over_rows(
        self,
        function: Callable[..., Tensor],
        views: Sequence[Tensor],
        rows: Any,
        batch: tuple[Any, ...],
        shared: bool,
    ) -> Tensor:
        """Maps a function of one model's weights, other numbers and batch over rows; one row needs no vmap."""
        weights = dict(zip(self.names, views, strict=True))
        if len(views[0]) == 1:
            alone: Tensor = function(_first(weights), _first(rows), *(batch if shared else _first(batch)))
            return alone.unsqueeze(0)
        dims = (0, 0, *(None if shared else 0 for _ in batch))
        mapped: Tensor = torch.vmap(function, in_dims=dims)(weights, rows, *batch)
        return mapped

    def _update(self, gradients: Sequence[Tensor], lr: Tensor) -> None:
        if self.own:
            self.grad_norm = torch.cat([part.flatten() for part in gradients]).norm().unsqueeze(0)
            self.own.step(self._row(), _first(tuple(gradients)), float(lr))
            return
        held = all(self._phases) or (None if any(self._phases) else False)
        self.grad_norm = self._moves.step(self.state, self.hyper, gradients, lr, held)

    def _loss_parameters(self) -> Tensors:
        """Returns the parameters of the loss by name, each [R] in fp32; the logits' factor is 1 before the switch."""
        values = {name: self.hyper[name].flatten().float() for name in self._loss_names}
        if LOGIT_FACTOR in values:
            values[LOGIT_FACTOR] = torch.where(self.state.constrained.flatten(), values[LOGIT_FACTOR], 1.0)
        return values

    def _own_steps(self) -> OwnSteps | None:
        if not self.method.rule.optimizer:
            return None
        from trainables.training.own_steps import OwnSteps  # brings NumPy, which torch itself does not need

        values = {name: float(value[0]) for name, value in self.hyper.items()}
        return OwnSteps(self.method, values, self._row(), self.layers)


def flatten(parameters: Iterable[Tensor]) -> Tensor:
    """Returns all parameters as one vector [P], in fp32."""
    return torch.cat([parameter.detach().reshape(-1).float() for parameter in parameters])


def stack_buffers(models: Sequence[nn.Module], device: torch.device) -> Tensors:
    """Returns the models' buffers by name, each stacked to [R, ...]."""
    rows = [dict(model.named_buffers()) for model in models]
    return {name: torch.stack([row[name] for row in rows]).to(device) for name in rows[0]}


def _normalize_in_fp32(net: nn.Module) -> None:
    """Makes batch normalization of stacked models compute in fp32 whatever it is given, and return that dtype.

    `torch.vmap` takes the scale out of it, and without one CUDA's backward pass refuses bf16 with fp32 statistics.
    """
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_in_fp32, module.forward)  # type: ignore[method-assign]


def _in_fp32(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x.float()).to(x.dtype) if torch._C._functorch.is_batchedtensor(x) else function(x)


def _attenuated(outputs: Tensor, parameters: Tensors) -> tuple[Tensor, Tensors]:
    """Returns the outputs times the logits' factor, if there is one, and the other parameters of the loss."""
    if LOGIT_FACTOR not in parameters:
        return outputs, parameters
    others = {name: value for name, value in parameters.items() if name != LOGIT_FACTOR}
    return outputs * parameters[LOGIT_FACTOR], others


def _with_median(loss: Tensor, margins: Tensor) -> Tensor:
    """Returns a mean loss and the lower median of margins [B] as one tensor [2]; a sort is deterministic on GPUs."""
    return torch.stack([loss, margins.sort(dim=0).values[(len(margins) - 1) // 2].to(loss.dtype)])


def _first(value: Any) -> Any:
    """Takes the one row of a tensor, or of every tensor in a dict or tuple, so that the way back is a view as well."""
    if isinstance(value, dict):
        return {name: _first(tensor) for name, tensor in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_first, value))
    return value.squeeze(0)
