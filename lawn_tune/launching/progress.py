"""What a launch shows while it runs: bars with an ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as RemainingColumn

from lawn_tune.cells import Cell, Phase
from lawn_tune.executors.base import Job
from lawn_tune.launching.limits import Limits
from lawn_tune.launching.listener import Tally
from lawn_tune.planning.remaining import Remaining
from lawn_tune.words import count, duration, setting_lists
from trainables.outcomes import EpochRecord, TrialOutcome, diverged


class Display:
    """The listener of a launch at a terminal; used as a context manager.

    Args:
        console: where to draw.
        cells: what the launch was asked for; the bar's length is their trials times epochs.
        quiet: True to show warnings and errors only.
        on_divergence: called like `diverged`, after it was shown.
    """

    def __init__(
        self,
        console: Console,
        cells: Sequence[Cell],
        quiet: bool = False,
        on_divergence: Callable[[Cell, Phase, int, int], None] | None = None,
    ) -> None:
        self.console, self.quiet, self._on_divergence = console, quiet, on_divergence
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]left"),
            RemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
            speed_estimate_period=120,
        )
        total = sum(cell.task.epochs * _trials(cell) for cell in cells)
        self._all = self._bars.add_task("[bold]all trials", total=total, unit="epochs")
        self._tasks: dict[str, TaskID] = {}
        self._epochs: dict[str, int] = {}
        self._shown_waiting = False

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def found(self, cell: Cell, phase: Phase, done: int, missing: int) -> None:
        """See `Listener.found`."""
        self._shorten(done * cell.task.epochs)
        if missing:
            self._log(f"{cell.name} [cyan]{phase}[/]: {missing} to train" + (f", {done} in the ledger" if done else ""))

    def extended(self, before: Cell, after: Cell) -> None:
        """See `Listener.extended`."""
        self._shorten((len(before.search_trials) - len(after.search_trials)) * after.task.epochs)
        new = {name: levels[len(before.grid.values[name]) :] for name, levels in after.grid.values.items()}
        self._log(f"{after.name} widened by {setting_lists({name: some for name, some in new.items() if some})}")

    def advanced(self, job: Job, records: Sequence[EpochRecord]) -> None:
        """See `Listener.advanced`."""
        epoch, trials = records[-1].epoch, len(job.config.members)
        if job.pack not in self._tasks:
            total = job.config.task.epochs
            self._tasks[job.pack] = self._bars.add_task(f"  {label(job)}", total=total, unit="epochs")
        self._bars.update(self._tasks[job.pack], completed=epoch)
        self._bars.advance(self._all, (epoch - self._epochs.get(job.pack, 0)) * trials)
        self._epochs[job.pack] = epoch

    def finished(self, job: Job, outcomes: Sequence[TrialOutcome]) -> None:
        """See `Listener.finished`."""
        self._forget(job)
        lost = f", {number} diverged" if (number := diverged(outcomes)) else ""
        self._log(f"[green]✓[/] {label(job)}{_best(job, outcomes)}{lost}")

    def failed(self, job: Job, error: str, again: bool) -> None:
        """See `Listener.failed`."""
        self._bars.advance(self._all, -self._epochs.get(job.pack, 0) * len(job.config.members))
        self._forget(job)
        reason = escape(error.strip().splitlines()[0]) if error.strip() else "unknown error"
        self.console.print(f"[red]✗[/] {label(job)}: {reason}" + (" — trying again" if again else ""), soft_wrap=True)

    def diverged(self, cell: Cell, phase: Phase, count: int, trials: int) -> None:
        """See `Listener.diverged`."""
        self.warned(f"{cell.name} {phase}: {count} of {trials} trials diverged")
        if self._on_divergence:
            self._on_divergence(cell, phase, count, trials)

    def warned(self, text: str) -> None:
        """See `Listener.warned`."""
        self.console.print(f"[yellow]![/] {escape(text)}", highlight=False, soft_wrap=True)

    def noted(self, text: str) -> None:
        """See `Listener.noted`."""
        self._log(escape(text))

    def waiting(self, cells: Sequence[Cell]) -> None:
        """See `Listener.waiting`."""
        if not self._shown_waiting:
            names = ", ".join(str(cell.name) for cell in cells)
            self._log(f"waiting for another launch that is working on {names}")
        self._shown_waiting = True

    def _log(self, text: str) -> None:
        if not self.quiet:
            self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {text}", highlight=False, soft_wrap=True)

    def _shorten(self, epochs: int) -> None:
        total = self._bars.tasks[0].total or 0
        self._bars.update(self._all, total=max(0, total - epochs))

    def _forget(self, job: Job) -> None:
        self._epochs.pop(job.pack, None)
        if (task := self._tasks.pop(job.pack, None)) is not None:
            self._bars.remove_task(task)


def print_summary(console: Console, cells: Sequence[Cell], tally: Tally, stopped: bool, storage: str | None) -> None:
    """Prints what a launch did, and what to type next.

    Args:
        storage: the ledger's URL as typed, if it was, without its password.
    """
    if stopped:
        done = f"after {count(tally.trained, 'trial')}, all kept" if tally.trained else "before a trial ended"
        console.print(f"stopped {done}; the same command continues", highlight=False)
        return
    if not tally.trained and not tally.failed:
        done = "1 trial is" if tally.found == 1 else f"all {tally.found} trials are"
        console.print(f"nothing to train: {done} in the ledger", highlight=False)
    else:
        kept = f", {tally.found} {'was' if tally.found == 1 else 'were'} in the ledger" if tally.found else ""
        lost = f", {tally.diverged} of them diverged" if tally.diverged else ""
        spent = duration(tally.seconds)
        console.print(f"trained {count(tally.trained, 'trial')}{lost} in {spent} of device time{kept}", highlight=False)
    if tally.failed:  # the error that follows says what to do
        return
    flag = f" --storage {storage}" if storage else ""
    for space in dict.fromkeys(cell.name.space for cell in cells):
        console.print(f"next: lawn-tune compare {space}{flag}", highlight=False, soft_wrap=True)


def print_left(console: Console, left: Remaining, limits: Limits) -> None:
    """Prints what a launch spent and left to the next one when it came to a limit."""
    needs = "unknown" if left.seconds is None else f"about {duration(limits.share * left.seconds)}"
    console.print(
        f"device time spent: {duration(limits.spent)}; left: {count(left.trials, 'trial')} in "
        f"{count(left.packs, 'pack')}, device time {needs}",
        highlight=False,
        soft_wrap=True,
    )


def _trials(cell: Cell) -> int:
    return len(cell.search_trials) + len(cell.protocol.confirm_seeds)


def label(job: Job) -> str:
    """Returns a pack as shown: "adam/bs64 search, 3 trials"."""
    task, trials = job.config.task, len(job.config.members)
    phase = "search" if task.train_on == "train" else "confirm"
    return f"{task.optimizer}/bs{task.batch_size} {phase}, {count(trials, 'trial')}"


def _best(job: Job, outcomes: Sequence[TrialOutcome]) -> str:
    """Returns the best last value on validation data, or the mean on test data, where a maximum is biased upward."""
    for split, word in (("validation", "best"), ("test", "mean")):
        for name, metric in job.config.task.catalogue.metrics.items():
            values = [outcome.summary.get(f"last/{split}/{name}") for outcome in outcomes]
            known = [value for value in values if value is not None]
            if known:
                best = max(known) if metric.direction == "maximize" else min(known)
                shown = best if word == "best" else sum(known) / len(known)
                return escape(f": {word} {split} {name} {shown:.{metric.digits}f} {metric.unit}".rstrip())
    return ""
