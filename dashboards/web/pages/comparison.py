"""Does LAWN beat weight decay, where, by how much, and how sure is it; next to the values of the paper."""

from __future__ import annotations

from collections.abc import Mapping

from dash import html
from dash.development.base_component import Component

from dashboards import style
from dashboards.figures.base import plain
from dashboards.figures.batch_curves import BatchCurve, BatchCurves, batch_curves, batch_curves_figure
from dashboards.figures.caveats import caveat, pair_flags
from dashboards.figures.figure_of_merit import Measure, measures
from dashboards.figures.forest import FOREST_HELP, forest_figure, forest_info, forest_summary
from dashboards.figures.pair_outcome import TONES
from dashboards.figures.performance_profile import MIN_TASKS, ProfileLine, profile_figure, profile_info
from dashboards.web import components
from dashboards.web.cards import Block, Drawing, FigureCard, page
from dashboards.web.comparison_part import EVERYWHERE, HERE, MAX_SPACES, comparison_of, comparisons_of, several
from dashboards.web.components import Content
from dashboards.web.page import Empty, View
from dashboards.web.pair_cards import pair_cards
from dashboards.web.side_table import paper_table, side_table, space_table
from dashboards.web.verdict_cards import verdicts
from lawn_tune.cells import Phase
from lawn_tune.comparison.comparison import Comparison, PairResult, Verdict
from lawn_tune.comparison.published import paper_tables, printed_difference
from lawn_tune.comparison.tables import DIFFERENCE_HEADER, DifferenceRow, difference_cells, table
from lawn_tune.comparison.verdicts import (
    conditions,
    enough_digits,
    family_text,
    headline,
    interval_ends,
    side,
    to_decide,
)
from lawn_tune.words import count, difference_text, fixed, method, metric_name, metric_of, signed

PATH = "/compare"
PHASES = (("confirm", "fresh seeds, test"), ("search", "search, validation"))
OURS = "ours"


# --- selection --------------------------------------------------------------------------------------------------------


def _controls(view: View) -> list[Component]:
    names = [cell.name for cell in view.snapshot.cells]  # without the comparison, so that a large ledger's page opens
    bases = dict.fromkeys(style.base_of(name.optimizer) for name in names)
    sizes = [(str(size), f"{size:,}") for size in sorted({name.batch_size for name in names})]
    scope = [(HERE, "this space"), (EVERYWHERE, "every space")]
    return [
        components.choice(view, "base", "Base optimizer", [(name, method(name)) for name in bases], multiple=True),
        components.choice(view, "batch", "Batch sizes", sizes, multiple=True),
        *([components.choice(view, "scope", "Forest and profile of", scope, HERE)] if several(view) else []),
    ]


def nothing(view: View, comparison: Comparison) -> Empty | None:
    """Returns the message where there is nothing to compare, or None."""
    if not comparison.cells:
        return Empty("No cell of this space fits the filters.", "Choose other base optimizers or batch sizes above.")
    if not comparison.pairs:
        return Empty(
            "There is no pair of a base optimizer and its LAWN variant here.",
            "Add one to the space's file, such as [optimizers.adam] and [optimizers.adam-lawn], and launch it again.",
        )
    if comparison.empty:
        return Empty(
            "No point of these grids has a result yet, so nothing can be compared.",
            "The verdicts appear here as trials finish. If no driver runs, start one:",
            view.launch,
        )
    return None


# --- the answer ------------------------------------------------------------------------------------------------------


def answer(view: View) -> list[Component] | Empty:
    """Returns the verdict on every pair: number, interval, n, sentence and caveats."""
    comparison = comparison_of(view)
    if (why := nothing(view, comparison)) is not None:
        return why
    hidden = len(view.snapshot.comparison.pairs) - len(comparison.pairs)
    notes = [f"{count(hidden, 'pair')} hidden by the filters."] if hidden else []
    notes += [found] if (found := family_text(comparison)) else []
    return [
        html.P(plain_answer(comparison) or headline(comparison), className="headline"),
        verdicts(view, comparison.pairs),
        *([html.P(" ".join(notes), className="help")] if notes else []),
    ]


