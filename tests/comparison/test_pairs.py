"""Paired differences: their intervals, their verdicts, and what they are conditional on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import PairResult, Verdict
from lawn_tune.comparison.flags import Flag
from lawn_tune.comparison.inference import Interval, crossed, over_seeds
from lawn_tune.comparison.next_steps import next_steps
from lawn_tune.comparison.tables import caption, table
from lawn_tune.comparison.verdicts import headline, sentence, verdict_text
from lawn_tune.results import Outcome
from tests.helpers.comparing import LAWN, compared, flags_of, only_pair
from tests.helpers.memory_source import (
    MemorySource,
    confirm_rows,
    demo_source,
    make_cell,
    outcomes,
    search_rows,
    with_protocol,
)
from tests.helpers.pair_source import MIDDLE, TOTAL, confirmed, joined, pair_source, searched

LOST: Outcome = "diverged"


def test_the_difference_is_lawn_minus_base_with_the_interval_over_its_pairs() -> None:
    source = pair_source([150, 150, 148], [154, 157, 160])
    pair = only_pair(source)
    difference = pair.difference
    assert difference is not None
    assert difference.mean == pytest.approx((2 + 3.5 + 6) / 3)
    assert (difference.n, difference.examples) == (3, TOTAL)
    keys = [[t.key for t in cell.confirm_trials(cell.grid.point(MIDDLE))] for cell in source.planned]
    base, lawn = (np.stack([source.outcomes[key] for key in group]).astype(float) for group in keys)
    assert difference.effect == replace(crossed(100 * (lawn - base)), bound=100)
    assert difference.interval == replace(crossed(100 * (lawn - base)), bound=100).interval()


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(random: Any) -> None:
    source = pair_source([150, 150, 148], [154, 157, 160])
    shuffled = list(source.rows)
    random.shuffle(shuffled)
    assert compare(source.planned, shuffled, source.outcomes) == compare(source.planned, source.rows, source.outcomes)


def test_identical_methods_are_equivalent_and_the_interval_is_zero() -> None:
    pair = only_pair(pair_source([150, 150, 148], [150, 150, 148]))
    assert pair.difference is not None
    assert pair.difference.interval is not None
    assert (pair.difference.mean, pair.difference.interval.low, pair.difference.interval.high) == (0, 0, 0)
    assert pair.verdict is Verdict.EQUIVALENT
    assert "as good as Adam at batch 64 within ±0.5 points" in sentence(pair)


@settings(max_examples=15)
@given(st.lists(st.integers(0, TOTAL), min_size=2, max_size=5), st.integers(-20, 20))
def test_seeds_that_all_show_one_difference_decide_nothing_without_outcomes(hits: list[int], shift: int) -> None:
    lawn, seeds = [hit + shift for hit in hits], tuple(range(101, 101 + len(hits)))
    source = replace(pair_source([0] * len(hits), [0] * len(hits), confirm_seeds=seeds), outcomes={})
    for cell, found in zip(source.planned, (hits, lawn), strict=True):
        values = {t.key: h / 7 for t, h in zip(cell.confirm_trials(cell.grid.point(MIDDLE)), found, strict=True)}
        source.rows = [
            replace(row, summary=dict(row.summary) | {"last/test/accuracy": values[row.key]})
            if row.key in values
            else row
            for row in source.rows
        ]
    pair = only_pair(source)
    assert pair.difference is not None
    assert pair.difference.mean == pytest.approx(shift / 7)
    assert (pair.difference.interval, pair.verdict) == (None, Verdict.UNDECIDED)
    assert f"The {len(hits)} seeds show the same difference" in sentence(pair)
    assert "interval is over seeds only" not in str(pair.notes)
    assert [step.command for step in next_steps(pair)][-1].endswith(f"--seeds {max(3, len(hits) + 1)}")


def test_large_values_that_differ_by_the_same_decide_nothing() -> None:
    """A million and a tenth is rounded at its tenth digit, which is far from the smallest digit of a tenth."""
    values = {
        name: [1e6 + shift + run / 10 for run in (1, 2, 3)] for name, shift in (("adam", 0.0), ("adam-lawn", 0.1))
    }
    pair = only_pair(valued(values))
    assert pair.difference is not None
    assert pair.difference.mean == pytest.approx(0.1)
    assert pair.difference.interval is None


def test_an_interval_over_seeds_alone_of_percentages_ends_where_they_do() -> None:
    pair = only_pair(valued({"adam": [60.0, 80.0], "adam-lawn": [95.0, 75.0]}, confirm_seeds=(1, 2)))
    assert pair.difference is not None
    assert pair.difference.interval == Interval(-100, 100)
    assert "2 seeds are too few to find a difference of any size" in sentence(pair)


def valued(values: Mapping[str, Sequence[float]], **changes: Any) -> MemorySource:
    """A pair whose confirm runs have these values, without outcomes on test examples."""
    cells = [with_protocol(make_cell(name), **changes) for name in values]
    rows = [searched(cell) + confirm_rows(cell, cell.grid.point(MIDDLE), values[cell.name.optimizer]) for cell in cells]
    return MemorySource(cells, [row for found in rows for row in found])


@pytest.mark.parametrize(("base", "lawn"), [(0, 0), (TOTAL, TOTAL), (0, TOTAL)])
def test_runs_that_all_fail_or_all_pass_decide_nothing(base: int, lawn: int) -> None:
    pair = only_pair(pair_source([base] * 3, [lawn] * 3))
    assert pair.difference is not None
    assert (pair.difference.interval, pair.verdict) == (None, Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("base", "lawn", "verdict", "words"),
    [
        ((100, 101, 102), (180, 181, 182), Verdict.BETTER, "Adam-LAWN is 40.00 points better than Adam at batch 64"),
        ((180, 181, 182), (100, 101, 102), Verdict.WORSE, "Adam-LAWN is 40.00 points worse than Adam at batch 64"),
        ((150, 151, 152), (150, 153, 152), Verdict.UNDECIDED, "0.33 points better than Adam at batch 64 in these runs"),
        ((150, None, None), (170, None, None), Verdict.UNDECIDED, "One seed has no interval; at least 2 are needed"),
        ((100, 110, None), (180, 160, None), Verdict.UNDECIDED, "32.50 points better than Adam at batch 64 in these"),
        ((150, 151, 152), (None, None, None), Verdict.PENDING, "no verdict yet"),
        (
            (150, None, None),
            (None, 150, None),
            Verdict.PENDING,
            "no verdict yet, the two have no confirm seed in common",
        ),
        ((150, 151, None), (LOST, LOST, LOST), Verdict.PENDING, "no verdict yet, confirm runs are missing"),
        ((150, 151, 152), (LOST, LOST, LOST), Verdict.LOST, "no verdict, 3 of 3 confirm runs of Adam-LAWN diverged"),
        ((150, LOST, LOST), (LOST, 150, 151), Verdict.LOST, "2 of 3 confirm runs of Adam and 1 of 3 confirm runs of"),
        ((100, 101, 102), (180, 181, LOST), Verdict.BETTER, "1 of 3 confirm runs of Adam-LAWN diverged, and the diff"),
    ],
)
def test_verdicts_say_in_words_who_wins_and_who_loses(
    base: tuple[int | Outcome | None, ...], lawn: tuple[int | Outcome | None, ...], verdict: Verdict, words: str
) -> None:
    pair = only_pair(pair_source(base, lawn))
    assert pair.verdict is verdict
    assert words in sentence(pair)
    if pair.difference is not None:
        assert f"n = {pair.difference.n} seed" in sentence(pair)
        assert (pair.difference.interval is None) == (pair.difference.n < 2), "two seeds have an interval"


def test_confirm_runs_that_all_diverged_are_not_said_to_be_missing() -> None:
    comparison = compared(pair_source([150, 151, 152], [LOST, LOST, LOST]))
    text = " ".join(
        (headline(comparison), *table(comparison).remarks, *(str(row) for row in table(comparison).footnotes))
    )
    assert "diverged" in headline(comparison)
    assert " yet" not in text
    assert "missing" not in text
    assert not next_steps(comparison.pairs[0]), "a launch trains none of them again"


def test_a_smaller_value_is_better_where_the_metric_is_minimized() -> None:
    sources = []
    for name, hits in (("adam", (180, 181, 182)), ("adam-lawn", (100, 101, 102))):
        cell = with_protocol(make_cell(name), direction="minimize")
        best, size = cell.grid.point(MIDDLE), cell.grid.size
        rows = search_rows(cell, [20.0 if i == MIDDLE else 50.0 for i in range(size)])
        source = confirmed(cell, hits)
        sources.append(replace(source, rows=rows + confirm_rows(cell, best, [h / 2 for h in hits])))
    pair = only_pair(joined(*sources))
    assert pair.verdict is Verdict.BETTER
    assert "better" in sentence(pair)


def test_a_verdict_follows_from_what_is_known_of_both_cells() -> None:
    never = confirmed(make_cell("adam-lawn", frees=(0.0, 1.0, 20.0)), [150, 151, 152], best=5)
    verdicts = {}
    for base, lawn in product(("lost", "confirmed", "searched", "planned"), repeat=2):
        verdicts[base, lawn] = only_pair(joined(in_state("adam", base), in_state("adam-lawn", lawn))).verdict
        verdicts[base, "never"] = only_pair(joined(in_state("adam", base), never)).verdict
    decided = {
        ("lost", "lost"): Verdict.NEITHER,
        ("lost", "confirmed"): Verdict.ONLY_CHALLENGER,
        ("confirmed", "lost"): Verdict.ONLY_BASELINE,
        ("confirmed", "confirmed"): Verdict.EQUIVALENT,
        ("lost", "never"): Verdict.NEVER_CONSTRAINED,
        ("confirmed", "never"): Verdict.NEVER_CONSTRAINED,
    }
    assert verdicts == dict.fromkeys(verdicts, Verdict.PENDING) | decided


def in_state(name: str, state: str) -> MemorySource:
    """A cell whose grid diverged everywhere, or that was confirmed, only searched, or only planned."""
    cell = make_cell(name)
    rows = {"lost": search_rows(cell, ["diverged"] * 9), "searched": searched(cell)}.get(state, [])
    return confirmed(cell, [150, 151, 152]) if state == "confirmed" else MemorySource([cell], rows)


@pytest.mark.parametrize(("lost", "verdict"), [("adam", Verdict.ONLY_CHALLENGER), ("adam-lawn", Verdict.ONLY_BASELINE)])
def test_a_method_that_diverges_everywhere_loses_in_words(lost: str, verdict: Verdict) -> None:
    kept = "adam-lawn" if lost == "adam" else "adam"
    cell = make_cell(lost)
    source = joined(MemorySource([cell], search_rows(cell, ["diverged"] * 9)), confirmed(make_cell(kept), [1, 2, 3]))
    pair = only_pair(source)
    assert pair.verdict is verdict
    assert "diverged everywhere" in sentence(pair)
    assert verdict_text(pair).lower() in headline(compared(source)).lower()


def test_where_both_diverge_everywhere_neither_trains() -> None:
    cells = [make_cell(name) for name in ("adam", "adam-lawn")]
    rows = [row for cell in cells for row in search_rows(cell, ["diverged"] * 9)]
    comparison = compare(cells, rows, {})
    (pair,) = comparison.pairs
    assert pair.verdict is Verdict.NEITHER
    assert headline(comparison) == "Both diverged everywhere in 1 of 1 comparison."
    assert "both diverged everywhere" in sentence(pair)


def test_a_tie_is_equal_and_has_no_bold() -> None:
    comparison = compared(pair_source([150, 150, 148], [150, 148, 150]))
    (pair,) = comparison.pairs
    assert "Adam-LAWN is equal to Adam at batch 64 in these runs" in sentence(pair)
    assert not any(entry.best for entry in table(comparison).entries.values())


def two_search_seeds(rival: tuple[float, float]) -> PairResult:
    """A pair whose LAWN winner scores 80 with both search seeds, and whose first point scores `rival`: test 70, 72."""
    source = pair_source([150, 150, 148], [154, 157, 160], search_seeds=(0, 1))
    size = LAWN.grid.size
    values = [rival[i // size] if i % size == 0 else 80.0 if i % size == MIDDLE else 50.0 for i in range(2 * size)]
    lawn = source.planned[1]
    rows = [
        replace(row, summary={**row.summary, "last/test/accuracy": 70.0 + 2 * (i % size == 0)})
        for i, row in enumerate(search_rows(lawn, values))
    ]
    known = {row.key for row in rows}
    return only_pair(replace(source, rows=[row for row in source.rows if row.key not in known] + rows))


def test_an_interval_includes_the_choice_of_winners_where_search_seeds_tell_how_it_varies() -> None:
    single = only_pair(pair_source([150, 150, 148], [154, 157, 160]))
    stable, unstable = two_search_seeds((50.0, 50.0)), two_search_seeds((100.0, 50.0))
    assert single.difference is not None
    assert stable.difference is not None
    assert unstable.difference is not None
    assert single.difference.effect is not None
    assert unstable.difference.effect is not None
    assert stable.difference.interval == single.difference.interval, "the same winner in every resample adds nothing"
    assert unstable.challenger.stability is not None
    assert unstable.challenger.stability.share == 3 / 4
    assert unstable.difference.effect.by_selection == pytest.approx(2 * 4 * 3 / 16)
    half = unstable.difference.effect.half_width()
    assert half**2 == pytest.approx(single.difference.effect.half_width() ** 2 + 1.959964**2 * 1.5, rel=1e-5)
    assert "75 % of resamples of the 2 search seeds keep this winner" in str(unstable.challenger.notes)


def test_the_caption_names_what_intervals_are_conditional_on() -> None:
    single, several = pair_source([1, 2, 3], [1, 2, 3]), pair_source([1, 2, 3], [1, 2, 3], search_seeds=(0, 1))
    tested = [replace(row, summary={**row.summary, "last/test/accuracy": 70.0}) for row in several.rows]
    known = replace(
        several, rows=[t if t.phase == "search" else row for t, row in zip(tested, several.rows, strict=True)]
    )
    assert "The intervals are conditional on the winners" in caption(compared(single))
    assert "The intervals are conditional on the winners" in caption(compared(several)), "its search has no test values"
    assert "conditional" not in caption(compared(known))
    assert [only_pair(source).conditional for source in (single, several, known)] == [True, True, False]


def test_unequal_seeds_are_paired_by_those_both_have() -> None:
    pair = only_pair(pair_source([150, 151, 152], [160, None, 164]))
    assert pair.difference is not None
    assert pair.difference.seeds == (101, 103)
    assert pair.difference.mean == pytest.approx(5.5)
    (text,) = [note.text for note in pair.notes if note.flag is Flag.UNPAIRED]
    assert text.startswith("paired by the 2 of 3 seeds that both have; the means of the two are over all their own")


def test_one_seed_has_no_interval() -> None:
    pair = only_pair(pair_source([150, None, None], [170, None, None]))
    assert pair.difference is not None
    assert pair.difference.interval is None
    assert pair.difference.n == 1


def broken(examples: Mapping[str, NDArray[np.bool_]], how: str) -> dict[str, NDArray[np.bool_]]:
    """Outcomes of which the last run's are missing, of another length, or not what the metric says."""
    last = list(examples)[-1]
    changed = {"missing": None, "length": outcomes(80, 100), "metric": outcomes(10, TOTAL)}[how]
    kept = {key: value for key, value in examples.items() if key != last}
    return kept if changed is None else kept | {last: changed}


