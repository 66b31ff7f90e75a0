"""Trains a pack from its first epoch, or from a checkpoint, to its last; the only training loop there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from trainables.config import OPTIMIZERS, SERIES, EpochRecord, PackConfig, Split, optimizer_config
from trainables.training.measure import margin_series, metric_series, weight_series
from trainables.training.pack import Pack, PackState
from trainables.training.rows import first_rows, row_of_member, split_rows, switch_step
from trainables.training.schedules import lr_factor
from trainables.training.seeding import epoch_generator, seeded_init
from trainables.workloads.base import Evaluation, Workload

SCHEDULED = frozenset({"peak_lr", "warmup_epochs", "free_epochs"})
"""Hyperparameters that the loop turns into rates and switches; the update rule takes all others."""


@dataclass
class Epoch:
    """What one epoch trains on, a row each; forks copy it like the pack.

    Args:
        examples: tensors of equal length, [N] if shared, else [R, N].
        shared: True when all rows have one seed and so one batch.
        rates: learning rates, float64 [R, steps].
        loss_sum: sum of the examples' losses so far, float64 [R].
    """

    examples: tuple[Tensor, ...]
    shared: bool
    rates: Tensor
    loss_sum: Tensor

    def select(self, source: Sequence[int]) -> None:
        """Makes row i a copy of row `source[i]`."""
        index = torch.tensor(source, device=self.rates.device, dtype=torch.long)
        self.rates, self.loss_sum = self.rates[index], self.loss_sum[index]
        if not self.shared:
            self.examples = tuple(part[index] for part in self.examples)


class Training:
    """A pack in training; advances by whole epochs, so that it can be saved and resumed between any two.

    Args:
        config: the pack.
        workload: its data and model, already on the device.
        device: where it trains.

    `measured` holds each split's evaluation after the last epoch, a row each.
    """

    def __init__(self, config: PackConfig, workload: Workload, device: torch.device) -> None:
        self.config, self.workload, self.device = config, workload, device
        self.epoch = 0
        self.records: list[EpochRecord] = []
        self.diverged: dict[int, int] = {}
        self.measured: dict[Split, Evaluation] = {}
        self.rows = first_rows(config.members)
        examples = self._draw(config.members[0].seed, epoch=0)[0].shape[-1]
        self.steps_per_epoch = math.ceil(examples / config.task.batch_size)
        self.total_steps = self.steps_per_epoch * config.task.epochs
        self.full = [asdict(optimizer_config(config.task.optimizer, m.hyperparameters)) for m in config.members]
        free = [values.get("free_epochs") for values in self.full]
        self.switch_steps = [switch_step(epochs, self.steps_per_epoch, self.total_steps) for epochs in free]
        self.pack = self._build_pack()

    @property
    def finished(self) -> bool:
        """True when no row is left to train."""
        return self.epoch >= self.config.task.epochs or not self.rows

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that can be measured: validation only while it is not trained on."""
        return ("validation", "test") if self.config.task.train_on == "train" else ("test",)

    @property
    def constrained_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that LAWN constrains after the switch; none for a base optimizer."""
        lawn = OPTIMIZERS[self.config.task.optimizer].lawn
        return tuple(layer.name for layer in self.pack.layers if layer.constrained and lawn)

    def run_epoch(self) -> EpochRecord:
        """Trains one epoch, drops the rows that diverged, measures the others and returns the record."""
        epoch = self._start_epoch()
        size = self.config.task.batch_size
        for index in range(self.steps_per_epoch):
            self._switch(self.epoch * self.steps_per_epoch + index, epoch)
            part = tuple(tensor[..., index * size : (index + 1) * size] for tensor in epoch.examples)
            inputs, targets = self.workload.batch(*part)
            rate = epoch.rates[:, index : index + 1]
            loss = self.pack.train_step(inputs, targets, epoch.shared, rate)
            epoch.loss_sum += loss * part[0].shape[-1]
        self.epoch += 1
        self._drop_diverged(epoch)
        record = EpochRecord(epoch=self.epoch, series=self._measure(epoch) if self.rows else self._nothing())
        self.records.append(record)
        return record

    def _build_pack(self) -> Pack:
        models = {}
        for seed in {member.seed for member in self.config.members}:
            with seeded_init(seed):
                models[seed] = self.workload.build_model()
        leaders = [row.members[0] for row in self.rows]
        names = self.full[0].keys() - SCHEDULED
        hyper = {name: self._column([self.full[leader][name] for leader in leaders]) for name in names}
        task = self.config.task
        return Pack(
            [models[self.config.members[leader].seed] for leader in leaders],
            OPTIMIZERS[task.optimizer].rule,
            hyper,
            self.workload.loss,
            constrain=task.constrain,
            device=self.device,
            precision=task.precision,
        )

    def _start_epoch(self) -> Epoch:
        seeds = [self.config.members[row.members[0]].seed for row in self.rows]
        drawn = {seed: self._draw(seed, self.epoch) for seed in dict.fromkeys(seeds)}
        shared = len(drawn) == 1
        examples = drawn[seeds[0]] if shared else tuple(map(torch.stack, zip(*(drawn[s] for s in seeds), strict=True)))
        return Epoch(examples, shared, self._rates(), torch.zeros(len(self.rows), device=self.device).double())

    def _draw(self, seed: int, epoch: int) -> tuple[Tensor, ...]:
        return self.workload.epoch(epoch_generator(seed, epoch))

    def _rates(self) -> Tensor:
        leaders = [self.full[row.members[0]] for row in self.rows]
        first = self.epoch * self.steps_per_epoch
        steps = torch.arange(first, first + self.steps_per_epoch)
        warmup = self._column([values["warmup_epochs"] * self.steps_per_epoch for values in leaders])
        peak = self._column([values["peak_lr"] for values in leaders])
        return (peak * lr_factor(self.config.task.schedule, steps, warmup, self.total_steps)).to(self.device)

    def _switch(self, step: int, epoch: Epoch) -> None:
        due = [member for member, at in enumerate(self.switch_steps) if at == step]
        if not due:
            return
        split = split_rows(self.rows, due)
        self.rows = split.rows
        self.pack.select(split.source)
        epoch.select(split.source)
        if split.switching:
            self.pack.constrain(split.switching)

    def _drop_diverged(self, epoch: Epoch) -> None:
        finite = torch.isfinite(epoch.loss_sum) & finite_rows(self.pack.state)
        keep = [row for row, good in enumerate(finite.tolist()) if good]
        for row in set(range(len(self.rows))) - set(keep):
            self.diverged |= dict.fromkeys(self.rows[row].members, self.epoch)
        if len(keep) < len(self.rows):
            self.rows = tuple(self.rows[row] for row in keep)
            self.pack.select(keep)
            epoch.select(keep)

    def _measure(self, epoch: Epoch) -> dict[str, list[float | None]]:
        count = epoch.examples[0].shape[-1]
        values: dict[str, Tensor] = {"train_loss": epoch.loss_sum / count, "learning_rate": epoch.rates[:, -1]}
        values |= weight_series(self.pack) | margin_series(self.pack.predict, self.workload)
        for split in self.splits:
            self.measured[split] = self.workload.evaluate(self.pack.predict, split)
            values |= metric_series(self.measured[split], split)
        return self._by_member(values)

    def _by_member(self, values: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
        rows = row_of_member(self.rows)
        members = range(len(self.config.members))
        plain = {name: [_finite(value) for value in tensor.tolist()] for name, tensor in values.items()}
        return {name: [column[rows[m]] if m in rows else None for m in members] for name, column in plain.items()}

    def _nothing(self) -> dict[str, list[float | None]]:
        names = self.records[-1].series if self.records else SERIES
        return {name: [None] * len(self.config.members) for name in names}

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def finite_rows(state: PackState) -> Tensor:
    """Says of each row whether all its weights and floating-point buffers are finite, bool [R].

    BN divides by the batch's own statistics in training, so running statistics may overflow while loss and weights stay
    finite; only evaluation reads them.
    """
    floats = [buffer for buffer in state.buffers.values() if buffer.is_floating_point()]
    parts = [torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1) for tensor in (state.weights, *floats)]
    return torch.stack(parts).all(dim=0)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
