"""What the grid cannot tell, shown next to the claim: the caveats of a cell and of a pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lawn_tune.cells import Cell
from lawn_tune.comparison.published import caveat
from lawn_tune.comparison.stability import Stability
from lawn_tune.planning.extending import state
from lawn_tune.planning.generations import CODE
from lawn_tune.planning.keeping import state as kept_state
from lawn_tune.planning.selection import Point, Winner, interior_first, outside, ranked, test_series
from lawn_tune.results import DAMAGED, FINISHED, REPAIR, Outcome, TrialRow
from lawn_tune.words import count, fixed
from search_spaces.levels import is_word, split
from search_spaces.levels import text as level_text
from trainables.catalogue.plugins import identity
from trainables.outcomes import SWITCH_EPOCH
from trainables.tasks import Trial

FEW = 3
"""Seeds below which a mean says little of other seeds; the paper uses 3."""

COLLAPSE = 2.0
"""Factor by which a confirm run falls short of the search's value where it is called collapsed (our choice)."""


class Flag(StrEnum):
    """Kinds of caveat; the value is what tables and exports print."""

    DIFFERENT_TASKS = "different tasks"
    SHARED = "shared points disagree"
    CONTAINED = "loses to its own point"
    NEVER_CONSTRAINED = "never constrained"
    AUTOMATIC = "automatic switch"
    EDGE = "edge of grid"
    WIDENED = "edge after widening"
    EXTENDED = "extended grid"
    KEPT = "level of another batch size"
    TIED = "tied winner"
    RESAMPLED = "winner resampled"
    DIVERGED = "diverged"
    COLLAPSED = "collapsed seeds"
    UNCONFIRMED = "unconfirmed"
    PARTIAL = "interim"
    UNPAIRED = "unpaired seeds"
    ADDED = "seeds added later"
    INCOMPLETE = "grid incomplete"
    CAPPED = "capped epochs"
    UNEQUAL_BUDGET = "unequal budget"
    MICRO_BATCHES = "micro-batches"
    TEST_SELECTION = "selected on test"
    BEST_EPOCH = "best epoch"
    FEW_SEEDS = "few seeds"
    FAILED = "failed trials"
    DAMAGED = "damaged rows"
    SEEDS_ONLY = "seeds only"
    CODE = "changed code"
    PAPER = "the paper's setup differs"


@dataclass(frozen=True, order=True)
class Note:
    """One caveat: its kind, and a sentence that does not need the cell's name."""

    flag: Flag
    text: str


def cell_notes(
    cell: Cell,
    scored: Sequence[Point],
    won: Winner | None,
    stable: Stability | None,
    confirm: Sequence[Trial],
    rows: Mapping[str, TrialRow],
) -> tuple[Note, ...]:
    """Returns the caveats of one cell, in the order of `Flag`.

    Args:
        cell: as planned.
        scored: its grid's points.
        won: the best point so far.
        stable: its stability under resampling of the search seeds.
        confirm: the winner's confirm trials as planned, empty without a winner.
        rows: key → row of the ledger.
    """
    outcomes = [rows[trial.key].outcome if trial.key in rows else None for trial in confirm]
    notes = (
        *_unconstrained(cell, scored, won),
        *_automatic(cell, scored, rows),
        *_edge(cell, won),
        *_widened(cell, won),
        *_extended(cell, won),
        *_kept(cell),
        *_tied(cell, scored, won),
        *_resampled(stable),
        *_diverged(scored, outcomes),
        *_collapsed(cell, won, confirm, rows),
        *_confirmation(cell, won, outcomes),
        *_incomplete(scored),
        *_capped(cell),
        *_protocol(cell),
        *_few(outcomes),
        *_failed(cell, confirm, outcomes, rows),
        *_changed_code(cell, confirm, rows),
        *_paper(cell),
    )
    return in_order(notes)


def task_differences(base: Cell, lawn: Cell) -> tuple[str, ...]:
    """Returns where a pair's tasks differ in more than optimizer and budget: "model width 4 against 32"."""
    ours, theirs = _identity(base), _identity(lawn)
    names = dict.fromkeys((*ours, *theirs))
    return tuple(
        f"{name} {ours.get(name, 'none')} against {theirs.get(name, 'none')}"
        for name in names
        if ours.get(name) != theirs.get(name)
    )


def _identity(cell: Cell) -> dict[str, object]:
    """Returns all that a pair must share: its task without optimizer and epochs, and what is read from trials."""
    task = cell.task.to_dict()
    model = {f"model {name}" if name != "name" else "model": value for name, value in task.pop("model").items()}
    model |= _own_rows(task.pop("rows", {}))
    shared = {name.replace("_", " "): value for name, value in task.items() if name not in ("optimizer", "epochs")}
    protocol = cell.protocol
    read = {name: getattr(protocol, name) for name in ("metric", "direction", "selection", "reported")}
    return shared | model | read


