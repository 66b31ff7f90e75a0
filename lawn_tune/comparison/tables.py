"""A comparison as rows: the paper's table, the paired differences below it, and footnotes for every caveat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_lowercase
from typing import NamedTuple

from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import CellResult, Comparison, PairResult, Verdict
from lawn_tune.comparison.differences import Difference
from lawn_tune.comparison.estimates import Estimate
from lawn_tune.comparison.flags import Flag, Note
from lawn_tune.comparison.published import source
from lawn_tune.comparison.verdicts import (
    enough_digits,
    family_text,
    headline,
    interval_text,
    overall_sentence,
    sentence,
    verdict_text,
)
from lawn_tune.planning.generations import CODE
from lawn_tune.results import COMMIT
from lawn_tune.words import count, difference_unit, fixed, listing, method, metric_name, metric_of, signed


class Entry(NamedTuple):
    """One cell of the table.

    `text` is complete ("66.91 ± 0.21 (3)"), "diverged" or "–"; `best` marks the better confirmed mean of a pair.
    """

    optimizer: str
    batch_size: int
    text: str
    mean: float | None
    error: float | None
    n: int
    confirmed: bool
    best: bool
    published: str
    marks: tuple[str, ...]


class DifferenceRow(NamedTuple):
    """One pair below the table, ready to print; `marks` are the caveats of the pair and of both its cells."""

    methods: str
    batch_size: int
    difference: str
    interval: str
    n: str
    verdict: str
    marks: tuple[str, ...]


class Footnote(NamedTuple):
    """What a mark means: one sentence for each distinct caveat, with the places where it applies."""

    mark: str
    flag: Flag
    texts: tuple[str, ...]


class Table(NamedTuple):
    """Everything a renderer prints, in order."""

    title: str
    digits: int
    differences_title: str
    headline: str
    overall: str
    sentences: tuple[str, ...]
    caption: str
    optimizers: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    entries: Mapping[tuple[str, int], Entry]
    differences: tuple[DifferenceRow, ...]
    footnotes: tuple[Footnote, ...]
    remarks: tuple[str, ...]


def _overall(comparison: Comparison) -> str:
    """Returns what holds of all pairs together; "" for one, whose own sentence says it."""
    overall = comparison.overall
    return overall_sentence(overall) if overall and len(overall.pairs) > 1 else ""


DIFFERENCE_HEADER = ("Pair", "Batch", "Difference", "95 % interval", "n", "Verdict")


def table(comparison: Comparison) -> Table:
    """Returns the comparison as rows and texts."""
    flags = {note.flag for _, note in _located(comparison)}
    marks = dict(zip((flag for flag in Flag if flag in flags), ascii_lowercase, strict=False))
    return Table(
        title=f"{comparison.space}: {_metric(comparison)}",
        digits=metric_of(comparison.protocol.metric).digits,
        differences_title=", in ".join(
            filter(None, ["paired differences", difference_unit(comparison.protocol.metric)])
        ),
        headline=headline(comparison),
        overall=_overall(comparison),
        sentences=tuple(sentence(pair) for pair in comparison.pairs),
        caption=caption(comparison),
        optimizers=(*comparison.optimizers, *(label for label, _ in _references(comparison))),
        batch_sizes=comparison.batch_sizes,
        entries=_entries(comparison, marks) | _reference_entries(comparison),
        differences=tuple(_difference_row(pair, marks) for pair in comparison.pairs),
        footnotes=_footnotes(comparison, marks),
        remarks=tuple(_remarks(comparison)),
    )


def difference_cells(row: DifferenceRow, marks: str = "") -> list[str]:
    """Returns the printed cells under `DIFFERENCE_HEADER`, the verdict followed by `marks`."""
    *values, verdict, _ = row
    return [f"{value:,}" if isinstance(value, int) else str(value) for value in values] + [f"{verdict}{marks}"]


def caption(comparison: Comparison) -> str:
    """Returns the protocol: what the numbers are and how winners were chosen."""
    metric = _metric(comparison)
    reported = " or ".join(comparison.distinct(lambda cell: cell.protocol.reported))
    winners = " or ".join(comparison.distinct(_selection))
    imported = comparison.cells[0].cell.task.dataset_row.imported
    retrained = "; the runs were imported" if imported else ", retrained on train + validation"
    return _task_warning(comparison) + (
        f"{metric[0].upper()}{metric[1:]}, {reported} epoch, mean ± standard error over fresh seeds "
        f"(n in parentheses) of each cell's winner{retrained}. Winners: best mean {winners}.{_conditional(comparison)} "
        f"Bold: the better of a pair, where the interval of their difference excludes zero."
        f"{_splits(comparison)}"
    )


def _splits(comparison: Comparison) -> str:
    """Returns how the data sets are split where their rows say so, "" where they do not."""
    tasks = comparison.distinct(lambda cell: cell.task)
    rows = {task.dataset: task.catalogue.datasets.get(task.dataset) for task in tasks}
    return "".join(f" Data {name}: {row.splits}." for name, row in rows.items() if row and row.splits)


def model_text(cell: Cell) -> str:
    """Returns a model with its options: "small-vgg (width 16)"."""
    model = cell.task.to_dict()["model"]
    options = ", ".join(f"{name} {value}" for name, value in model.items() if name != "name")
    return f"{model['name']} ({options})" if options else str(model["name"])


def _selection(cell: Cell) -> str:
    protocol = cell.protocol
    seeds = f"seed{'' if len(protocol.search_seeds) == 1 else 's'} {', '.join(map(str, protocol.search_seeds))}"
    return f"{protocol.reported}-epoch {protocol.selection} {metric_name(protocol.metric)} over search {seeds}"


def _conditional(comparison: Comparison) -> str:
    """Returns that intervals do not include the choice of winners, where the search cannot tell how it varies."""
    found = [pair.conditional for pair in comparison.pairs]
    if not any(found):
        return ""
    which = "The" if all(found) else "Some"
    return f" {which} intervals are conditional on the winners."


def _task_warning(comparison: Comparison) -> str:
    """Returns what the cells do not share, to stand first: the reader must not take the table as of one task."""
    found = (
        ("dataset", comparison.distinct(lambda cell: cell.task.dataset)),
        ("model", comparison.distinct(model_text)),
        ("loss", comparison.distinct(lambda cell: cell.task.loss)),
        ("metric", comparison.distinct(lambda cell: metric_name(cell.protocol.metric))),
    )
    differ = [f"{what} {' or '.join(values)}" for what, values in found if len(values) > 1]
    return f"The cells are not all of one task: {'; '.join(differ)}. " if differ else ""


def value_text(result: CellResult) -> str:
    """Returns a cell's value with its standard error and n: "66.91 ± 0.21 (3)", "66.9 (search, 2)", or why not."""
    estimate = result.estimate
    if estimate is None:
        return "diverged" if result.all_diverged else "–"
    if estimate.phase == "search":
        return f"{fixed(estimate.mean, _digits(result))} (search, {estimate.n})"
    return mean_text(estimate, _digits(result))