@pytest.mark.parametrize("how", ["missing", "length", "metric"])
def test_where_outcomes_do_not_fit_the_interval_is_over_seeds_and_says_so(how: str) -> None:
    source = pair_source([150, 150, 148], [154, 157, 160])
    (pair,) = compare(source.planned, source.rows, broken(source.outcomes, how)).pairs
    assert pair.difference is not None
    assert pair.difference.examples is None
    assert pair.difference.interval == over_seeds([2.0, 3.5, 6.0]).interval()
    assert Flag.SEEDS_ONLY in flags_of(pair)


def test_the_intervals_of_all_pairs_are_one_family_measured_or_not() -> None:
    comparison = compare_space(demo_source(epochs=30), "movielens_100k")
    measured = [pair.difference for pair in comparison.pairs if pair.difference is not None]
    assert len(measured) == 5
    assert {difference.family for difference in measured} == {len(comparison.pairs)} == {6}
    for difference in measured:
        assert difference.effect is not None
        assert difference.interval == difference.effect.interval(6)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=6), st.sampled_from([1, 30]))
def test_no_verdict_contradicts_the_interval_that_is_shown(hits: list[tuple[int, int]], scale: int) -> None:
    near = [(base, base + (lawn - base) // scale) for base, lawn in hits]
    pair = only_pair(pair_source(*zip(*near, strict=True), confirm_seeds=tuple(range(101, 101 + len(near)))))
    difference, text = pair.difference, sentence(pair)
    assert difference is not None
    interval = difference.interval
    low, high = (interval.low, interval.high) if interval else (-1e9, 1e9)
    assert low <= difference.mean <= high
    assert (pair.verdict is Verdict.BETTER) == (low > 0)
    assert (pair.verdict is Verdict.WORSE) == (high < 0)
    assert (pair.verdict is Verdict.EQUIVALENT) == (low <= 0 <= high and max(-low, high) <= 0.5)
    assert ("undecided" in text) == (pair.verdict is Verdict.UNDECIDED)
    if pair.verdict is Verdict.UNDECIDED and (needed := difference.seeds_needed) is not None:
        assert needed > difference.n, "more seeds are needed where these do not decide"
    if pair.verdict is Verdict.UNDECIDED and (needed := difference.seeds_to_find) is not None:
        assert difference.effect is not None
        assert difference.effect.detectable(seeds=needed) <= abs(difference.mean) < difference.effect.detectable()
        assert needed > difference.n


def test_methods_are_ordered_base_then_lawn_whatever_the_plan() -> None:
    cells = [make_cell(name, size) for name in ("lamb-lawn", "adam", "lamb", "adam-lawn") for size in (64, 16)]
    comparison = compare(cells, [], {})
    assert comparison.optimizers == ("adam", "adam-lawn", "lamb", "lamb-lawn")
    assert comparison.batch_sizes == (16, 64)
    assert {(pair.baseline.cell.name.optimizer, pair.batch_size) for pair in comparison.pairs} == {
        (name, size) for name in ("adam", "lamb") for size in (16, 64)
    }


def test_pairs_of_a_space_launched_in_parts_are_ordered_by_batch_size() -> None:
    cells = [make_cell(name, size) for size in (100_000, 1_000, 10_000) for name in ("adam", "adam-lawn")]
    comparison = compare(cells, [], {})
    assert [pair.batch_size for pair in comparison.pairs] == [1_000, 10_000, 100_000]
    assert [result.cell.name for result in comparison.cells] == [
        cell.name
        for name in ("adam", "adam-lawn")
        for cell in (cells[2:4] + cells[4:] + cells[:2])
        if cell.name.optimizer == name
    ]


def test_device_time_and_versions_are_collected() -> None:
    cell = make_cell()
    rows = [row for row in searched(cell) if row.seed == 0]
    other = replace(rows[0], provenance=dict(rows[0].provenance) | {"device": "cuda: H100", "commit": None})
    comparison = compare([cell], [other, *rows[1:]], {})
    assert comparison.cells[0].seconds == pytest.approx(18.0)
    assert comparison.provenance["device"] == ("cpu: x86_64", "cuda: H100")
    assert comparison.provenance["libraries.torch"] == ("2.14.1",)
    assert not {"started", "ended"} & set(comparison.provenance)
    assert "commit" not in comparison.provenance, "what is not known has no value"
    known = replace(rows[0], provenance=dict(rows[0].provenance) | {"commit": "0123456789ab"})
    mixed = compare([cell], [known, *rows[1:]], {}).provenance
    assert mixed["commit"] == ("0123456789ab", "not recorded for some")
    assert compare([cell], [known], {}).provenance["commit"] == ("0123456789ab",)
    failed = replace(rows[1], outcome="failed", provenance={})
    assert compare([cell], [known, failed], {}).provenance["commit"] == ("0123456789ab",)
