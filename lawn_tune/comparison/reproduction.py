"""A table of the paper next to ours: each printed value, our confirmed value of the same cell, their difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from lawn_tune.comparison.comparison import CellResult, Comparison
from lawn_tune.comparison.tables import caption, mean_text, value_text
from lawn_tune.comparison.verdicts import overall_sentence, sentence
from lawn_tune.words import fixed, metric_name, signed
from search_spaces.published import FAIL, PublishedTable, PublishedValue
from trainables.catalogue.losses import LOSSES
from trainables.catalogue.methods import METHODS

ECE, ECE_DIGITS = "ece", 4
"""Name of the expected calibration error, which every trial of classes has next to its metrics, and its digits."""

ABSENT = "–"
"""A cell that is not trained."""

FAIL_RULE = (
    f"“{FAIL}” in our rows: every trial of the grid diverged, or the confirmed value is at most that of ItemPop, which "
    "ranks by popularity and needs no training (our rule; the paper states none)."
)

DIFFERENCES = "Differences are ours − paper. The paper's runs and data splits are not ours, so they have no interval."

_Column = tuple[str, str, int]
"""Loss, batch size as printed, epochs."""


class Row(NamedTuple):
    """One line: a method, whose numbers they are, and one text per column."""

    method: str
    source: str
    texts: tuple[str, ...]


class Block(NamedTuple):
    """The part of a table on one data set.

    Args:
        title: data set and metric.
        columns: printed batch sizes, with losses and epochs.
        rows: three of each method: paper, ours, and their difference.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


class Reproduction(NamedTuple):
    """A table of the paper next to ours, ready to print.

    Args:
        number, title: of the table.
        blocks: one per data set and metric.
        verdicts: our comparisons, one sentence each.
        protocols: what our numbers are, one text per space.
        remarks: rules and facts to read the numbers by, doubts about the printed ones last.
        trained, printed: cells with a confirmed value of ours, and cells that the paper prints.
    """

    number: int
    title: str
    blocks: tuple[Block, ...]
    verdicts: tuple[str, ...]
    protocols: tuple[str, ...]
    remarks: tuple[str, ...]
    trained: int
    printed: int


def reproduction(table: PublishedTable, comparisons: Sequence[Comparison]) -> Reproduction:
    """Returns a table of the paper next to what comparisons hold of its cells.

    Args:
        table: as published.
        comparisons: of the spaces that train its cells; the first that has a cell counts.
    """
    found = _Found(comparisons)
    blocks = groupby(table.values, key=lambda value: (value.dataset, value.metric))
    return Reproduction(
        number=table.number,
        title=table.title,
        blocks=tuple(_block(dataset, metric, list(values), found) for (dataset, metric), values in blocks),
        verdicts=tuple(_verdicts(comparisons)),
        protocols=tuple(dict.fromkeys(caption(comparison) for comparison in comparisons)),
        remarks=(DIFFERENCES, FAIL_RULE, *table.facts, *(f"Doubtful in the paper: {text}" for text in table.doubts)),
        trained=sum(any(found.of(each) for each in (value, *found.of_each_size(value))) for value in table.values),
        printed=len(table.values),
    )


class _Found:
    """Our confirmed results, by what the paper says of a value."""

    def __init__(self, comparisons: Sequence[Comparison]) -> None:
        self._results: dict[tuple[str, str, str, str, int], tuple[CellResult, float | None]] = {}
        for comparison in comparisons:
            for result in comparison.cells:
                task, metric = result.cell.task, result.cell.protocol.metric
                row = task.catalogue.datasets.get(task.dataset)
                dataset = row.published if row and row.published else task.dataset
                for name, estimate in ((metric, result.confirmed), (ECE, result.ece)):
                    if estimate is not None or result.all_diverged:
                        key = (dataset, name, task.loss, task.optimizer, task.batch_size)
                        self._results.setdefault(key, (result, _trivial(comparison, name)))

    def of(self, value: PublishedValue) -> CellResult | None:
        """Returns our result of a printed cell, None where it is not confirmed."""
        return self._of(value)[0]

    def of_each_size(self, value: PublishedValue) -> tuple[PublishedValue, ...]:
        """Returns what stands for a value whose batch size the paper does not give: one of each size of ours."""
        if value.batch_size is not None:
            return ()
        place = (value.dataset, value.metric, value.loss)
        sizes = sorted({size for *known, _, size in self._results if tuple(known) == place})
        return tuple(replace(value, batch=f"{size:,}", batch_size=size, text="", mean=None) for size in sizes)

    def methods(self, dataset: str, metric: str) -> tuple[str, ...]:
        """Returns the methods of which there is a result."""
        return tuple(dict.fromkeys(key[3] for key in self._results if key[:2] == (dataset, metric)))

    def failed(self, value: PublishedValue) -> bool:
        """True where our cell did not learn; see `FAIL_RULE`."""
        result, trivial = self._of(value)
        if result is None or result.confirmed is None:
            return result is not None
        return trivial is not None and result.confirmed.mean <= trivial

    def _of(self, value: PublishedValue) -> tuple[CellResult | None, float | None]:
        if value.batch_size is None:
            return None, None
        key = (value.dataset, value.metric, value.loss, value.method, value.batch_size)
        return self._results.get(key, (None, None))