def plain_answer(comparison: Comparison) -> str | None:
    """Returns yes, no or not settled, where one pair is selected and its difference has an interval; else None."""
    if len(comparison.pairs) != 1:
        return None
    (pair,) = comparison.pairs
    template, difference = _ANSWERS.get(pair.verdict), pair.difference
    if template is None or difference is None or difference.interval is None:
        return None
    metric = pair.baseline.cell.protocol.metric
    digits = enough_digits(difference, metric_of(metric).digits)
    gain = difference.mean if pair.baseline.cell.protocol.direction == "maximize" else -difference.mean
    names = side(pair.challenger.cell), side(pair.baseline.cell)
    low, high = interval_ends(difference, difference.interval, digits)
    points = f"{difference_text(fixed(abs(gain), digits), metric)} of {metric_name(metric)}"
    ahead = f"{names[gain <= 0]} is {points} ahead" if round(gain, digits) else "the two are equal"
    margin = "" if difference.margin is None else difference_text(f"±{difference.margin:g}", metric)
    found = template.format(
        ahead=ahead, challenger=names[0], baseline=names[1], points=points, low=low, high=high, margin=margin,
        decide=to_decide(pair),
    )  # fmt: skip
    return " ".join((found.strip(), *conditions(pair)))


_ANSWERS: Mapping[Verdict, str] = {
    Verdict.BETTER: "Yes, on this test: {challenger} is {points} ahead; the difference lies between {low} and {high} "
    "with 95 % confidence.",
    Verdict.WORSE: "No: {baseline} is {points} ahead; the difference lies between {low} and {high} with 95 % "
    "confidence.",
    Verdict.EQUIVALENT: "No difference that matters: it lies between {low} and {high} with 95 % confidence, within "
    "{margin}.",
    Verdict.UNDECIDED: "Undecided: {ahead} in these runs, but any difference from {low} to {high}, "
    "zero included, is compatible with them. {decide}",
}


# --- forest ----------------------------------------------------------------------------------------------------------


def forest(view: View) -> Drawing | Empty:
    """Draws the paired differences of every pair."""
    found = comparisons_of(view)
    info = forest_info([pair for comparison in found for pair in comparison.pairs])
    if not info.rows or all(comparison.empty for comparison in found):
        return nothing(view, found[0]) or Empty("There is no pair to compare.")
    return Drawing(plain(forest_figure(info)), forest_summary(info))


# --- over batch sizes ------------------------------------------------------------------------------------------------


def measure_of(view: View) -> Measure:
    """Returns the measure that is chosen, else the protocol's."""
    found = measures(view.snapshot.cells)
    return next((measure for measure in found if measure.key == view.filters.one("metric")), found[0])


def phase_of(view: View) -> Phase:
    """Returns the runs that are chosen."""
    return "search" if view.filters.one("phase") == "search" else "confirm"


def _curve_controls(view: View) -> list[Component]:
    found = [(measure.key, measure.name) for measure in measures(view.snapshot.cells)]
    return [
        components.choice(view, "metric", "Metric", found, found[0][0]),
        components.choice(view, "phase", "Runs", PHASES, "confirm"),
    ]


def curves(view: View) -> Drawing | Empty:
    """Draws the chosen measure against the batch size, the paper's values behind."""
    comparison, measure = comparison_of(view), measure_of(view)
    info = batch_curves(comparison.cells, measure, phase_of(view), view.snapshot.by_key, comparison.references)
    if not info.curves:
        return nothing(view, comparison) or Empty(f"No winner carries a value of {measure.name} yet.")
    return Drawing(plain(batch_curves_figure(info)), " ".join(_curve_sentences(info)))


def _curve_sentences(info: BatchCurves) -> list[str]:
    notes = [_curve_sentence(curve, info) for curve in info.curves]
    unsure = sum(point.value.phase == "search" for curve in info.curves for point in curve.points)
    if unsure and info.split == "test":
        notes.append(f"{count(unsure, 'open marker')}: not confirmed, the search's value on the split that selects.")
    notes += [f"{label}: {fixed(value, info.measure.digits)}, without training." for label, value in info.untrained]
    if info.measure.chosen and info.split == "test":
        notes.append(info.paper or "The paper prints no value for this dataset and metric.")
    return notes


def _curve_sentence(curve: BatchCurve, info: BatchCurves) -> str:
    digits, unit = info.measure.digits, f" ({info.measure.unit})" if info.measure.unit else ""
    values = ", ".join(f"{fixed(p.value.mean, digits)} at {p.batch_size:,}" for p in curve.points)
    return f"{method(curve.optimizer)}{unit}: {values}."


# --- tables ----------------------------------------------------------------------------------------------------------


def _table_controls(view: View) -> list[Component]:
    paper = [(str(table.number), f"Paper, Table {table.number}: {table.title}") for table in paper_tables()]
    return [components.choice(view, "table", "Table", [(OURS, f"This space: {view.space}"), *paper], OURS)]


def tables(view: View) -> list[Component] | Empty:
    """Returns the space's table, or one of the paper's, measured and published values side by side."""
    chosen = view.filters.one("table", OURS)
    found = next((table for table in paper_tables() if str(table.number) == chosen), None)
    if found is not None:
        views = view.every() if len(view.spaces) <= MAX_SPACES else (view,)
        results = [r for there in views for r in there.snapshot.comparison.cells]
        return side_table(view, paper_table(found, results), ours=False)
    comparison = comparison_of(view)
    if not comparison.cells:
        return nothing(view, comparison) or Empty("There is no cell.")
    return side_table(view, space_table(comparison), ours=True)