def _own_rows(rows: Mapping[str, Any]) -> dict[str, object]:
    """Returns what rows that are not built in say of the task: "datasets stripes targets", not those of the method."""
    return {
        f"{kind} {name} {key}": value
        for kind, named in identity(rows).items()
        if kind not in ("rules", "controls", "methods")
        for name, row in named.items()
        for key, value in row.items()
    }


def pair_notes(base: Cell, lawn: Cell) -> tuple[Note, ...]:
    """Returns whether the two tasks of a pair differ, and how their searches differ in what they could spend."""
    differences = task_differences(base, lawn)
    text = f"not the same task: {'; '.join(differences)} ({base.side} against {lawn.side})"
    tasks = (Note(Flag.DIFFERENT_TASKS, text),) if differences else ()
    return tasks + tuple(
        Note(Flag.UNEQUAL_BUDGET, f"the pair's {what} differ: {base.side} {b}, {lawn.side} {a}")
        for what, b, a in (
            ("grids", count(base.grid.size, "point"), count(lawn.grid.size, "point")),
            ("budgets", count(base.task.epochs, "epoch"), count(lawn.task.epochs, "epoch")),
            ("search seeds", _seeds(base.protocol.search_seeds), _seeds(lawn.protocol.search_seeds)),
            ("confirm seeds", _seeds(base.protocol.confirm_seeds), _seeds(lawn.protocol.confirm_seeds)),
        )
        if b != a
    )


