"""`lawn-tune launch --smoke`: a few steps of everything that a study needs, in a ledger of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import typer
from rich.console import Console

from lawn_tune.cells import Cell
from lawn_tune.cli.checks import Check, print_checks
from lawn_tune.errors import DataError, ExecutionError, LawnTuneError, LedgerError
from lawn_tune.executors.build import checkpoint_place, on_gpus
from lawn_tune.executors.checkpoints import open_store
from lawn_tune.launching.launch import Launch
from lawn_tune.launching.smoke import Seen, SmokeAgenda
from lawn_tune.ledger import open_ledger
from lawn_tune.ledger.temporary import temporary_ledger
from lawn_tune.planning.smoke import EPOCHS, STEPS, smoke_cells
from lawn_tune.results import FINISHED
from lawn_tune.settings import Settings
from lawn_tune.storage import masked
from lawn_tune.words import count, duration

NAMES: dict[type[LawnTuneError], str] = {DataError: "data", LedgerError: "ledger", ExecutionError: "training"}
"""Error → the check that it fails, with the error's exit code."""

CODES = {name: error.exit_code for error, name in NAMES.items()}


class Smoke:
    """One smoke run.

    Args:
        cells: of the study.
        settings: of the study; its limits of time do not apply, and no pack is tried twice.
        console: where it shows how it goes: a line a pack, as the checks end with the last one.
    """

    def __init__(self, cells: Sequence[Cell], settings: Settings, console: Console) -> None:
        self.cells = smoke_cells(cells, settings.pack_size, on_gpus(settings))
        self.place = checkpoint_place(settings)
        self.settings = replace(settings, checkpoint_seconds=0.0, retries=0, deadline=None, max_device_hours=None)
        self.seen = Seen()
        self.console = console
        self.failed: list[LawnTuneError] = []
        self._packs: set[str] = set()
        self._trials = (0, 0, 0)

    def run(self, launch: Callable[..., None]) -> None:
        """Trains in a temporary ledger; a failure is kept as a result."""
        with self._noted(), temporary_ledger(self.settings.storage) as own, self._checkpoints():
            with self._noted():  # quiet, as values of a few steps mean nothing
                launch(self.cells, replace(self.settings, storage=own), self.console, quiet=True, around=self._around)
            if self.seen.packs:
                self._read_back(own)

    def checks(self) -> list[Check]:
        """Returns what was checked, in the order of a launch."""
        found = [self._data(), self._ledger(), self._devices(), self._memory(), self._checkpoint(), self._training()]
        return [check for check in found if check is not None]

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except tuple(NAMES) as error:
            self.failed.append(error)

    def _around(self, launch: Launch) -> SmokeAgenda:
        agenda = SmokeAgenda(launch, self._forget, partial(self.console.print, highlight=False, soft_wrap=True))
        self.seen = agenda.seen
        return agenda

    def _forget(self, pack: str) -> None:
        self._packs.add(pack)
        with suppress(OSError):
            open_store(self.place).remove(pack)

    @contextmanager
    def _checkpoints(self) -> Iterator[None]:
        """Removes the checkpoints that are left in the end."""
        try:
            yield
        finally:
            for pack in tuple(self._packs):
                self._forget(pack)

    def _read_back(self, url: str) -> None:
        with open_ledger(url, create=False) as ledger:
            rows = [row for name in {cell.name.space for cell in self.cells} for row in ledger.trials(name)]
        ended = [row for row in rows if row.outcome in FINISHED]
        search = sum(row.phase == "search" for row in ended)
        self._trials = (search, len(ended) - search, sum(row.outcome == "diverged" for row in ended))

    # --- the checks --------------------------------------------------------------------------------------------------

    def _error(self, kind: type[LawnTuneError]) -> LawnTuneError | None:
        return next((error for error in self.failed if isinstance(error, kind)), None)

    def _data(self) -> Check | None:
        names = ", ".join(sorted({cell.task.dataset for cell in self.cells}))
        error = self._error(DataError)
        if error is not None or "data" in self.seen.errors:
            detail = error.message if error else self.seen.errors["data"]
            return Check("data", "fail", detail, (error and error.hint) or "")
        return Check("data", "ok", f"{names}: read by every worker") if self.seen.packs else None

    def _ledger(self) -> Check | None:
        error, shown = self._error(LedgerError), masked(self.settings.storage)
        if error is not None:
            return Check("ledger", "fail", error.message, error.hint or "")
        trials = count(sum(self._trials[:2]), "trial")
        own = f"{trials} written and read back next to {shown}, in a ledger of their own that was removed"
        return Check("ledger", "ok", own) if sum(self._trials[:2]) else None

    def _devices(self) -> Check | None:
        packs = [f"{device} ({count(number, 'pack')})" for device, number in sorted(self.seen.packs.items())]
        return Check("devices", "ok", "; ".join(packs)) if packs else None

    def _memory(self) -> Check | None:
        peaks, members = self.seen.peaks, self.seen.members
        if "memory" in self.seen.errors:
            todo = "The study would train it as halves; fewer --workers or a smaller --pack-size avoid the attempt."
            alone = self._error(ExecutionError) is not None and not self._broken
            return Check("memory", "fail" if alone else "warn", self.seen.errors["memory"], todo)
        if not peaks:
            return None
        cell = max(peaks, key=lambda each: peaks[each])
        detail = f"highest peak {peaks[cell] / 1e6:,.0f} MB, of {count(members[cell], 'trial')} at once in {cell}"
        return Check("memory", "ok", detail)

    def _checkpoint(self) -> Check | None:
        seen = self.seen
        if not seen.interrupted or (self.failed and not seen.warnings and not seen.resumed):
            return None
        result = "continued" if seen.resumed else "did not continue"
        detail = f"an interrupted pack {result} from {self.place}"
        if seen.resumed and not seen.warnings:
            return Check("checkpoints", "ok", detail)
        if not seen.resumed and all(cell.task.by_function for cell in self.cells):
            todo = "Call trial.save after each trial.report, so that interrupted trials continue."
            return Check("checkpoints", "warn", "; ".join(seen.warnings) or detail, todo)
        todo = "Choose a place that every machine can read and write, by --checkpoints."
        return Check("checkpoints", "warn" if seen.resumed else "fail", "; ".join([detail, *seen.warnings]), todo)

    @property
    def _broken(self) -> list[str]:
        """What packs failed of that no other check names."""
        return [text for reason, text in self.seen.errors.items() if reason not in ("data", "memory", "alone")]

    def _training(self) -> Check | None:
        """Returns None where training only lacks what another check failed of, which counts once."""
        error, texts = self._error(ExecutionError), self._broken
        elsewhere = self.failed if error is None else {"data", "memory"} & self.seen.errors.keys()
        if elsewhere and not texts:
            return None
        search, confirm, diverged = self._trials
        cells = count(len(self.cells), "cell")
        whole = all(cell.task.by_function for cell in self.cells)  # a function makes all steps of an epoch
        size = f"{EPOCHS} epochs" if whole else f"{EPOCHS} x {STEPS} steps at most"
        detail = f"{cells}, {search} search + {confirm} confirm trials of {size}"
        detail += f", {diverged} diverged" if diverged else ""
        if error is None:
            return Check("training", "ok", detail)
        todo = "" if texts else error.hint or ""
        return Check("training", "fail", f"{detail}; {'; '.join(texts) or error.message}", todo)


def run_smoke(cells: Sequence[Cell], settings: Settings, console: Console, launch: Callable[..., None]) -> None:
    """Runs a smoke run of a study, prints what was checked, and ends with the exit code of the first failure.

    Args:
        launch: what a launch does with cells, settings and console; it takes the options of `cli.launch.run_launch`.

    Raises:
        typer.Exit: a check failed, or the run was stopped by a signal.
    """
    began, smoke = time.monotonic(), Smoke(cells, settings, console)
    console.print(f"smoke run of {count(len(smoke.cells), 'cell')}; the study's ledger is not written", highlight=False)
    try:
        smoke.run(launch)
    except typer.Exit:
        console.print("smoke run: stopped; its ledger was removed", highlight=False)
        raise
    checks = smoke.checks()
    failed = [check for check in checks if check.state == "fail"]
    code = CODES.get(failed[0].name, ExecutionError.exit_code) if failed else 0
    print_checks(checks)
    result = f"{count(len(failed), 'check')} failed" if failed else "all checks passed"
    typer.echo(f"smoke run: {result} in {duration(time.monotonic() - began)}, exit code {code}")
    if code:
        raise typer.Exit(code)
