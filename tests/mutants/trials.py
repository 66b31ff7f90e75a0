"""One mutant against the tests: those that run the mutated line first, a case of each, until one fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutants.areas import IN_OTHER_PROCESSES
from tests.mutants.coverage_map import FileRun
from tests.mutants.mutations import Mutation
from tests.mutants.processes import OPTIONS

PATIENCE = 60.0
"""Seconds that every mutant gets on top of five times what its tests take with sound code."""

BUDGET, SURVIVORS_BUDGET = 30.0, 120.0
"""Seconds of tests, with sound code, after which no more are chosen: a sample of hundreds has to end. A line that
thousands of tests run is noticed by the first few, or survives though a later one would notice it, and so gets more."""


IMPORTING = 1.0
"""Seconds that a further test file costs, whatever is taken of it."""


@dataclass(frozen=True)
class Choice:
    """The tests of one mutant in their order, with the time they take with sound code."""

    nodes: tuple[str, ...]
    seconds: float

    @property
    def limit(self) -> float:
        """Seconds after which the mutant counts as noticed: it hangs where sound code does not."""
        return PATIENCE + 5 * self.seconds

    @property
    def files(self) -> list[str]:
        """The test files, each once."""
        return list(dict.fromkeys(node.split("::")[0] for node in self.nodes))


def chosen(mutation: Mutation, runs: dict[str, FileRun], last: str = "", budget: float = BUDGET) -> Choice:
    """Chooses the test that noticed it `last`, the tests that run the line, then those that run its file in other
    processes, then neighbours of the first, which may look at what a fixture made; of each kind first those in a file
    that bears the module's name.

    A line that is run while modules are imported is everyone's; one that nothing runs is no test's.
    """
    reached = _reached(mutation, runs)
    covering, loading = {node for nodes in reached.values() for node in nodes}, any(not n for n in reached.values())
    files = [run for file, run in runs.items() if reached.get(file) or (loading and file in reached)]
    unseen = [runs[file] for file in IN_OTHER_PROCESSES.get(mutation.file, ()) if file in runs]
    seconds = {node: took for run in [*files, *unseen] for node, took in run.seconds.items()}
    elsewhere = {node for run in unseen for node in run.seconds}
    named = {node for node in seconds if f"test_{Path(mutation.file).stem}" in node.split("::")[0]}
    first = [{last}, named, covering, elsewhere] if loading else [{last}, covering, elsewhere, named]
    cases = _cases(sorted(seconds, key=seconds.__getitem__))
    nodes = sorted(seconds, key=lambda node: (*(node not in group for group in first), cases[node], seconds[node]))
    return _affordable(nodes, runs, budget * (3 if elsewhere else 1))  # tests with processes of their own are slow


def _cases(nodes: Iterable[str]) -> dict[str, int]:
    """Numbers the cases of each parametrized test: one case of every test says more than every case of one."""
    seen: Counter[str] = Counter()
    numbers = {}
    for node in nodes:
        numbers[node] = seen[test := node.split("[")[0]]
        seen[test] += 1
    return numbers


def _affordable(nodes: Sequence[str], runs: Mapping[str, FileRun], budget: float) -> Choice:
    """Takes the tests that fit into a budget, in their order; the first of a file pays for what the file opens.

    If none fits, the first is taken.
    """
    taken: list[str] = []
    opened: set[str] = set()
    spent = 0.0
    for node in nodes:
        run = runs[file := node.split("::")[0]]
        cost = run.seconds[node] if file in opened else IMPORTING + max(run.seconds[node], run.opening)
        if spent + cost <= budget:
            taken.append(node)
            opened.add(file)
            spent += cost
    if nodes and not taken:
        return Choice(tuple(nodes[:1]), budget)
    return Choice(tuple(taken), spent)


def _reached(mutation: Mutation, runs: Mapping[str, FileRun]) -> Mapping[str, list[str]]:
    """Returns the test files that run the line, each with the tests that do, none where it runs as modules are loaded.

    A line within a statement may have no trace of its own.
    """
    for line in (str(mutation.line), str(mutation.statement)):
        lines = {file: run.lines.get(mutation.file, {}) for file, run in runs.items()}
        if found := {file: of[line] for file, of in lines.items() if line in of}:
            return found
    return {}


class _Order:
    """A pytest plugin that keeps the chosen tests only, in the given order, and writes down the first failure."""

    def __init__(self, nodes: tuple[str, ...], verdict: Path) -> None:
        self._rank = {node: rank for rank, node in enumerate(nodes)}
        self._verdict = verdict

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank), key=lambda item: self._rank[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._verdict.write_text(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._verdict.write_text(report.nodeid)


def tried(choice: Choice, verdict: Path) -> int:
    """Runs the chosen tests in this process; returns pytest's exit code, and writes the failing test to `verdict`."""
    if not choice.nodes:
        return 0
    return int(pytest.main([*OPTIONS, "-x", *choice.files], plugins=[_Order(choice.nodes, verdict)]))
