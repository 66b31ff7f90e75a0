"""Whether a user's workload does what it should: one step of a few examples on the CPU, where errors have a text."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.catalogue.rows import ANY_LOSS
from trainables.tasks import Task
from trainables.workloads.own import OwnWorkload
from trainables.workloads.own_errors import WorkloadError, users

EXAMPLES = 8
"""Of the batch, besides those with the lowest and the highest target (our choice)."""


def own(found: object, task: Task, data_dir: Path, device: torch.device) -> OwnWorkload:
    """Returns a workload of a user's class, of which one step was taken.

    Raises:
        WorkloadError: it is not a class of a workload, lacks a function or cannot be built; or see `check`.
    """
    if not (isinstance(found, type) and issubclass(found, OwnWorkload)):
        raise WorkloadError("it must be a class that inherits from trainables.workloads.own.OwnWorkload")
    if missing := sorted(found.__abstractmethods__):
        raise WorkloadError(f"it must define {', '.join(f'{name}()' for name in missing)}")
    with users("__init__()", "task, data_dir and device; leave it out, or pass them to super().__init__"):
        workload = found(task, data_dir, device)
    check(workload, task)
    return workload


def check(workload: OwnWorkload, task: Task) -> None:
    """Takes a step of a workload.

    Raises:
        WorkloadError: a function raises, or what it returns has another form than `OwnWorkload` says.
    """
    with users("model()"), torch.random.fork_rng(devices=[]):
        model = workload.model()
    _check_model(model)
    inputs, targets = workload.batch(*workload.extreme_examples(EXAMPLES))
    targets, count = targets.cpu(), len(targets)
    with users("the model"):
        outputs = copy.deepcopy(model)(*(part.cpu() for part in inputs))
    if not isinstance(outputs, Tensor) or outputs.dim() == 0 or len(outputs) != count:
        raise WorkloadError(f"the model must return one tensor [B, ...], here with B = {count}, not {_shown(outputs)}")
    _check_loss(workload, task, outputs, targets)
    with users("metric()"):
        metric = workload.metric(outputs.detach(), targets)
    shapes = [(count,)] if isinstance(metric, Tensor) and metric.dtype == torch.bool else [(), (count,)]
    if not isinstance(metric, Tensor) or tuple(metric.shape) not in shapes:
        form = f"a tensor of each example [{count}], or a number of all []"
        raise WorkloadError(f"metric() must return {form}, not {_shown(metric)}")
    with users("margin()"):
        margin = workload.margin(outputs.detach(), targets)
    if not isinstance(margin, Tensor) or tuple(margin.shape) != (count,):
        raise WorkloadError(f"margin() must return one number an example [{count}], not {_shown(margin)}")


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module) or not list(model.parameters()):
        raise WorkloadError(f"model() must return a torch.nn.Module with parameters, not {_shown(model)}")
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise WorkloadError(f"parameter {name} has no shape yet: use a layer that is not lazy")
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            found = f"{parameter.dtype} on {parameter.device}"
            raise WorkloadError(f"model() must return a model in float32 on the CPU; parameter {name} is in {found}")
        if not parameter.requires_grad:
            raise WorkloadError(f"parameter {name} has requires_grad = False: every parameter is trained, use a buffer")
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and not buffer.isfinite().all():
            todo = "a trial diverges where one does; use a mask of True and False"
            raise WorkloadError(f"buffer {name} holds NaN or infinity: {todo}")


def _check_loss(workload: OwnWorkload, task: Task, outputs: Tensor, targets: Tensor) -> None:
    names = [name for name in task.method.names("loss") if name not in ANY_LOSS]
    batch = (
        f"outputs {tuple(outputs.shape)}, targets {tuple(targets.shape)} from {targets.min():g} to {targets.max():g}"
    )
    with users("loss()", batch):
        losses = workload.loss(outputs, targets, **{name: torch.tensor(0.1) for name in names})
    if not isinstance(losses, Tensor) or tuple(losses.shape) != (len(targets),):
        raise WorkloadError(f"loss() must return one number an example [{len(targets)}], not {_shown(losses)}; {batch}")
    if not losses.requires_grad:
        raise WorkloadError("loss() returns a tensor that does not depend on the model's parameters")
    if not losses.isfinite().all():
        raise WorkloadError(f"loss() is not finite at the initial weights: {losses.tolist()}")


def _shown(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"an object of type {type(value).__name__}"
