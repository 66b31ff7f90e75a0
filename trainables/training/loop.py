"""Trains a pack from its first epoch, or from a checkpoint, to its last; the only training loop there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables import ranks
from trainables.optimizers.lists import constants
from trainables.outcomes import SERIES, SWITCH_EPOCH, EpochRecord
from trainables.tasks import PackConfig, Split
from trainables.training.flattening import flattening_series
from trainables.training.measure import margin_series, metric_series, weight_series
from trainables.training.pack import Pack
from trainables.training.rows import first_rows, row_of_member, split_rows, switch_step
from trainables.training.schedules import lr_factor
from trainables.training.seeding import epoch_generator, seed_step, seeded_init
from trainables.training.state import PackState
from trainables.training.switching import MarginWatch
from trainables.workloads.base import Batch, Evaluation, Workload


@dataclass
class Epoch:
    """What one epoch keeps of each row; forks copy it like the pack.

    Args:
        seeds: the different seeds of the rows; a batch has one part each.
        seed_of: for each row, the position of its seed.
        rates: learning rates, float64 [R, steps]; on the host for a torch optimizer class.
        loss_sum: sum of the examples' losses so far, float64 [R].
        margin_sum: sum of the steps' median margins since the last window's end, float64 [R].
        done: its steps so far.
    """

    seeds: tuple[int, ...]
    seed_of: tuple[int, ...]
    rates: Tensor
    loss_sum: Tensor
    margin_sum: Tensor
    done: int = 0

    @property
    def shared(self) -> bool:
        """True when all rows have one seed and so one batch."""
        return len(self.seeds) == 1

    def select(self, source: Sequence[int]) -> None:
        """Makes row i a copy of row `source[i]`."""
        index = torch.tensor(source, device=self.rates.device, dtype=torch.long)
        self.rates = self.rates[index]
        self.loss_sum, self.margin_sum = self.loss_sum[index], self.margin_sum[index]
        self.seed_of = tuple(self.seed_of[row] for row in source)

    def of_rows(self, batch: Batch) -> Batch:
        """Returns a batch with one part a row in place of one a seed."""
        if self.shared or self.seed_of == tuple(range(len(self.seeds))):
            return batch
        index = constants(self.seed_of, torch.long, batch.targets.device)
        return Batch(tuple(part[index] for part in batch.inputs), batch.targets[index], batch.examples)


class Training:
    """A pack in training; can be saved and resumed between any two of its steps.

    Args:
        config: the pack.
        workload: its data and model, already on the device.
        device: where it trains.
        flattening: whether to measure loss flattening after each epoch, see `flattening`.

    `measured` holds each split's evaluation after the last epoch, a row each; `running` the epoch of which
    some steps are done.
    """

    def __init__(self, config: PackConfig, workload: Workload, device: torch.device, flattening: bool = False) -> None:
        self.config, self.workload, self.device, self.flattening = config, workload, device, flattening
        self.epoch = 0
        self.running: Epoch | None = None
        self.records: list[EpochRecord] = []
        self.diverged: dict[int, int] = {}
        self.measured: dict[Split, Evaluation] = {}
        self.method = config.task.method
        self.rows = first_rows(config.members, self.method.switch)
        self.steps_per_epoch = math.ceil(workload.examples / config.task.batch_size)
        self.total_steps = self.steps_per_epoch * config.task.epochs
        self.full = [self.method.complete(member.hyperparameters) for member in config.members]
        self.pack = self._build_pack()
        free = [self._free_epochs(values) for values in self.full]
        self.switch_steps = [switch_step(epochs, self.steps_per_epoch, self.total_steps) for epochs in free]
        self.margins = MarginWatch(free, self.steps_per_epoch)

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
        """Names of the tensors that the control holds after the switch; none where it holds none."""
        return tuple(layer.name for layer in self.pack.layers if layer.constrained and self._holds)

    @property
    def steps_done(self) -> int:
        """Steps since the first one."""
        return self.epoch * self.steps_per_epoch + (self.running.done if self.running else 0)

    @property
    def sound(self) -> bool:
        """Whether every row is finite: one that is not has diverged, which the end of the epoch finds."""
        return self.running is None or bool(self._sound_rows(self.running).all())

    def run_epoch(self) -> EpochRecord:
        """Trains an epoch, or the rest of one, and returns its record."""
        for _ in self.steps():
            pass
        return self.records[-1]

    def steps(self) -> Iterator[None]:
        """Trains an epoch, or the rest of one: yields after each step but the last one.

        Then it drops the rows that diverged, measures the others and adds the record.
        """
        epoch = self.running = self.running or self.start_epoch()
        task, seeds = self.config.task, [epoch_generator(seed, self.epoch) for seed in epoch.seeds]
        for parts in self.workload.batches(seeds, task.batch_size, task.micro_batch or None, epoch.done):
            self._step(epoch, parts)
            if epoch.done < self.steps_per_epoch:
                yield
        self._end_epoch(epoch)

    def _step(self, epoch: Epoch, parts: Iterator[Batch]) -> None:
        self._switch(self.steps_done, epoch)
        seed_step(epoch.seeds[0], self.steps_done)
        size = self.config.task.batch_size
        examples = min(size, self.workload.examples - epoch.done * size)
        self._add_gradients(epoch, parts, examples)
        loss = self.pack.apply(epoch.rates[:, epoch.done : epoch.done + 1])
        epoch.loss_sum += loss * examples
        epoch.done += 1
        self._watch_margins(self.steps_done, epoch)

    def _end_epoch(self, epoch: Epoch) -> None:
        self.epoch, self.running = self.epoch + 1, None
        self._drop_diverged(epoch)
        series = self._measure(epoch) | self._switches() if self.rows else self._nothing()
        record = EpochRecord(epoch=self.epoch, series=series)
        self.records.append(record)
        if record.series.keys() != self.records[0].series.keys():
            self._align_records()

    def _add_gradients(self, epoch: Epoch, parts: Iterator[Batch], examples: int) -> None:
        """Adds up the gradients of a step's micro-batches, on several GPUs of those that are this rank's."""
        size = self.config.task.micro_batch or examples
        for start, part in zip(ranks.shares(examples, size), map(epoch.of_rows, parts), strict=True):
            if start:
                seed_step(epoch.seeds[0], self.steps_done, start)
            share, count = part.examples / examples, math.ceil(examples / size)
            self.pack.gradients(part.inputs, part.targets, epoch.shared, share, start // size, count)
        if size < examples:  # what an optimizer draws must not depend on who computed what
            seed_step(epoch.seeds[0], self.steps_done, examples)

    def _align_records(self) -> None:
        """Gives every record the series of all: what is measured may have changed where the training was resumed."""
        names = dict.fromkeys(name for record in self.records for name in record.series)
        nothing: list[float | None] = [None] * len(self.config.members)
        for i, record in enumerate(self.records):
            self.records[i] = EpochRecord(
                epoch=record.epoch, series={name: record.series.get(name, nothing) for name in names}
            )

    def _build_pack(self) -> Pack:
        models = {}
        for seed in {member.seed for member in self.config.members}:
            with seeded_init(seed):
                models[seed] = self.workload.build_model()
        leaders = [row.members[0] for row in self.rows]
        names = self.full[0].keys() - {*self.method.names("schedule"), self.method.switch}
        names |= {"peak_lr"} if self.method.rule.optimizer else set()
        hyper = {name: self._column([self.full[leader][name] for leader in leaders]) for name in names}
        task = self.config.task
        return Pack(
            [models[self.config.members[leader].seed] for leader in leaders],
            self.method,
            hyper,
            self.workload.loss_of(task.loss_row),
            constrain=task.constrain,
            device=self.device,
            precision=task.precision,
        )

    @property
    def _holds(self) -> bool:
        return self.method.control is not None and self.pack.control.held

    def _free_epochs(self, values: Mapping[str, float]) -> float | None:
        """Epochs before the control holds the weights; None if it never does."""
        switch = self.method.switch
        return None if not self._holds else 0.0 if switch is None else values[switch]

    def start_epoch(self) -> Epoch:
        """Returns an epoch of which no step is done, for the rows as they are."""
        of_rows = [self.config.members[row.members[0]].seed for row in self.rows]
        seeds = tuple(dict.fromkeys(of_rows))
        nothing = torch.zeros(len(self.rows), device=self.device).double()
        self.pack.watch = self.workload.margin if self.margins.waiting else None
        return Epoch(seeds, tuple(map(seeds.index, of_rows)), self._rates(), nothing, nothing.clone())

    def _rates(self) -> Tensor:
        leaders = [self.full[row.members[0]] for row in self.rows]
        first = self.epoch * self.steps_per_epoch
        steps = torch.arange(first, first + self.steps_per_epoch)
        warmup = self._column([values["warmup_epochs"] * self.steps_per_epoch for values in leaders])
        peak = self._column([values["peak_lr"] for values in leaders])
        rates = peak * lr_factor(self.config.task.schedule, steps, warmup, self.total_steps)
        return rates if self.pack.own else rates.to(self.device)  # a torch optimizer class takes a number of the host's

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

    def _watch_margins(self, done: int, epoch: Epoch) -> None:
        """Notes which trials switch by themselves before the next step.

        Args:
            done: steps of the training so far.
            epoch: whose sums are those of the steps.
        """
        if self.pack.watch is None or done == self.total_steps:
            return
        epoch.margin_sum += self.pack.margins
        if steps := self.margins.window(done):
            means = epoch.margin_sum / steps
            bending = self.pack.sizes() if self.pack.control.bends_by_norm else means
            epoch.margin_sum.zero_()
            measured = torch.stack([means, bending], dim=1).tolist()
            rows = row_of_member(self.rows)
            for member in self.margins.due({member: measured[row] for member, row in rows.items()}):
                self.switch_steps[member] = done

    def _switches(self) -> dict[str, list[float | None]]:
        """Returns the epoch at which each trial that switches by itself has done so, in packs with such trials."""
        if not self.margins.rules:
            return {}
        steps = [step if member in self.margins.rules else None for member, step in enumerate(self.switch_steps)]
        return {SWITCH_EPOCH: [None if step is None else step / self.steps_per_epoch for step in steps]}

    def _sound_rows(self, epoch: Epoch) -> Tensor:
        return torch.isfinite(epoch.loss_sum) & finite_rows(self.pack.state)

    def _drop_diverged(self, epoch: Epoch) -> None:
        keep = [row for row, good in enumerate(self._sound_rows(epoch).tolist()) if good]
        for row in set(range(len(self.rows))) - set(keep):
            self.diverged |= dict.fromkeys(self.rows[row].members, self.epoch)
        if len(keep) < len(self.rows):
            self.rows = tuple(self.rows[row] for row in keep)
            self.pack.select(keep)
            epoch.select(keep)

    def _measure(self, epoch: Epoch) -> dict[str, list[float | None]]:
        mean_loss = epoch.loss_sum / self.workload.examples
        values: dict[str, Tensor] = {"train_loss": mean_loss, "learning_rate": epoch.rates[:, -1]}
        values |= weight_series(self.pack) | margin_series(self.pack.predict, self.workload)
        if self.flattening:
            values |= flattening_series(self.pack, self.workload, epoch.rates[:, -1], self.config.task.batch_size)
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