def _trivial(comparison: Comparison, metric: str) -> float | None:
    """Returns the largest value of a metric that needs no training, None where none was measured."""
    values = [found.value(metric) for found in comparison.references]
    return max((value for value in values if value is not None), default=None)


def _block(dataset: str, metric: str, printed: Sequence[PublishedValue], found: _Found) -> Block:
    values = [*printed, *(each for value in printed for each in found.of_each_size(value))]
    columns = list(dict.fromkeys(map(_column, values)))
    several = len({loss for loss, _, _ in columns}) > 1
    by_place = {(value.label, _column(value)): value for value in values}
    rows: list[Row] = []
    for label in dict.fromkeys(value.label for value in values):
        of_label = [by_place.get((label, column)) for column in columns]
        rows.extend(_rows(label, of_label, found))
    rows.extend(_unprinted(values, found))
    texts = tuple(_column_text(column, several) for column in columns)
    return Block(f"{dataset}, {metric_name(metric)}", texts, tuple(rows))


def _unprinted(values: Sequence[PublishedValue], found: _Found) -> Iterator[Row]:
    """Yields our rows of methods that the paper does not print there."""
    columns = {_column(value): value for value in values}
    for method in found.methods(values[0].dataset, values[0].metric):
        ours = [replace(value, method=method, text="", mean=None) for value in columns.values()]
        if method not in {value.method for value in values} and any(found.of(value) for value in ours):
            label = METHODS[method].label if method in METHODS else method
            yield Row(label, "ours", tuple(_ours(value, found) for value in ours))


def _column(value: PublishedValue) -> _Column:
    return value.loss, value.batch, value.epochs


def _column_text(column: _Column, several: bool) -> str:
    loss, batch, epochs = column
    label = LOSSES[loss].label if loss in LOSSES else loss
    return f"{f'{label}, ' if several else ''}batch {batch}, {epochs} epochs"


def _rows(label: str, printed: Sequence[PublishedValue | None], found: _Found) -> Iterator[Row]:
    yield Row(label, "paper", tuple(_paper(value) for value in printed))
    yield Row("", "ours", tuple(_ours(value, found) for value in printed))
    yield Row("", "ours − paper", tuple(_difference(value, found) for value in printed))


def _paper(value: PublishedValue | None) -> str:
    if value is None:
        return ""
    return value.text if value.error is None else f"{value.text} ± {fixed(value.error, 2)}"


def _ours(value: PublishedValue | None, found: _Found) -> str:
    if value is None or value.batch_size is None:
        return ""
    result = found.of(value)
    if result is None:
        return ABSENT
    text = value_text(result) if value.metric != ECE or result.ece is None else mean_text(result.ece, ECE_DIGITS)
    return f"{FAIL} ({text})" if found.failed(value) else text


def _difference(value: PublishedValue | None, found: _Found) -> str:
    result = found.of(value) if value is not None else None
    if value is None or value.mean is None or result is None or result.confirmed is None:
        return ABSENT if value is not None and value.text and value.batch_size is not None else ""
    return signed(result.confirmed.mean - value.mean, 2)


def _verdicts(comparisons: Iterable[Comparison]) -> Iterator[str]:
    for comparison in comparisons:
        if comparison.overall is not None:
            yield f"{comparison.space}: {overall_sentence(comparison.overall)}"
        yield from (sentence(pair) for pair in comparison.pairs)
