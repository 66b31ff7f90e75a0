"""Real `lawn-tune` processes of a tiny study, forked from one that has the imports; and what they trained."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.soak import SPACE, comparable
from lawn_tune.cells import PHASES
from lawn_tune.ledger import open_ledger
from lawn_tune.results import FINISHED

CELLS = 4
TRIALS = CELLS * (4 + 2)
LIMIT = 100.0
PATIENT = 60.0

Change = Callable[[], None]
"""Called in a driver's process before its command: what this driver is to suffer."""


@cache
def server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    modules = ("cli.main", "cli.launch", "launch", "plan", "progress", "ledger", "ledger.mirror", "executors.inline")
    context.set_forkserver_preload([*(f"lawn_tune.{module}" for module in modules), "torch._dynamo"])
    return context


def run_command(folder: str, arguments: Sequence[str], lease: float, change: Change | None) -> None:
    """What a driver's process does: the command as typed in `folder`, with a diary of what is trained."""
    import lawn_tune.launching.leases
    from lawn_tune.cli.main import main
    from trainables.training.trial import Event, PackRun

    os.chdir(folder)
    sys.stdin.close()
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        os.dup2(os.open(f"{os.getpid()}.{name}", os.O_WRONLY | os.O_CREAT), stream.fileno())
    lawn_tune.launching.leases.LEASE_SECONDS = lease
    sys.argv = ["lawn-tune", *arguments]
    train = PackRun.__iter__

    def noted(run: PackRun) -> Iterator[Event]:
        yield from train(run)
        if run.outcomes is not None:
            with open("diary", "a") as diary:
                diary.write("".join(f"{os.getpid()} {member.key}\n" for member in run.config.members))

    PackRun.__iter__ = noted  # type: ignore[method-assign]
    if change is not None:
        change()
    main()


@dataclass
class Driver:
    """One process of the command."""

    process: ForkServerProcess
    folder: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    @property
    def errors(self) -> str:
        path = self.folder / f"{self.pid}.err"
        return path.read_text() if path.exists() else ""

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self, timeout: float = LIMIT) -> int:
        """Its exit code."""
        self.process.join(timeout)
        if self.running:
            self.kill()
            raise TimeoutError(f"a driver did not end in {timeout} s: {self.errors}")
        assert self.process.exitcode is not None
        return self.process.exitcode


@dataclass
class Study:
    """A folder with a space in it, a ledger, and the command run there."""

    folder: Path
    url: str
    space: str = SPACE
    started: list[Driver] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tiny.toml").write_text(self.space)

    def start(self, *more: str, lease: float = 30.0, change: Change | None = None, executor: str = "inline") -> Driver:
        words = ("launch", "tiny.toml", "--pack-size", "2", "--executor", executor, "--storage", self.url, *more)
        process = server().Process(target=run_command, args=(str(self.folder), words, lease, change))
        process.start()
        self.started.append(Driver(process, self.folder))
        return self.started[-1]

    def launch(self, *more: str, **options: Any) -> Driver:
        """Runs the command to its end, which must be a good one."""
        driver = self.start(*more, **options)
        assert driver.end() == 0, driver.errors
        return driver

    def kill(self, driver: Driver) -> None:
        """Kills a driver at any moment but one: between a training's end and its storing, where it must be repeated."""
        while True:
            driver.signal(signal.SIGSTOP)
            self.wait_for(lambda: Path(f"/proc/{driver.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
            if self.trainings().keys() <= self.finished():
                driver.kill()
                return
            driver.signal(signal.SIGCONT)
            time.sleep(0.02)

    def stop_all(self) -> None:
        for driver in self.started:
            if driver.running:
                driver.signal(signal.SIGCONT)
                driver.kill()

    def epochs(self) -> int:
        """Epochs in the ledger so far."""
        try:
            with open_ledger(self.url, create=False) as ledger:
                return sum(row.epochs for row in ledger.trials("tiny"))
        except Exception:
            return 0  # it is being created, or cannot be reached

    def owners(self) -> set[str]:
        """Who holds a cell now."""
        try:
            with open_ledger(self.url, create=False) as ledger:
                return {lease.owner for lease in ledger.leases().values()}
        except Exception:
            return set()  # it is being created, or cannot be reached

    def finished(self) -> set[str]:
        """Keys with a result in the ledger."""
        with open_ledger(self.url, create=False) as ledger:
            return {row.key for row in ledger.trials("tiny") if row.outcome in FINISHED}

    def wait_for(self, ready: Callable[[], bool], seconds: float = PATIENT) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, [driver.errors for driver in self.started]
            time.sleep(0.05)

    def trainings(self) -> Counter[str]:
        """How often each key was trained to its end, in whatever process."""
        return Counter(line.split()[1] for line in self._diary())

    def trained_by(self, driver: Driver) -> int:
        return sum(int(line.split()[0]) == driver.pid for line in self._diary())

    def _diary(self) -> list[str]:
        path = self.folder / "diary"
        return path.read_text().splitlines() if path.exists() else []

    def leases(self) -> set[str]:
        with open_ledger(self.url, create=False) as ledger:
            return {str(name) for name in ledger.leases()}

    def results(self) -> Results:
        with open_ledger(self.url, create=False) as ledger:
            rows = ledger.trials("tiny")
            curves = ledger.curves([row.key for row in rows])
            cells = ledger.cells("tiny")
            packs = [pack for cell in cells for phase in PHASES for pack in ledger.packs(cell.name, phase)]
        kept = {key: {name: values.tobytes() for name, values in curve.items()} for key, curve in curves.items()}
        lengths = {key: {len(values) for values in curve.values()} for key, curve in curves.items()}
        return Results(
            outcomes=Counter((row.key, row.outcome) for row in rows),
            curves=kept,
            lengths=lengths,
            values={row.key: (row.epochs, {k: v for k, v in row.summary.items() if k not in MEASURED}) for row in rows},
            attempts={row.key: row.attempts for row in rows},
            table=self.table(),
            packs=Counter(pack.state for pack in packs),
        )

    def table(self) -> Any:
        from typer.testing import CliRunner

        from lawn_tune.cli.main import app

        shown = CliRunner().invoke(app, ["compare", "tiny", "--format", "json", "--storage", self.url])
        assert shown.exit_code == 0, shown.output
        return comparable(json.loads(shown.stdout))


MEASURED = ("seconds", "peak_memory_bytes")


@dataclass(frozen=True)
class Results:
    """All that a study says, without what is measured by a clock."""

    outcomes: Counter[tuple[str, str]]
    curves: dict[str, dict[str, bytes]]
    lengths: dict[str, set[int]]
    values: dict[str, Any]
    attempts: dict[str, int]
    table: Any
    packs: Counter[str]


def assert_same(study: Study, undisturbed: Results) -> Results:
    """The law: every key exactly once complete, curves whole, and the final table that of an undisturbed run."""
    found = study.results()
    assert found.outcomes == undisturbed.outcomes
    assert set(found.outcomes.values()) == {1}
    assert found.curves == undisturbed.curves
    assert found.lengths == undisturbed.lengths
    np.testing.assert_equal(found.values, undisturbed.values)
    assert found.table == undisturbed.table
    return found


def assert_trained_once(study: Study, but: int = 0) -> None:
    """No key was trained to its end twice, in whatever process.

    Args:
        but: trials of the one pack whose end could not be stored, where a ledger failed for good at that very moment.
    """
    trainings = study.trainings()
    assert len(trainings) == TRIALS
    assert sum(trainings.values()) - TRIALS in {0, but}
