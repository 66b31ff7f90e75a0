"""How a comparison was made: its protocol and dates, and the commands that reproduce it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.next_steps import launch_command
from lawn_tune.comparison.tables import model_text
from lawn_tune.results import TrialRow
from lawn_tune.storage import masked
from lawn_tune.words import duration, metric_name
from trainables.catalogue.datasets import DATASETS

_CONSTRAINED = {
    "all": "every tensor with two or more dimensions, embeddings included; biases and 1-D tensors are free",
    "final": "the tensors of the last homogeneous sub-network; all others are free",
}


class Span(NamedTuple):
    """When the trials ran: first start and last end as the ledger states them, or empty."""

    first: str
    last: str


def dates(trials: Sequence[TrialRow]) -> Span:
    """Returns when the trials ran, by their provenance."""
    starts = sorted(str(row.provenance["started"]) for row in trials if row.provenance.get("started"))
    ends = sorted(str(row.provenance["ended"]) for row in trials if row.provenance.get("ended"))
    return Span(starts[0][:10] if starts else "", ends[-1][:10] if ends else "")


def protocol(comparison: Comparison, when: Span) -> list[tuple[str, str]]:
    """Returns (what, value) of the protocol, cost, dates and versions of a comparison."""
    of: dict[str, Callable[[Cell], str]] = {
        "dataset": lambda cell: cell.task.dataset,
        "model": model_text,
        "loss": lambda cell: cell.task.loss,
        "metric": _metric,
        "selection": _selection,
        "search seeds": lambda cell: _listed(cell.protocol.search_seeds),
        "confirm seeds": lambda cell: f"{_listed(cell.protocol.confirm_seeds)}{_retrained(cell)}",
        "epochs": lambda cell: str(cell.task.epochs),
    }
    trained: dict[str, Callable[[Cell], str]] = {
        "schedule": lambda cell: f"{cell.task.schedule}, one schedule across both phases",
        "constrained by LAWN": lambda cell: _CONSTRAINED.get(cell.task.constrain, cell.task.constrain),
        "precision": lambda cell: cell.task.precision,
    }
    imported = comparison.cells[0].cell.task.dataset_row.imported
    of |= {} if imported else trained  # how other programs trained is not known
    rows = [(name, " | ".join(comparison.distinct(value))) for name, value in of.items()]
    rows += [
        ("intervals", _intervals(comparison)),
        ("device time", duration(sum(result.seconds for result in comparison.cells))),
        ("trained", " to ".join(dict.fromkeys(day for day in when if day)) or "unknown"),
    ]
    return rows + [(name.replace("libraries.", ""), ", ".join(v)) for name, v in comparison.provenance.items()]


def _intervals(comparison: Comparison) -> str:
    margins = " or ".join(comparison.distinct(lambda cell: f"{cell.protocol.margin or 'none'}"))
    known = [
        pair.difference.examples is not None for pair in comparison.pairs if pair.difference and pair.difference.effect
    ]
    model = "crossed random effects of seeds and test examples" if any(known) or not known else "Student's t over seeds"
    alone = ", over seeds alone where the outcomes are not known" if any(known) and not all(known) else ""
    return f"paired, {model}{alone}, 95 % for all pairs together; margin {margins}"


def _retrained(cell: Cell) -> str:
    return "" if cell.task.dataset_row.imported else "; trained on train + validation"


def _metric(cell: Cell) -> str:
    return f"{metric_name(cell.protocol.metric)}, {cell.protocol.reported} epoch, on the test split"


def _selection(cell: Cell) -> str:
    protocol = cell.protocol
    return f"mean {protocol.reported}-epoch {protocol.selection} {metric_name(protocol.metric)}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"


def commands(comparison: Comparison, storage: str | None) -> list[str]:
    """Returns what to type; a space of the user's own is known by name only, so its file is a placeholder."""
    where = f" --storage {shlex.quote(masked(storage))}" if storage else ""
    name = shlex.quote(comparison.space)
    cells = [result.cell for result in comparison.cells]
    launch = launch_command(cells)
    if launch and any(cell.added for cell in cells):
        launch = f"{launch} --extend"
    fetched = comparison.distinct(lambda cell: cell.task.dataset if cell.task.dataset_row.download else "")
    return [
        *(f"lawn-tune data fetch {dataset}" for dataset in fetched if dataset in DATASETS),
        *(f"{text}{where}" for text in (launch, f"lawn-tune compare {name}", f"lawn-tune report {name}") if text),
    ]