def mean_text(estimate: Estimate, digits: int) -> str:
    """Returns the mean of fresh runs with its standard error and n: "66.91 ± 0.21 (3)"."""
    if estimate.error is None:
        return f"{fixed(estimate.mean, digits)} (n=1)"
    return f"{fixed(estimate.mean, digits)} ± {fixed(estimate.error, digits)} ({estimate.n})"


def _metric(comparison: Comparison) -> str:
    units = {name: metric_of(name).unit for name in comparison.distinct(lambda cell: cell.protocol.metric)}
    return "test " + " or ".join(metric_name(name) + (f" ({unit})" if unit else "") for name, unit in units.items())


def _digits(result: CellResult) -> int:
    return metric_of(result.cell.protocol.metric).digits


def _entries(comparison: Comparison, marks: Mapping[Flag, str]) -> dict[tuple[str, int], Entry]:
    bold = {_better(pair) for pair in comparison.pairs}
    entries = {}
    for result in comparison.cells:
        name, estimate = result.cell.name, result.estimate
        entries[name.optimizer, name.batch_size] = Entry(
            optimizer=name.optimizer,
            batch_size=name.batch_size,
            text=value_text(result),
            mean=estimate.mean if estimate else None,
            error=estimate.error if estimate else None,
            n=estimate.n if estimate else 0,
            confirmed=result.confirmed is not None,
            best=(name.optimizer, name.batch_size) in bold,
            published="" if result.published is None else fixed(result.published, 2),
            marks=_marks(result.notes, marks),
        )
    return entries


def _references(comparison: Comparison) -> list[tuple[str, float]]:
    """Returns label and value of each reference that is one number for the whole table."""
    values = [(found.label, found.value(comparison.protocol.metric)) for found in comparison.references]
    return [(label, value) for label, value in values if value is not None]


def _reference_entries(comparison: Comparison) -> dict[tuple[str, int], Entry]:
    """Returns a row for each reference, with the same value at every batch size."""
    digits = metric_of(comparison.protocol.metric).digits
    return {
        (label, size): Entry(label, size, fixed(value, digits), value, None, 0, False, False, "", ())
        for label, value in _references(comparison)
        for size in comparison.batch_sizes
    }


def _better(pair: PairResult) -> tuple[str, int] | None:
    """Returns the cell that the verdict calls better; None without one: an undecided difference has no winner."""
    better = {Verdict.BETTER: pair.challenger, Verdict.WORSE: pair.baseline}.get(pair.verdict)
    return (better.cell.name.optimizer, pair.batch_size) if better else None