_PAIR_HEADER = (*DIFFERENCE_HEADER, "Paper", "Caveats")


def differences(view: View) -> list[Component] | Empty:
    """Returns one row per pair, as `lawn-tune compare` prints it, with the paper's difference."""
    comparison = comparison_of(view)
    if (why := nothing(view, comparison)) is not None:
        return why
    known = table(comparison)
    lines = [_pair_row(pair, row) for pair, row in zip(comparison.pairs, known.differences, strict=True)]
    return [components.table(_PAIR_HEADER, lines, "Paired differences", numbers=(1, 2, 3, 4, 5, 6, 8))]


def _pair_row(pair: PairResult, row: DifferenceRow) -> list[Content]:
    paper = printed_difference(pair.baseline.cell, pair.challenger.cell)
    methods: Content = html.Span(
        [components.method_name(pair.challenger.cell.name.optimizer), f" − {_base(pair)}"], className="pair"
    )
    verdict: Content = html.Span(row.verdict, className=f"outcome-{TONES.get(pair.verdict, 'none')}")
    caveats = ", ".join(caveat(flag, pair.challenger) for flag in pair_flags(pair))
    values = difference_cells(row)[1:-1]
    shown = [methods, *values, verdict, "–" if paper is None else signed(paper, 2)]
    return [*shown, html.Span(caveats, className="faint")]


def _base(pair: PairResult) -> str:
    return method(pair.baseline.cell.name.optimizer)


# --- profile ---------------------------------------------------------------------------------------------------------


def profile(view: View) -> Drawing | Empty:
    """Draws how often each method is near the best; with the reason where there are too few tasks."""
    info = profile_info([result for comparison in comparisons_of(view) for result in comparison.cells])
    if info.tasks < MIN_TASKS:
        waiting = f" {count(info.unsettled, 'task')} not confirmed yet." if info.unsettled else ""
        return Empty(
            f"A profile of {count(info.tasks, 'task')} is not informative; at least {MIN_TASKS} are needed in which "
            f"every method is confirmed.{waiting}",
            "Launch more batch sizes, or take every space together." if several(view) else "Launch more batch sizes.",
        )
    lines = " ".join(_profile_sentence(line) for line in info.lines)
    left = f" {count(info.unsettled, 'task')} not confirmed yet and left out." if info.unsettled else ""
    return Drawing(plain(profile_figure(info)), f"Over {count(info.tasks, 'task')}: {lines}{left}")


def _profile_sentence(line: ProfileLine) -> str:
    best, near = (round(line.within(gap) * line.n) for gap in (0.0, 1.0))
    return f"{method(line.optimizer)} is best in {best} of {line.n} and within 1 % in {near}."


PROFILE_HELP = (
    "A task is a batch size of a space. A method's line at τ is the share of its tasks where its confirmed mean is "
    "within τ percent of the best method's there; a method that diverges everywhere never is. Higher is better."
)


# --- the page --------------------------------------------------------------------------------------------------------


def _lead(view: View) -> str:
    protocol = view.snapshot.cells[0].protocol
    return (
        f"Each method with tuned weight decay against its LAWN variant, or what the space compares, by test "
        f"{metric_name(protocol.metric)} of fresh seeds. A verdict says whether the interval of the paired difference "
        f"excludes zero."
    )


PAGE = page(
    path=PATH,
    title="Compare",
    order=20,
    lead=_lead,
    controls=_controls,
    cards=(
        Block(name="compare-answer", title="Does LAWN beat weight decay?", render=answer, wide=True, early=True),
        *pair_cards(),
        FigureCard(
            name="compare-forest",
            title="Paired differences",
            draw=forest,
            height=190,
            help=FOREST_HELP,
        ),
        FigureCard(
            name="compare-batches",
            title="Over batch sizes",
            draw=curves,
            choices=_curve_controls,
            help="Solid lines: LAWN; dashed lines: weight decay. Bars: ± one standard error, where there are several "
            "fresh seeds.",
        ),
        FigureCard(name="compare-profile", title="Performance profile", draw=profile, help=PROFILE_HELP, height=200),
        Block(name="compare-tables", title="Measured and published", render=tables, choices=_table_controls, wide=True),
        Block(
            name="compare-pairs",
            title="Differences in numbers",
            render=differences,
            wide=True,
            help="The intervals of all pairs of the space hold together with 95 % confidence, whatever the filters. A "
            "verdict says whether its interval excludes zero; an interval within the margin is equivalent.",
        ),
    ),
)
