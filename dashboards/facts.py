"""The content of a report, as plain values: the one source of its page, its Markdown and its JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dashboards.figures.sensitivity import SensitivityAxis, SensitivityLevel, sensitivity_info, span
from dashboards.figures.tuning_curve import ROUND, Drawn, TuningCurveInfo, TuningLine, tuning_curve_infos
from dashboards.widening import Widening, shortest_budget, table_name, widenings
from lawn_tune import __version__
from lawn_tune.cells import Cell
from lawn_tune.comparison.compare import CellResult, Comparison
from lawn_tune.comparison.renderers.exchange import to_dict
from lawn_tune.comparison.renderers.markdown import escaped, markdown, pipes
from lawn_tune.comparison.tables import DIFFERENCE_HEADER, Table, difference_cells, model_text, table
from lawn_tune.planning.selection import Winner
from lawn_tune.planning.spaces import builtin_spaces, find_space
from lawn_tune.results import TrialRow
from lawn_tune.storage import masked
from lawn_tune.words import duration, fixed, method, metric_name
from search_spaces.loader import SUFFIX

SCHEMA = "lawn-tune/report/2"

TUNING_DEFINITION = (
    "The best of k points drawn at random, without replacement, from the finished points of a grid: its mean over all "
    "draws, the middle 80 % of them, and the test value of the point selected (same runs, no fresh seeds). Exact: the "
    "r-th best of N points is the best of k with chance C(N − r, k − 1) / C(N, k). A diverged point counts as drawn."
)

_CONSTRAINED = {
    "all": "every tensor with two or more dimensions, embeddings included; biases and 1-D tensors are free",
    "final": "the tensors of the last homogeneous sub-network; all others are free",
}


class Span(NamedTuple):
    """When the trials ran: first start and last end as the ledger states them, or empty."""

    first: str
    last: str


class Facts(NamedTuple):
    """The content of a report next to the comparison itself, ready to print; rows are texts under their headers."""

    comparison: Comparison
    table: Table
    winners: tuple[dict[str, str], ...]
    wider: tuple[tuple[str, str, str], ...]
    sensitivity: tuple[tuple[str, ...], ...]
    tuning_curves: tuple[TuningCurveInfo, ...]
    tuning_rows: tuple[tuple[str, ...], ...]
    protocol: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]


WINNER_HEADER = ("Method", "Batch", "Winner", "Points", "Diverged", "Epochs", "Device time")
WIDER_HEADER = ("Method", "Batch", "Suggested change")
SENSITIVITY_HEADER = ("Method", "Batch", "Hyperparameter", "Level", "Best", "Median", "Complete", "Diverged", "Span")
TUNING_HEADER = ("Method", "Batch", "k", "Best expected", "80 % of draws", "Test value", "Device time")


def facts(comparison: Comparison, trials: Sequence[TrialRow], storage: str | None = None) -> Facts:
    """Returns the content of a report.

    Args:
        comparison: of one space.
        trials: of that space; the source of costs, dates and the test values of search points.
        storage: URL of the ledger where it is not the default, for the commands to type; its password is masked.
    """
    curves = tuning_curve_infos(comparison, trials)
    shortest = shortest_budget(comparison)
    return Facts(
        comparison=comparison,
        table=table(comparison),
        winners=tuple(_winner_row(result) for result in comparison.cells),
        wider=tuple(row for result in comparison.cells for row in _wider(result, shortest)),
        sensitivity=tuple(row for result in comparison.cells if result.winner for row in _sensitivity(result)),
        tuning_curves=curves,
        tuning_rows=tuple(row for info in curves for line in info.lines for row in _tuning_rows(info, line)),
        protocol=tuple(_protocol(comparison, dates(trials))),
        commands=tuple(_commands(comparison, storage)),
    )


def dates(trials: Sequence[TrialRow]) -> Span:
    """Returns when the trials ran, by their provenance."""
    starts = sorted(str(row.provenance["started"]) for row in trials if row.provenance.get("started"))
    ends = sorted(str(row.provenance["ended"]) for row in trials if row.provenance.get("ended"))
    return Span(starts[0][:10] if starts else "", ends[-1][:10] if ends else "")


# --- as text ---------------------------------------------------------------------------------------------------------


def report_markdown(found: Facts) -> str:
    """Returns the report in GitHub's Markdown."""
    parts = [
        f"# {escaped(found.comparison.space)}: does LAWN beat weight decay?",
        markdown(found.comparison).rstrip(),
        "## Winners and cost",
        _pipes(WINNER_HEADER, [tuple(row.values()) for row in found.winners]),
        *_titled("### On the edge: suggested changes", WIDER_HEADER, found.wider),
        *_titled("## Each hyperparameter alone", SENSITIVITY_HEADER, found.sensitivity),
        *_titled("## Expected best of k random points", TUNING_HEADER, found.tuning_rows, TUNING_DEFINITION),
        *_titled("## Protocol and versions", ("What", "Value"), found.protocol),
        "## Reproduce",
        "```sh\n" + "\n".join(found.commands) + "\n```",
        f"Written by lawn-tune {__version__}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _titled(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> list[str]:
    return [title, escaped(note), _pipes(header, rows)] if rows else []


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return pipes([escaped(name) for name in header], [[escaped(value) for value in row] for row in rows])


def report_json(found: Facts) -> str:
    """Returns the report as JSON: what the Markdown prints, under the same headers, and every number in full."""
    rows = found.table
    values = {
        "schema": SCHEMA,
        "lawn_tune": __version__,
        "space": found.comparison.space,
        "headline": rows.headline,
        "verdicts": [
            {"verdict": pair.verdict.value, "sentence": text}
            for pair, text in zip(found.comparison.pairs, rows.sentences, strict=True)
        ],
        "values": {
            "title": rows.title,
            "caption": rows.caption,
            "rows": [
                {"method": method(entry.optimizer), "batch_size": entry.batch_size, "text": entry.text}
                | {"best": entry.best, "paper": entry.published, "caveats": list(entry.marks)}
                for entry in rows.entries.values()
            ],
        },
        "differences": [
            dict(zip(DIFFERENCE_HEADER, difference_cells(row), strict=True)) | {"caveats": list(row.marks)}
            for row in rows.differences
        ],
        "caveats": [{"mark": note.mark, "flag": note.flag.value, "texts": list(note.texts)} for note in rows.footnotes],
        "remarks": list(rows.remarks),
        "winners": list(found.winners),
        "wider": _named(WIDER_HEADER, found.wider),
        "sensitivity": _named(SENSITIVITY_HEADER, found.sensitivity),
        "tuning_curve": {"definition": TUNING_DEFINITION, "rows": _named(TUNING_HEADER, found.tuning_rows)},
        "protocol": dict(found.protocol),
        "commands": list(found.commands),
        "comparison": to_dict(found.comparison),
    }
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _named(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    return [dict(zip(header, row, strict=True)) for row in rows]


# --- rows ------------------------------------------------------------------------------------------------------------


def _winner_row(result: CellResult) -> dict[str, str]:
    statuses = [point.status for point in result.points]
    done = sum(point.finished for point in result.points)
    values = (
        *_names(result.cell),
        _winner(result.winner),
        f"{done:,} of {len(statuses):,}",
        f"{statuses.count('diverged'):,}",
        str(result.cell.task.epochs),
        duration(result.seconds),
    )
    return dict(zip(WINNER_HEADER, values, strict=True))


def _winner(winner: Winner | None) -> str:
    if winner is None:
        return "none yet"
    values = winner.hyperparameters.items()
    return ", ".join(f"{name} {value:g}{' (edge)' if name in winner.edges else ''}" for name, value in values)


def _names(cell: Cell) -> tuple[str, str]:
    return method(cell.name.optimizer), f"{cell.name.batch_size:,}"


def _wider(result: CellResult, shortest: int) -> list[tuple[str, str, str]]:
    lines = [_line(result, widening) for widening in widenings(result, shortest)]
    return [(*_names(result.cell), line) for line in lines if line]


def _line(result: CellResult, widening: Widening) -> str:
    """Returns the line of the space's file, or why there is none."""
    if widening.add is not None:
        return f"{table_name(result)} {widening.toml}"
    return f"none for {widening.name}: {widening.why}" if widening.why else ""


def _sensitivity(result: CellResult) -> list[tuple[str, ...]]:
    info = sensitivity_info(result)
    return [
        (*_names(result.cell), *_level_row(axis, level, i, info.digits))
        for axis in info.axes
        for i, level in enumerate(axis.levels)
    ]


def _level_row(axis: SensitivityAxis, level: SensitivityLevel, i: int, digits: int) -> tuple[str, ...]:
    best = "–" if level.best is None else fixed(level.best, digits)
    median = "–" if level.median is None else fixed(level.median, digits)
    spread = fixed(span(axis), digits) if i == 0 else ""
    return axis.name, f"{level.level:g}", best, median, str(len(level.values)), str(level.diverged), spread


def _tuning_rows(info: TuningCurveInfo, line: TuningLine) -> list[tuple[str, ...]]:
    shown = [drawn for drawn in line.draws if drawn.k in ROUND or drawn.k == line.finished]
    return [(method(line.optimizer), f"{info.batch_size:,}", *tuning_cells(info, drawn)) for drawn in shown]


def tuning_cells(info: TuningCurveInfo, drawn: Drawn) -> tuple[str, str, str, str, str]:
    """Returns k, expected best, the middle of the draws, test value and time, as printed."""
    low, high = fixed(drawn.low, info.digits), fixed(drawn.high, info.digits)
    test = "–" if drawn.test is None else fixed(drawn.test, info.digits)
    return f"{drawn.k:,}", fixed(drawn.value, info.digits), f"{low} to {high}", test, duration(drawn.seconds)


# --- protocol and commands -------------------------------------------------------------------------------------------


def _protocol(comparison: Comparison, when: Span) -> list[tuple[str, str]]:
    of: dict[str, Callable[[Cell], str]] = {
        "dataset": lambda cell: cell.task.dataset,
        "model": model_text,
        "loss": lambda cell: cell.task.loss,
        "metric": _metric,
        "selection": _selection,
        "search seeds": lambda cell: _listed(cell.protocol.search_seeds),
        "confirm seeds": lambda cell: f"{_listed(cell.protocol.confirm_seeds)}; trained on train + validation",
        "epochs": lambda cell: str(cell.task.epochs),
        "schedule": lambda cell: f"{cell.task.schedule}, one schedule across both phases",
        "constrained by LAWN": lambda cell: _CONSTRAINED.get(cell.task.constrain, cell.task.constrain),
        "precision": lambda cell: cell.task.precision,
    }
    rows = [(name, " | ".join(comparison.distinct(value))) for name, value in of.items()]
    rows += [
        ("intervals", "95 %, 10,000 resamples of seeds and test examples (two-way bootstrap), paired"),
        ("device time", duration(sum(result.seconds for result in comparison.cells))),
        ("trained", " to ".join(dict.fromkeys(day for day in when if day)) or "unknown"),
    ]
    return rows + [(name.replace("libraries.", ""), ", ".join(v)) for name, v in comparison.provenance.items()]


def _metric(cell: Cell) -> str:
    return f"{metric_name(cell.protocol.metric)}, {cell.protocol.reported} epoch, on the test split"


def _selection(cell: Cell) -> str:
    protocol = cell.protocol
    return f"mean {protocol.reported}-epoch {protocol.selection} {metric_name(protocol.metric)}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"


def _commands(comparison: Comparison, storage: str | None) -> list[str]:
    """Returns what to type; a space of the user's own is known by name only, so its file is a placeholder."""
    name = shlex.quote(comparison.space)
    built_in = comparison.space in builtin_spaces()
    file = name if built_in else shlex.quote(f"path/to/{comparison.space}{SUFFIX}")
    where = f" --storage {shlex.quote(masked(storage))}" if storage else ""
    cells = [result.cell for result in comparison.cells]
    caps = sorted({cell.task.epochs for cell in cells if cell.task.epochs < cell.protocol.full_epochs})
    cap = f" --max-epochs {caps[-1]}" if caps else ""
    confirm = max(len(cell.protocol.confirm_seeds) for cell in cells)
    seeds = f" --seeds {confirm}" if confirm else ""
    return [
        f"lawn-tune launch {file}{_filter(comparison)}{seeds}{cap}{where}",
        f"lawn-tune compare {name}{where}",
        f"lawn-tune report {name}{where}",
    ]


def _filter(comparison: Comparison) -> str:
    """Returns the --cells options that plan exactly the cells of the comparison; "" for all of a built-in space.

    A ledger does not keep the patterns of a launch, and the file of a user's own space may plan more than was launched.
    """
    present = [result.cell.name for result in comparison.cells]
    planned: dict[str, set[int]] = {}
    if comparison.space in builtin_spaces():
        space = find_space(comparison.space)
        planned = {optimizer: {budget.batch_size for budget in space.budgets} for optimizer in space.grids}
    if planned and {(c.optimizer, c.batch_size) for c in present} == {
        (o, b) for o, sizes in planned.items() for b in sizes
    }:
        return ""
    patterns: list[str] = []
    for optimizer in dict.fromkeys(cell.optimizer for cell in present):
        sizes = [cell.batch_size for cell in present if cell.optimizer == optimizer]
        whole = set(sizes) == planned.get(optimizer)
        patterns += [f"{optimizer}/*"] if whole else [f"{optimizer}/bs{size}" for size in sizes]
    return "".join(f" --cells {shlex.quote(pattern)}" for pattern in patterns)
