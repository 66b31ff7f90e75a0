"""Invariants of the statement over all cells of a space, and of what would decide a pair."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lawn_tune.cells import Cell
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.comparison import Comparison, Overall, PairResult, Verdict
from lawn_tune.comparison.differences import Difference, Paired, weighted
from lawn_tune.comparison.inference import Effect, Interval, crossed, over_seeds
from lawn_tune.comparison.next_steps import Action, launch_command, next_steps
from lawn_tune.comparison.published import published
from lawn_tune.comparison.renderers.exchange import to_dict
from lawn_tune.comparison.renderers.spreadsheet import csv_text
from lawn_tune.comparison.tables import table
from lawn_tune.comparison.verdicts import headline, interval_text, overall_sentence, sentence, to_decide
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from lawn_tune.results import Outcome
from search_spaces.space import Grid
from tests.helpers.memory_source import LEVELS, MemorySource, make_cell, with_protocol
from tests.helpers.pair_source import MIDDLE, confirmed, joined

Hits = Sequence[int | Outcome | None]


def source_of(pairs: Mapping[tuple[str, int], tuple[Hits, Hits]]) -> MemorySource:
    """A ledger of (baseline, batch size) → hits of the baseline and of its LAWN variant."""
    names = [(f"{name}{end}", size, side) for side, end in enumerate(("", "-lawn")) for name, size in pairs]
    return joined(
        *(confirmed(make_cell(n, size), pairs[n.removesuffix("-lawn"), size][side]) for n, size, side in names)
    )


def compared(pairs: Mapping[tuple[str, int], tuple[Hits, Hits]]) -> Comparison:
    return compare_space(source_of(pairs), "digits")


def overall(pairs: Mapping[tuple[str, int], tuple[Hits, Hits]]) -> Overall:
    found = compared(pairs).overall
    assert found is not None
    return found


HITS = st.lists(st.integers(40, 160), min_size=3, max_size=3)
PAIRS = st.dictionaries(
    st.tuples(st.sampled_from(["sgd", "adam"]), st.sampled_from([32, 64, 256])), st.tuples(HITS, HITS), min_size=1
)


def layouts(source: MemorySource, pairs: Sequence[PairResult]) -> NDArray[np.float64]:
    """D [pairs, S, E] from the outcomes of the ledger."""

    def of(cell: Cell) -> NDArray[np.float64]:
        keys = [trial.key for trial in cell.confirm_trials(cell.grid.point(MIDDLE))]
        return np.stack([source.outcomes[key] for key in keys]).astype(float)

    return np.stack([100 * (of(pair.challenger.cell) - of(pair.baseline.cell)) for pair in pairs])


@settings(max_examples=10, deadline=None)
@given(PAIRS)
def test_the_mean_and_the_trend_are_those_of_the_pairs_and_of_one_layout(
    pairs: Mapping[tuple[str, int], tuple[Hits, Hits]],
) -> None:
    source = source_of(pairs)
    comparison = compare_space(source, "digits")
    found = comparison.overall
    assert found is not None
    assert found.difference is not None
    assert found.difference.effect is not None
    d = layouts(source, comparison.pairs)
    shown = [pair.difference.mean for pair in comparison.pairs if pair.difference]
    assert found.difference.mean == pytest.approx(np.mean(shown), abs=1e-9)
    assert found.difference.interval is not None
    oracle = replace(crossed(d.mean(axis=0)), bound=100).interval()
    assert (found.difference.interval.low, found.difference.interval.high) == pytest.approx(
        (oracle.low, oracle.high), abs=1e-9
    )
    bases = sorted({pair.baseline.cell.name.optimizer for pair in comparison.pairs})
    sizes = np.log2([pair.batch_size for pair in comparison.pairs])
    design = [[float(pair.baseline.cell.name.optimizer == base) for base in bases] for pair in comparison.pairs]
    design_matrix = np.column_stack([sizes, np.array(design)])
    if found.trend is None:
        assert np.linalg.matrix_rank(design_matrix) == len(bases), "the batch size is confounded with the baseline"
    else:
        assert found.trend.mean == pytest.approx(np.linalg.lstsq(design_matrix, np.array(shown))[0][0], abs=1e-9)
    assert sum(found.verdicts.values()) == len(found.pairs) == len(pairs)
    sentence = overall_sentence(found)
    if len(pairs) > 1 and found.verdicts.keys() == {Verdict.UNDECIDED}:
        assert f"{'Both' if len(pairs) == 2 else f'All {len(pairs)}'} comparisons are undecided." in sentence
    elif len(pairs) > 1:
        assert all(f"{count} {verdict.value}" in sentence for verdict, count in found.verdicts.items())


@settings(max_examples=40)
@given(st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=2, max_size=5), st.data())
def test_pairs_with_other_seeds_are_never_taken_for_more_certain_than_one_layout(
    rows: list[list[float]], data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.floats(-2, 2), min_size=len(rows), max_size=len(rows)))
    same = [Paired((1, 2, 3, 4), np.array(row), None) for row in rows]
    other = [same[0]._replace(seeds=(5, 6, 7, 8)), *same[1:]]
    one, apart = weighted(same, weights), weighted(other, weights)
    assert apart.mean == pytest.approx(one.mean, abs=1e-9)
    assert apart.by_seed >= one.by_seed - 1e-9
    oracle = over_seeds(np.array(weights) @ np.array(rows))
    assert (one.mean, one.by_seed) == pytest.approx((oracle.mean, oracle.by_seed), abs=1e-9)


@settings(max_examples=40)
@given(st.lists(st.lists(st.floats(-5, 5), min_size=5, max_size=5), min_size=2, max_size=4), st.integers(3, 4))
def test_pairs_with_more_seeds_add_to_the_mean_and_not_to_the_variance(rows: list[list[float]], fewer: int) -> None:
    seeds, weights = (1, 2, 3, 4, 5), [1 / len(rows)] * len(rows)
    pairs = [Paired(seeds, np.array(row), None) for row in rows]
    found = weighted([pairs[0].over(seeds[:fewer]), *pairs[1:]], weights)
    common = over_seeds(np.mean([row[:fewer] for row in rows], axis=0))
    assert found.seeds == fewer
    assert found.by_seed == pytest.approx(common.by_seed, abs=1e-9)
    assert found.mean == pytest.approx(np.mean([np.mean(rows[0][:fewer]), *map(np.mean, rows[1:])]), abs=1e-9)


def test_n_counts_the_seeds_that_the_interval_is_computed_from() -> None:
    hits = {"adam": (100, 103, 105, 101, 104), "adam-lawn": (121, 120, 124, 126, 122)}
    seeds = {32: (1, 2, 3, 4, 5), 64: (3, 4, 5, 6, 7)}
    cells = [with_protocol(make_cell(name, size), confirm_seeds=own) for name in hits for size, own in seeds.items()]
    comparison = compare_space(joined(*(confirmed(cell, hits[cell.name.optimizer]) for cell in cells)), "digits")
    found = comparison.overall
    assert found is not None
    assert found.trend is not None
    for difference in (found.difference, found.trend):
        assert difference is not None
        assert difference.effect is not None
        assert (difference.seeds, difference.effect.seeds) == ((3, 4, 5), 3)
    assert "n = 3 seeds" in overall_sentence(found)
    assert [pair.difference.n for pair in comparison.pairs if pair.difference] == [5, 5]


def test_of_pairs_with_other_test_examples_the_standard_errors_are_added() -> None:
    hits = np.random.default_rng(0).integers(-1, 2, (5, 40)).astype(np.int8)
    on_few, on_many = (Paired((1, 2, 3, 4, 5), 100 * d.mean(axis=1), d) for d in (hits[:, :10], hits))
    own = [weighted([pair], [0.5]) for pair in (on_few.over((1, 2, 3, 4)), on_many)]
    found = weighted([on_few.over((1, 2, 3, 4)), on_many], [0.5, 0.5])
    assert (found.seeds, found.examples) == (4, 10)
    for part in ("by_seed", "by_example"):
        assert np.sqrt(getattr(found, part)) == pytest.approx(sum(np.sqrt(getattr(each, part)) for each in own))


def test_one_pair_s_statement_is_the_pair_s_own() -> None:
    comparison = compared({("adam", 64): ((150, 151, 152), (150, 153, 152))})
    (pair,), found = comparison.pairs, comparison.overall
    assert found is not None
    assert found.difference == pair.difference
    assert (found.verdict, found.trend) == (pair.verdict, None)
    assert sentence(pair).startswith(overall_sentence(found))
    assert overall_sentence(found).endswith("): undecided.")
    assert not table(comparison).overall, "the pair's sentence is there once"


def test_methods_that_are_compared_at_large_sizes_only_make_no_trend() -> None:
    """Adam-LAWN gains as much at both sizes; another challenger, which gains more, is there at the larger one alone."""
    hits = {"adam": [100, 101, 103], "adam-lawn": [110, 112, 113]}
    cells = [(make_cell(name, size), found) for name, found in hits.items() for size in (64, 256)]
    grid = Grid({"peak_lr": LEVELS, "warmup_epochs": (2.0,), "free_epochs": (0.0, 1.0, 3.0), "logit_factor": (0.2,)})
    other = replace(make_cell("adam-lawn-attenuated", 256), grid=grid, baselines=("adam",))
    cells.append((other, [150, 152, 153]))
    found = compare_space(joined(*(confirmed(cell, found) for cell, found in cells)), "digits").overall
    assert found is not None
    assert found.trend is not None
    assert len(found.measured) == 3
    assert found.trend.mean == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([((150, None, None), (151, None, None))], Verdict.UNDECIDED),
        ([((150, 151, 152), ("diverged",) * 3)], Verdict.LOST),
        ([((150, 151, 152), ("diverged",) * 3), ((150, None, None), (151, None, None))], Verdict.UNDECIDED),
        ([((150, 151, 152), ("diverged",) * 3), ((150, 151, 152), (None, None, None))], Verdict.PENDING),
    ],
)
def test_without_an_interval_the_verdict_is_that_of_the_pairs(
    pairs: Sequence[tuple[Hits, Hits]], verdict: Verdict
) -> None:
    found = overall({("adam", 32 * 2**i): pair for i, pair in enumerate(pairs)})
    assert (found.difference, found.verdict) == (None, verdict)


def test_a_trend_is_told_in_whose_favor_it_is() -> None:
    base = [100, 100, 100]
    rising = {("adam", 2**i): (base, [hits + 20 * i for hits in (100, 101, 102)]) for i in range(1, 5)}
    falling = {size: (lawn, base) for size, (base, lawn) in rising.items()}
    assert "+10.00 points" in overall_sentence(overall(rising))
    assert overall_sentence(overall(rising)).endswith("in favor of LAWN.")
    assert overall_sentence(overall(falling)).endswith("in favor of weight decay.")


def test_pairs_without_a_difference_are_counted_and_not_averaged() -> None:
    found = overall(
        {
            ("adam", 32): ((100, 100, 100), (180, 181, 182)),
            ("adam", 64): ((100, 101, 102), (180, 181, 182)),
            ("adam", 128): ((100, None, None), (180, None, None)),
            ("adam", 256): ((100, 101, 102), (None, None, None)),
        }
    )
    assert (len(found.pairs), len(found.measured), found.verdict) == (4, 2, Verdict.BETTER)
    assert found.verdicts == {Verdict.BETTER: 2, Verdict.UNDECIDED: 1, Verdict.PENDING: 1}
    assert "on average over 2 comparisons" in overall_sentence(found)


@settings(max_examples=80)
@given(st.floats(-2, 2), st.floats(0, 1), st.integers(1, 2))
def test_an_interval_as_printed_shows_the_same_verdict_as_its_numbers(mean: float, by_seed: float, digits: int) -> None:
    effect = Effect(mean, 3, None, by_seed**4 / 20, 0.0)
    difference = Difference(mean=mean, seeds=(1, 2, 3), effect=effect, family=1, margin=0.5)
    low, high = (float(end.replace("−", "-")) for end in interval_text(difference, digits).split(" to "))
    shown, numbers = Interval(low, high), difference.interval
    assert numbers is not None
    if min(abs(numbers.low), abs(numbers.high), abs(0.5 - abs(numbers.low)), abs(0.5 - abs(numbers.high))) > 1e-6:
        assert shown.excludes_zero() == numbers.excludes_zero()
        assert shown.within(0.5) == numbers.within(0.5)


# --- what would decide -----------------------------------------------------------------------------------------------


def test_two_seeds_that_differ_much_are_said_to_find_nothing() -> None:
    (pair,) = compared({("adam", 64): ((100, 150, None), (150, 100, None))}).pairs
    assert pair.difference is not None
    assert (pair.difference.interval, pair.difference.finds_nothing) == (Interval(-100, 100), True)
    assert to_decide(pair) == "2 seeds are too few to find a difference of any size."


@pytest.mark.parametrize(
    ("base", "lawn", "best", "actions"),
    [
        ((100, 101, 102), (180, 181, 182), MIDDLE, []),
        ((100, 101, None), (180, 181, 182), MIDDLE, ["continue"]),
        ((100, 101, 102), (None, None, None), MIDDLE, ["continue"]),
        ((100, "failed", 102), (180, 181, 182), MIDDLE, ["continue"]),
        ((100, "diverged", 102), (180, 181, 182), MIDDLE, []),
        ((100, 130, 90), (103, 110, 104), MIDDLE, ["seeds"]),
        ((100, 130, 90), (103, 110, 104), 8, ["widen", "seeds"]),
    ],
)
def test_a_pair_says_what_would_decide_it(base: Hits, lawn: Hits, best: int, actions: list[Action]) -> None:
    source = joined(*(confirmed(make_cell(name), h, best) for name, h in (("adam", base), ("adam-lawn", lawn))))
    (pair,) = compare_space(source, "digits").pairs
    steps = next_steps(pair)
    assert [step.action for step in steps] == actions
    assert all(step.command.endswith("--extend") for step in steps if step.action == "widen")
    assert all(bool(step.command) == (step.action != "none") for step in steps)


@pytest.mark.parametrize("patterns", [["adam/bs128", "adam-lawn/bs128"], ["adam*"], ["adam/*", "sgd/bs32"], []])
@pytest.mark.parametrize("cap", [None, 7])
def test_the_command_plans_the_same_cells_again(patterns: list[str], cap: int | None) -> None:
    cells = plan(find_space("digits"), cells=patterns, seeds=5, max_epochs=cap)
    words = shlex.split(launch_command(cells))
    again = [after for word, after in pairwise(words) if word == "--cells"]
    numbers = {word: int(after) for word, after in pairwise(words) if word in ("--seeds", "--max-epochs")}
    assert words[:3] == ["lawn-tune", "launch", "digits"]
    assert bool(again) == bool(patterns)
    assert numbers.get("--max-epochs") == cap
    assert plan(find_space(words[2]), cells=again, seeds=numbers["--seeds"], max_epochs=cap) == cells


def test_a_pair_of_two_rules_says_nothing_of_lawn_against_weight_decay() -> None:
    """Adam-LAWN against SGD, as a space may declare, also compares Adam with SGD."""
    source = source_of({("sgd", 64): ([40, 41, 42], [40, 42, 44]), ("adam", 64): ([150, 151, 152], [150, 152, 154])})
    mixed = [
        replace(cell, baselines=("sgd", "adam")) if cell.name.optimizer == "adam-lawn" else cell
        for cell in source.planned
    ]
    comparison = compare_space(replace(source, planned=mixed), "digits")
    assert len(comparison.pairs) == 3
    assert comparison.overall is not None
    assert {pair.baseline.cell.method.rule for pair in comparison.overall.pairs} == {
        pair.challenger.cell.method.rule for pair in comparison.overall.pairs
    }
    assert len(comparison.overall.pairs) == 2


OWN = {"adam-lsr": "smoothing", "adam-flooding": "flood_level", "adam": "weight_decay", "adam-lawn": "free_epochs"}


def rival(name: str, size: int, baselines: tuple[str, ...]) -> Cell:
    grid = Grid({"peak_lr": LEVELS, "warmup_epochs": (2.0,), OWN[name]: (0.0, 0.1, 1.0)})
    return replace(make_cell(name, size), grid=grid, baselines=baselines)


def against(*baselines: str) -> Overall:
    """LAWN at two batch sizes against other ways to train Adam; weight decay at one of them only."""
    cells = [rival("adam-lawn", size, baselines) for size in (64, 256)]
    cells += [rival(name, size, ()) for name in baselines for size in ((256,) if name == "adam" else (64, 256))]
    found = compare_space(joined(*(confirmed(cell, [150, 151, 152]) for cell in cells)), "digits").overall
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("baselines", "main"),
    [
        (("adam-lsr", "adam", "adam-flooding"), ["adam"]),
        (("adam-lsr", "adam-flooding"), ["adam-lsr", "adam-lsr"]),
        (("adam-flooding",), ["adam-flooding", "adam-flooding"]),
    ],
)
def test_baselines_of_several_kinds_are_not_averaged(baselines: tuple[str, ...], main: list[str]) -> None:
    assert [pair.baseline.cell.name.optimizer for pair in against(*baselines).pairs] == main


def test_runs_that_diverged_are_named_with_what_leaves_them_out() -> None:
    found = overall(
        {("adam", 64): ((150, 151, 152), (150, 154, "diverged")), ("sgd", 64): ((100, 130, 90), (103, 110, 104))}
    )
    assert [pair.diverged for pair in found.pairs] == [True, False]
    assert "In 1 of these 2 confirm runs diverged, and mean and trend leave them out." in overall_sentence(found)


def test_where_there_is_no_mean_nothing_is_said_to_depend_on_runs() -> None:
    found = overall(
        {("adam", 64): ((150, 20, 152), (150, 154, 152)), ("sgd", 64): ((100, None, None), (103, None, None))}
    )
    assert (len(found.pairs), len(found.measured)) == (2, 1)
    assert "collapsed" not in overall_sentence(found)


def test_of_runs_that_collapsed_no_number_of_seeds_is_named() -> None:
    found = compared({("adam", 64): ((150, 20, 152), (150, 154, 152)), ("sgd", 64): ((100, 130, 90), (103, 110, 104))})
    collapsed, other = found.pairs
    assert [pair.collapsed for pair in found.pairs] == [True, False]
    assert "Confirm runs collapsed" in sentence(collapsed)
    assert [step.action for step in next_steps(collapsed)] == ["none"]
    documents = [pair["difference"] for pair in to_dict(found)["pairs"]]
    lines = [line for line in csv.DictReader(io.StringIO(csv_text(found))) if line["baseline"]]
    assert [bool(row["detectable"]) for row in (*documents, *lines)] == [False, True, False, True]
    assert "collapsed" not in sentence(other)
    assert found.overall is not None
    assert "In 1 of these 2 confirm runs collapsed" in overall_sentence(found.overall)


def test_a_grid_without_decay_is_not_called_weight_decay() -> None:
    """Adam whose only weight decay is 0: neither LAWN's rival of that name, nor what the paper printed."""
    names = ("adam", "adam-lawn")
    undecayed = [make_cell(name, 10_000, dataset="movielens-100k", decays=(0.0,)) for name in names]
    plain, lawn = (with_protocol(cell, metric="hr@10") for cell in undecayed)
    tuned = with_protocol(make_cell("adam", 10_000, dataset="movielens-100k"), metric="hr@10")
    assert (plain.side, tuned.side, lawn.side) == ("Adam, no decay", "weight decay", "LAWN")
    assert published(plain) is None
    assert published(tuned) == pytest.approx(66.03)
    hits = [150, 151, 152]
    found = compare_space(joined(confirmed(plain, hits, best=1), confirmed(lawn, hits)), "digits")
    assert "weight decay" not in headline(found)
    assert [pair.baseline.cell.side for pair in found.pairs] == ["Adam, no decay"]
