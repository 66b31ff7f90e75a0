"""Copies of the tree, two processes, and what they do: observe test files, then try mutants."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tests.mutants.coverage_map import FileRun, Kept, observed
from tests.mutants.mutations import Mutation, Shown
from tests.mutants.processes import OPTIONS, QUICK, TIMED_OUT, Running, copied, forked, import_libraries
from tests.mutants.trials import BUDGET, chosen, tried

OBSERVING_SECONDS = 1800.0

Job = TypeVar("Job")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `by` is the test that noticed it, "timeout", or "" if none did."""

    mutation: Mutation
    by: str
    seconds: float
    tests: int


@dataclass
class _Busy(Generic[Job]):
    job: Job
    running: Running
    began: float


class Workshop:
    """Runs jobs in as many copies of the tree as there are processes; the tree itself is only read.

    Args:
        root: the tree.
        folder: an empty folder for copies and logs.
        kept: where observations of test files are kept for the next run.
        jobs: processes at once.
        in_full: the test files of which long tests are run too.
    """

    def __init__(self, root: Path, folder: Path, kept: Path, jobs: int, in_full: Container[str]) -> None:
        import_libraries()
        self._folder, self._in_full, self._kept = folder, in_full, Kept(root, kept)
        self._copies = [copied(root, folder / f"copy{i}") for i in range(jobs)]

    def observe(self, test_files: list[str]) -> dict[str, FileRun]:
        """Runs test files on sound code; what did not change since the last time is read."""
        runs = {file: run for file in test_files if (run := self._kept.read(file)) is not None}

        def start(file: str, copy: Path) -> Running:
            options = OPTIONS if file in self._in_full else [*OPTIONS, *QUICK]

            def work() -> int:
                Kept(copy, self._folder).write(file, observed(file, options))
                return 0

            return forked(work, copy, copy.with_suffix(".log"), OBSERVING_SECONDS)

        for file, code, _, copy in self._each([file for file in test_files if file not in runs], start):
            run = Kept(copy, self._folder).read(file)
            if run is None:
                log = copy.with_suffix(".log").read_text(errors="replace")
                run = FileRun({}, {}, f"{file} ends with {code} and without a result:\n{log[-3000:]}")
            elif not run.failed:
                self._kept.write(file, run)
            runs[file] = run
        return runs

    def try_all(
        self, mutations: list[Mutation], runs: dict[str, FileRun], last: Mapping[Shown, str], budget: float = BUDGET
    ) -> Iterator[Outcome]:
        """Tries each mutant against the tests that answer for it, first the one that noticed it `last`, if any."""
        choices = {mutation: chosen(mutation, runs, last.get(mutation.shown, ""), budget) for mutation in mutations}
        sound: dict[Path, bytes] = {}

        def start(mutation: Mutation, copy: Path) -> Running:
            choice, verdict = choices[mutation], copy.with_suffix(".verdict")
            verdict.unlink(missing_ok=True)
            sound[copy] = (copy / mutation.file).read_bytes()
            (copy / mutation.file).write_bytes(mutation.applied_to(sound[copy]))
            return forked(lambda: tried(choice, verdict), copy, copy.with_suffix(".log"), choice.limit)

        def stop(mutation: Mutation, copy: Path) -> str:
            (copy / mutation.file).write_bytes(sound[copy])
            verdict = copy.with_suffix(".verdict")
            return verdict.read_text() if verdict.exists() else ""

        for mutation, code, took, copy in self._each(mutations, start):
            by = stop(mutation, copy)
            if code and not by:
                by = "timeout" if code == TIMED_OUT else f"exit code {code}"
            yield Outcome(mutation, by, took, len(choices[mutation].nodes))

    def _each(
        self, jobs: Iterable[Job], start: Callable[[Job, Path], Running]
    ) -> Iterator[tuple[Job, int, float, Path]]:
        """Runs jobs, one a copy at a time, and yields each with its exit code, seconds and copy once it has ended."""
        waiting, busy = list(jobs)[::-1], dict[Path, _Busy[Job]]()
        try:
            while waiting or busy:
                for copy in [copy for copy in self._copies if copy not in busy and waiting]:
                    job = waiting.pop()
                    busy[copy] = _Busy(job, start(job, copy), time.monotonic())
                    if not waiting:
                        break
                time.sleep(0.05)
                for copy, one in list(busy.items()):
                    if (code := one.running.ended()) is not None:
                        del busy[copy]
                        yield one.job, code, time.monotonic() - one.began, copy
        finally:
            for one in busy.values():
                one.running.kill()