def _difference_row(pair: PairResult, marks: Mapping[Flag, str]) -> DifferenceRow:
    difference, digits = pair.difference, _digits(pair.baseline)
    return DifferenceRow(
        methods=_methods(pair),
        batch_size=pair.batch_size,
        difference=signed(difference.mean, enough_digits(difference, digits)) if difference else "–",
        interval=interval_text(difference, digits) if difference else "–",
        n=n_text(difference) if difference else "–",
        verdict=verdict_text(pair),
        marks=_marks((*pair.notes, *pair.baseline.notes, *pair.challenger.notes), marks),
    )


def _methods(pair: PairResult) -> str:
    return " − ".join(method(result.cell.name.optimizer) for result in (pair.challenger, pair.baseline))


def n_text(difference: Difference) -> str:
    """Returns the seeds of a difference, and the test examples of each: "10 × 943"."""
    examples = "" if difference.examples is None else f" × {difference.examples:,}"
    return f"{difference.n}{examples}"


def _marks(notes: Iterable[Note], marks: Mapping[Flag, str]) -> tuple[str, ...]:
    return tuple(sorted({marks[note.flag] for note in notes}))


def _located(comparison: Comparison) -> list[tuple[str, Note]]:
    """Returns every caveat with the place it belongs to."""
    cells = [
        (f"{method(r.cell.name.optimizer)} {r.cell.name.batch_size:,}", note)
        for r in comparison.cells
        for note in r.notes
    ]
    pairs = [(f"{_methods(pair)} {pair.batch_size:,}", note) for pair in comparison.pairs for note in pair.notes]
    return cells + pairs


def _footnotes(comparison: Comparison, marks: Mapping[Flag, str]) -> tuple[Footnote, ...]:
    places: dict[Note, list[str]] = {}
    for place, note in _located(comparison):
        places.setdefault(note, []).append(place)
    return tuple(Footnote(mark, flag, _listed(flag, places, len(comparison.cells))) for flag, mark in marks.items())


def _listed(flag: Flag, places: Mapping[Note, Sequence[str]], cells: int) -> tuple[str, ...]:
    return tuple(
        f"{note.text} [{'all cells' if len(where) == cells > 1 else '; '.join(where)}]"
        for note, where in places.items()
        if note.flag is flag
    )


def missing_text(comparison: Comparison) -> str:
    """Returns which cells are not finished, with their missing trials, and which were never begun; "" if none."""
    unfinished = [
        f"{method(result.cell.name.optimizer)} at batch {result.cell.name.batch_size:,} "
        f"({count(result.missing, 'trial')} missing)"
        for result in comparison.cells
        if result.missing
    ]
    return " ".join(filter(None, (f"Not finished: {listing(unfinished)}." if unfinished else "", _absent(comparison))))


def _absent(comparison: Comparison) -> str:
    """Returns "Not begun: Adam and Adam-LAWN at batch 1,000 and 400,000."; or ""."""
    methods: dict[int, list[str]] = {}
    for name in sorted(comparison.absent, key=lambda name: name.batch_size):
        methods.setdefault(name.batch_size, []).append(method(name.optimizer))
    sizes: dict[str, list[str]] = {}
    for size, names in methods.items():
        sizes.setdefault(listing(names), []).append(f"{size:,}")
    parts = [f"{names} at batch {listing(found)}" for names, found in sizes.items()]
    return f"Not begun: {'; '.join(parts)}." if parts else ""


def _fractions(comparison: Comparison) -> bool:
    """True where no percentage is above 1: of fractions, the margin would call any two methods equivalent."""
    values = [point.value for result in comparison.cells for point in result.points if point.value is not None]
    percent = all(result.cell.metric.unit == "%" for result in comparison.cells)
    return percent and 0 < max(values, default=0.0) <= 1


def _remarks(comparison: Comparison) -> Iterable[str]:
    if _fractions(comparison):
        yield "No value of any grid is above 1 %. If these are fractions, they must be multiplied by 100."
    if missing := missing_text(comparison):
        yield missing
    if any(pair.difference for pair in comparison.pairs):
        yield "Differences are paired; n counts seeds × test examples, or seeds alone where the interval is over seeds."
    if text := family_text(comparison):
        yield text
    for what in ("device", "lawn_tune", COMMIT, "libraries.torch"):
        if len(found := comparison.provenance.get(what, ())) > 1:
            yield f"The trials did not all run on the same {what}: {', '.join(found)}."
    shown = {result.cell.task.code for result in comparison.cells} - {""}
    if shown and (others := {*comparison.provenance.get(CODE, ())} - shown):
        versions = count(len(others), "other version")
        yield f"The ledger has trials of {versions} of the source code; those trained again since are not shown."
    if len(found := comparison.provenance.get("data sha256", ())) > 1:
        yield f"The trials were not all trained on the same data: its sha256 is {' or '.join(found)}."
    yield from (reference.text for reference in comparison.references)
    if any(result.published is not None for result in comparison.cells):
        printed_in = source(result.cell for result in comparison.cells)
        yield f"Values under “paper” are printed there, not measured here ({printed_in})."
