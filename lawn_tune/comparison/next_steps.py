"""What would decide a pair, with the command that does it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Literal, NamedTuple

from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import CellResult, PairResult, Verdict
from lawn_tune.comparison.flags import FEW, widenable
from lawn_tune.comparison.verdicts import to_decide
from lawn_tune.planning.extending import extended
from lawn_tune.planning.spaces import builtin_spaces, find_space
from lawn_tune.words import count, method
from search_spaces.levels import text as level_text
from search_spaces.toml import SUFFIX

Action = Literal["continue", "widen", "seeds", "none"]


class Step(NamedTuple):
    """Something to do next.

    Args:
        action: "continue" a launch, "widen" grids and launch again, add "seeds", or "none" that
            would help.
        text: what and why, in a sentence.
        command: what to type, without the ledger's --storage; "" for "none".
    """

    action: Action
    text: str
    command: str

    def on(self, storage: str) -> Step:
        """Returns the step for a ledger that commands read by these arguments, "--storage sqlite:///my.db"."""
        return self._replace(command=f"{self.command} {storage}".strip()) if self.command else self


def next_steps(pair: PairResult) -> tuple[Step, ...]:
    """Returns what to do about a pair, the first thing first; () where all is trained and the verdict is settled.

    Nothing here can train what was imported from another program.
    """
    results = (pair.baseline, pair.challenger)
    cells = [result.cell for result in results]
    if cells[0].task.dataset_row.imported:
        return ()
    if missing := sum(result.missing for result in results):
        return (Step("continue", f"{count(missing, 'trial')} of this pair have no result yet.", launch_command(cells)),)
    if pair.verdict is not Verdict.UNDECIDED:
        return ()
    return (*_widen(results), _seeds(pair, cells))


def launch_command(cells: Sequence[Cell], *, seeds: int | None = None, edited: bool = False, file: str = "") -> str:
    """Returns the command that launches cells of one space again.

    Args:
        cells: of one space.
        seeds: number of confirm seeds; None for as many as were planned.
        edited: with a file of the user's own.
        file: that file; "" for a placeholder, as a ledger knows it by the name of its space only.

    Returns:
        "" for results of another program, which nothing here can train.
    """
    if cells[0].task.dataset_row.imported:
        return ""
    name = cells[0].name.space
    known = name in builtin_spaces() and not edited
    planned = max(len(cell.protocol.confirm_seeds + cell.dropped_seeds) for cell in cells) if seeds is None else seeds
    caps = [cell.task.epochs for cell in cells if cell.task.epochs < cell.protocol.full_epochs]
    words = [
        *("lawn-tune", "launch", name if known else file or f"path/to/{name}{SUFFIX}"),
        *(word for pattern in _patterns(cells, known=known) for word in ("--cells", pattern)),
        *(("--seeds", str(planned)) if planned else ()),
        *(("--max-epochs", str(max(caps))) if caps else ()),
    ]
    return shlex.join(words)


def _patterns(cells: Sequence[Cell], *, known: bool) -> list[str]:
    """Returns the --cells patterns that plan exactly these cells; none for all of a built-in space.

    A ledger does not keep the patterns of a launch, and the file of a user's own space may plan more than was launched.
    """
    grids, sizes = _planned(cells[0].name.space) if known else ((), set())
    present: dict[str, list[int]] = {}
    for cell in cells:
        present.setdefault(cell.name.optimizer, []).append(cell.name.batch_size)
    whole = {optimizer for optimizer, found in present.items() if set(found) == sizes}
    if grids and whole == set(grids):
        return []
    return [
        pattern
        for optimizer, found in present.items()
        for pattern in ([f"{optimizer}/*"] if optimizer in whole else [f"{optimizer}/bs{size}" for size in found])
    ]


def _planned(space: str) -> tuple[tuple[str, ...], set[int]]:
    """Returns the methods and batch sizes of a built-in space."""
    found = find_space(space)
    return tuple(found.grids), {budget.batch_size for budget in found.budgets}


def _widen(results: Sequence[CellResult]) -> list[Step]:
    """Returns how to widen the grids of rivals whose winners are on an edge: by a launch, or else by hand."""
    cells = [result.cell for result in results]
    edges = [text for result in results if (text := _edge(result))]
    if not edges:
        return []
    text = f"On the edge of its grid: the winner of {', and of '.join(edges)}."
    if extended(cells, {result.cell.name: result.winner for result in results}):
        command = f"{launch_command(cells)} --extend"
        return [Step("widen", f"{text} A launch with --extend adds levels beyond it, as many to both.", command)]
    return [Step("widen", f"{text} Add levels beyond it to the space's file.", launch_command(cells, edited=True))]


def _edge(result: CellResult) -> str:
    """Returns a winner's method with its levels on an edge that has values beyond it, or ""."""
    won = result.winner
    names = widenable(won) if won else ()
    where = ", ".join(f"{name} = {level_text(won.hyperparameters[name])}" for name in names) if won else ""
    return f"{method(result.cell.name.optimizer)} ({where})" if where else ""


def _seeds(pair: PairResult, cells: Sequence[Cell]) -> Step:
    difference = pair.difference
    if difference is None or difference.effect is None:
        needed: int | None = max(FEW, difference.n + 1 if difference else 0)
    else:
        needed = None if pair.collapsed else difference.seeds_needed or difference.seeds_to_find
    if needed is None:
        return Step("none", to_decide(pair), "")
    return Step("seeds", to_decide(pair), launch_command(cells, seeds=needed))