def in_order(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Returns the notes in the order of `Flag`, equal ones once."""
    rank = {flag: i for i, flag in enumerate(Flag)}
    return tuple(sorted(dict.fromkeys(notes), key=lambda note: rank[note.flag]))


def _unconstrained(cell: Cell, scored: Sequence[Point], won: Winner | None) -> Iterator[Note]:
    lost = sum(cell.never_constrained(point.hyperparameters) for point in scored)
    if not lost:
        return
    epochs, plain = count(cell.task.epochs, "epoch"), plain_base(cell)
    verbs = "has|reaches|it is" if lost == 1 else "have|reach|they are"
    has, reach, are = verbs.split("|")
    yield Note(
        Flag.NEVER_CONSTRAINED,
        f"{lost} of {count(len(scored), 'point')} {has} {cell.method.switch} >= {epochs} and never {reach} the "
        f"constraint: {are} {plain}",
    )
    if won is not None and cell.never_constrained(won.hyperparameters):
        free, switch = cell.free_epochs(won.hyperparameters), cell.method.switch
        text = (
            f"the winner never reached its constraint: {switch} = {free:g} of {epochs}; it is {plain}, not {cell.side}"
        )
        yield Note(Flag.NEVER_CONSTRAINED, text)


def _automatic(cell: Cell, scored: Sequence[Point], rows: Mapping[str, TrialRow]) -> Iterator[Note]:
    """Says of each rule of the switch when it switched, and what it reached next to the best number of epochs."""
    switch, ended = cell.method.switch or "", f"last/{SWITCH_EPOCH}"
    words = [level for level in cell.grid.values.get(switch, ()) if is_word(level)]
    order = [(point.hyperparameters[switch], point, value) for point, value in ranked(cell, scored)] if words else []
    numbers = [f"; {switch} = {level:g}, the best number, {_shown(cell, v)}" for level, _, v in order if level >= 0]
    for word in words:
        for point, value in [(point, value) for level, point, value in order if level == word][:1]:
            when = _switched([rows[key].summary.get(ended) for key in point.keys])
            reached = f"{_shown(cell, value)} in the search (n = {len(point.keys)}{''.join(numbers[:1])})"
            yield Note(Flag.AUTOMATIC, f"{switch} = {level_text(word)} {when} and reached {reached}")


def _switched(epochs: Sequence[float | None]) -> str:
    known = [epoch for epoch in epochs if epoch is not None]
    if not known:
        return "never switched"
    low, high = min(known), max(known)
    never = f", and in {len(epochs) - len(known)} of {len(epochs)} runs never," if len(known) < len(epochs) else ""
    return f"switched at epoch {low:.3g}{'' if low == high else f' to {high:.3g}'}{never}"


def _shown(cell: Cell, value: float) -> str:
    return f"{fixed(value, cell.metric.digits)} {cell.metric.unit}".strip()


def plain_base(cell: Cell) -> str:
    """Returns what a LAWN point that never reaches its constraint is: "plain Adam without weight decay"."""
    return f"plain {cell.method.rule.label} without weight decay"


def _paper(cell: Cell) -> Iterator[Note]:
    if text := caveat(cell):
        yield Note(Flag.PAPER, text)


def widenable(won: Winner) -> tuple[str, ...]:
    """Returns the hyperparameters at an edge with values beyond it: below zero, the lowest level, there is none."""
    return tuple(name for name in won.edges if won.hyperparameters[name] > 0)


def _edge(cell: Cell, won: Winner | None) -> Iterator[Note]:
    if won is None:
        return
    for name in won.edges:
        value, (levels, _) = won.hyperparameters[name], split(cell.grid.values[name])
        side = "lowest" if value == min(levels) else "highest"
        advice = "widen it there" if name in widenable(won) else "it has no value below"
        among = f"its {len(levels)} levels"
        if name == cell.method.switch and len(reaching := cell.constraining_levels) < len(levels):
            side = "lowest" if value == min(reaching) and len(reaching) > 1 else "highest"
            among = f"the {count(len(reaching), 'level')} below {count(cell.task.epochs, 'epoch')}"
            advice = advice if side == "lowest" else "try values between it and the budget, or more epochs"
        yield Note(Flag.EDGE, f"the winner's {name} = {value:g} is the {side} of {among}; {advice}")


def _widened(cell: Cell, won: Winner | None) -> Iterator[Note]:
    for name in widenable(won) if won else ():
        value, (first, _) = won.hyperparameters[name] if won else 0.0, split((cell.first_grid or {}).get(name, ()))
        if first and not min(first) <= value <= max(first):
            text = (
                f"the winner's {name} = {value:g} is on the edge again, although the grid was widened beyond its first"
            )
            yield Note(Flag.WIDENED, f"{text} {min(first):g} to {max(first):g}: the optimum is not bracketed")


def _extended(cell: Cell, won: Winner | None) -> Iterator[Note]:
    if cell.added:
        yield Note(Flag.EXTENDED, state(cell, won))


def _kept(cell: Cell) -> Iterator[Note]:
    if cell.kept:
        yield Note(Flag.KEPT, kept_state(cell))


def outdated(cell: Cell, name: str, source: Winner | None) -> Iterator[Note]:
    """Yields a caveat if a level that another batch size decides is no longer that of its winner.

    Args:
        name: the hyperparameter.
        source: the winner there now.
    """
    value, size = cell.grid.values[name][0], cell.kept[name].batch_size
    if source is not None and not cell.pending and source.hyperparameters[name] != value:
        now = f"the winner at batch size {size} has {name} = {source.hyperparameters[name]:g} by now"
        yield Note(Flag.KEPT, f"{now}, and these trials {value:g}: launch again to train those of the new winner")


def _tied(cell: Cell, scored: Sequence[Point], won: Winner | None) -> Iterator[Note]:
    first, *others = interior_first(cell, [point for point in scored if won and point.value == won.value]) or (None,)
    if first and others:
        depth = outside(cell)
        alike = any(depth(point) == depth(first) for point in others)
        why = "which is the first of those farthest inside" if alike else "which is the farthest inside"
        yield Note(Flag.TIED, f"{count(len(others), 'other point')} of the grid did as well as the winner, {why}")


def _resampled(stable: Stability | None) -> Iterator[Note]:
    if stable is None:
        return
    kept = f"{100 * stable.share:.0f} % of resamples of the {stable.seeds} search seeds keep this winner"
    known = "includes" if stable.variance is not None else "does not include, as the search has no test values,"
    yield Note(Flag.RESAMPLED, f"{kept}; the interval {known} the choice of the winner")


def _diverged(scored: Sequence[Point], confirm: Sequence[Outcome | None]) -> Iterator[Note]:
    lost = sum(point.status == "diverged" for point in scored)
    if lost == len(scored):
        yield Note(Flag.DIVERGED, f"every point of the grid diverged ({lost} of {lost}): there is no winner")
    elif lost:
        yield Note(
            Flag.DIVERGED, f"{lost} of {len(scored)} points of the grid diverged ({100 * lost / len(scored):.0f} %)"
        )
    if runs := confirm.count("diverged"):
        rest = "the mean is over the others" if "complete" in confirm else "none is left to report"
        yield Note(Flag.DIVERGED, f"{runs} of {len(confirm)} confirm runs diverged; {rest}")


def _collapsed(
    cell: Cell, won: Winner | None, confirm: Sequence[Trial], rows: Mapping[str, TrialRow]
) -> Iterator[Note]:
    """Says how many confirm runs were finite and useless: a mean over seeds then describes none of them."""
    if won is None or won.value <= 0:
        return
    higher = cell.protocol.direction == "maximize"
    found = [rows[trial.key].summary.get(test_series(cell.protocol)) for trial in confirm if trial.key in rows]
    values = sorted(value for value in found if value is not None)
    useless = [v for v in values if (v < won.value / COLLAPSE if higher else v > won.value * COLLAPSE)]
    if useless:
        limit = "less than half of" if higher else "more than twice"
        ends = ", ".join(_shown(cell, value) for value in useless[:3]) + (", …" if len(useless) > 3 else "")
        text = f"{len(useless)} of {len(confirm)} confirm runs end with {limit} the search's {_shown(cell, won.value)}"
        yield Note(Flag.COLLAPSED, f"{text}: {ends}; the mean is over all of them")


def _confirmation(cell: Cell, won: Winner | None, confirm: Sequence[Outcome | None]) -> Iterator[Note]:
    if won is None:
        return
    if not confirm.count("complete"):
        none = "no confirm run yet" if set(confirm) != {"diverged"} else "no confirm run is left"
        text = f"{none}: the value is the search's; the best of a grid is biased upward; no interval"
        yield Note(Flag.UNCONFIRMED, text)
        return
    if open_ := sum(outcome not in FINISHED for outcome in confirm):
        yield Note(Flag.PARTIAL, f"{open_} of {len(confirm)} confirm runs are still to come")
    if dropped := len(cell.dropped_seeds):
        first = count(len(cell.first_seeds or ()), "confirm seed")
        yield Note(Flag.PARTIAL, f"the first launch planned {first}; {dropped} of them are not planned any more")
    if added := len(cell.added_seeds):
        text = f"{added} of {len(confirm)} confirm seeds were added after the first launch, whose results were known"
        yield Note(Flag.ADDED, f"{text}; the interval does not allow for that")


def _incomplete(scored: Sequence[Point]) -> Iterator[Note]:
    done = sum(point.finished for point in scored)
    if done < len(scored):
        yield Note(Flag.INCOMPLETE, f"{done} of {len(scored)} points of the grid are trained; the winner may change")


def _capped(cell: Cell) -> Iterator[Note]:
    if cell.task.epochs < cell.protocol.full_epochs:
        text = f"trained for {cell.task.epochs} of the {cell.protocol.full_epochs} epochs that the space asks for"
        yield Note(Flag.CAPPED, text)


def _protocol(cell: Cell) -> Iterator[Note]:
    if cell.task.micro_batch:
        text = f"each step adds up micro-batches of {cell.task.micro_batch:,}, whose own statistics BatchNorm uses"
        yield Note(Flag.MICRO_BATCHES, text)
    if cell.protocol.selection == "test":
        yield Note(
            Flag.TEST_SELECTION, "the winner was selected on the test split, as in the paper: values are optimistic"
        )
    if cell.protocol.reported == "best":
        yield Note(Flag.BEST_EPOCH, "the value is the best epoch's, not the last one's: it is optimistic")


def _few(confirm: Sequence[Outcome | None]) -> Iterator[Note]:
    done = confirm.count("complete")
    if 0 < done < FEW:
        yield Note(Flag.FEW_SEEDS, f"n = {done}: fewer than {FEW} confirm runs say little of other seeds")


def _failed(
    cell: Cell, confirm: Sequence[Trial], outcomes: Sequence[Outcome | None], rows: Mapping[str, TrialRow]
) -> Iterator[Note]:
    damaged = [row for trial in (*cell.search_trials, *confirm) if (row := rows.get(trial.key)) and row.damaged]
    search = sum(trial.key in rows and rows[trial.key].outcome == "failed" for trial in cell.search_trials)
    if failed := search + outcomes.count("failed") - len(damaged):
        yield Note(Flag.FAILED, f"{count(failed, 'trial')} failed and would be retried by another launch")
    if damaged:
        named = "; ".join(row.error.removeprefix(DAMAGED) for row in damaged[:3])
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        yield Note(Flag.DAMAGED, f"left out, because the ledger's row cannot be read: {named}{more}. {REPAIR}")


def _changed_code(cell: Cell, confirm: Sequence[Trial], rows: Mapping[str, TrialRow]) -> Iterator[Note]:
    code = cell.task.code
    known = [rows[trial.key] for trial in (*cell.search_trials, *confirm) if trial.key in rows]
    if changed := sum(row.provenance.get(CODE, code) != code for row in known):
        share = f"{changed} of {count(len(known), 'trial')}"
        text = f"{share} ran changed code of {cell.task.code_of}, taken for the same by --keep-code"
        yield Note(Flag.CODE, text)


def _seeds(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"
