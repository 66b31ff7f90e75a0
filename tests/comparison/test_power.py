"""How many confirm seeds a pair needs: the fewest that detect the difference, from the ledger's spread or a prior."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.differences import Difference
from lawn_tune.comparison.inference import MOST_SEEDS, Effect, over_seeds
from lawn_tune.comparison.power import PRIOR_SPREAD, needed, prior
from tests.helpers.comparing import changed_task
from tests.helpers.memory_source import MemorySource, make_cell, with_protocol
from tests.helpers.pair_source import confirmed, joined

EXAMPLE = Path(__file__).parents[2] / "examples/regression/regression.toml"


@settings(max_examples=60)
@example(5e-324, 0.0, 1.0, 1)
@given(st.floats(0, 2), st.floats(0, 0.5), st.floats(0.1, 3), st.integers(1, 8))
def test_the_seeds_are_the_fewest_that_detect_the_difference(
    by_seed: float, by_example: float, difference: float, family: int
) -> None:
    effect = Effect(0.0, 3, 1_000, by_seed, by_example)
    seeds = effect.seeds_to_detect(difference, family)
    if seeds is None:
        assert effect.detectable(family, MOST_SEEDS) > difference
    else:
        assert effect.detectable(family, seeds) <= difference
        assert seeds == 2 or effect.detectable(family, seeds - 1) > difference


def test_a_pair_s_spread_is_its_own_then_that_of_other_pairs_then_the_prior() -> None:
    measured = [
        confirmed(make_cell(f"adam{end}", 32), hits) for end, hits in (("", (90, 95, 99)), ("-lawn", (99, 100, 104)))
    ]
    bare = [MemorySource([make_cell(f"adam{end}", 64)]) for end in ("", "-lawn")]
    source = joined(measured[0], bare[0], measured[1], bare[1])
    own, other = needed(compare_space(source, "digits"), 1.0)
    assert [(pair.challenger, pair.basis) for pair in (own, other)] == [
        ("digits/adam-lawn/bs32", "ledger"), ("digits/adam-lawn/bs64", "other pairs")
    ]  # fmt: skip
    assert (other.seeds, other.detectable) == (own.seeds, own.detectable), "the only other pair is the mean of them"
    (pair, *_) = compare_space(source, "digits").pairs
    assert pair.difference is not None
    assert own.detectable == pair.difference.detectable, "as the comparison has it"
    found = needed(compare(source.planned, [], {}), 1.0)
    assert {pair.basis for pair in found} == {"prior"}
    assert found[0].seeds == prior().seeds_to_detect(1.0, family=2)


def test_a_pair_without_runs_has_the_mean_spread_and_the_smallest_test_set_of_the_others() -> None:
    planned = {16: 1, 32: 2, 64: 3, 128: 3}
    bases = [make_cell("adam", size) for size in planned]
    lawns = [with_protocol(make_cell("adam-lawn", size), confirm_seeds=(*range(n),)) for size, n in planned.items()]
    comparison = compare([*bases, *lawns[:3], changed_task(lawns[3], loss="focal-2")], [], {})
    effects = Effect(1.0, 3, 900, 0.04, 0.02, 0.01), Effect(2.0, 5, 100, 0.06, 0.06), None, None
    pairs = [
        replace(pair, difference=Difference(mean=0.0, seeds=(1, 2, 3), effect=effect, family=3, margin=0.5))
        for pair, effect in zip(comparison.pairs, effects, strict=True)
    ]
    found = needed(replace(comparison, pairs=tuple(pairs)), 1.0)
    assert [(pair.baseline, pair.challenger, pair.planned) for pair in found] == [
        (f"digits/adam/bs{size}", f"digits/adam-lawn/bs{size}", planned[size]) for size in (16, 32, 64)
    ], "no pair of different tasks"
    assert [pair.detectable is None for pair in found] == [True, False, False]
    expected = Effect(0.0, 3, 100, (3 * 0.04 + 5 * 0.06) / 2 / 3, (0.02 + 0.06) / 2, 0.01 / 2)
    other = found[-1]
    assert (other.basis, other.seeds) == ("other pairs", expected.seeds_to_detect(1.0, 3))
    assert (other.detectable, other.limit) == pytest.approx((expected.detectable(3), expected.detectable(3, 10**12)))
    assert [(pair.spread or 0.0) ** 2 for pair in found] == pytest.approx(
        [3 * 0.04, 5 * 0.06, (3 * 0.04 + 5 * 0.06) / 2]
    )


def test_runs_that_collapsed_tell_no_spread() -> None:
    hits = {("adam", 32): (150, 151, 153), ("adam-lawn", 32): (154, 155, 155)}
    hits |= {("adam", 64): (150, 151, 153), ("adam-lawn", 64): (154, 155, 0)}
    source = joined(*(confirmed(make_cell(*place), found) for place, found in hits.items()))
    sound, collapsed = needed(compare_space(source, "digits"), 1.0)
    assert (sound.basis, collapsed.basis) == ("ledger", "other pairs")
    assert collapsed.spread == pytest.approx(sound.spread)


def test_the_prior_is_the_difference_of_two_runs_and_knows_no_test_set() -> None:
    (pair,) = needed(compare([make_cell(), make_cell("adam-lawn")], [], {}), 1.0)
    assert (pair.basis, pair.limit) == ("prior", None)
    spread = float(np.hypot(PRIOR_SPREAD, PRIOR_SPREAD))
    assert pair.spread == pytest.approx(spread)
    assert pair.detectable == pytest.approx(over_seeds([-spread, 0.0, spread]).detectable())


def test_nothing_is_assumed_of_a_metric_that_is_not_in_percent() -> None:
    """Half a point of a squared error near 0.01 would ask for thousands of seeds."""
    arguments = ["plan", str(EXAMPLE), "--detect", "0.02", "--storage", "sqlite:///none.db"]
    (pair,) = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["detect"]["pairs"]
    assert (pair["basis"], pair["seeds"], pair["detectable"], pair["spread"]) == ("unknown", None, None, None)
    shown = CliRunner().invoke(app, arguments).stdout
    assert "unknown: no run shows how much runs differ" in shown
    assert "is the limit" not in shown


def test_the_choice_of_the_winners_is_a_limit_as_well() -> None:
    comparison = compare([make_cell(), make_cell("adam-lawn")], [], {})
    (pair,) = comparison.pairs
    for effect, limit in (
        (Effect(0.0, 3, None, 0.04, 0.0, 0.09), pytest.approx((1.95996 + 0.84162) * 0.3, abs=1e-4)),
        (Effect(0.0, 3, None, 0.04, 0.0), None),
    ):
        difference = Difference(mean=0.0, seeds=(1, 2, 3), effect=effect, family=1, margin=0.5)
        (found,) = needed(replace(comparison, pairs=(replace(pair, difference=difference),)), 0.5)
        assert (found.limit, found.seeds is None) == (limit, limit is not None)


def test_plan_shows_the_same_numbers_as_a_table_and_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["plan", "quickstart", "--detect", "0.5"])
    found = json.loads(CliRunner().invoke(app, ["plan", "quickstart", "--detect", "0.5", "--json"]).stdout)["detect"]
    assert (found["difference"], found["power"], len(found["pairs"])) == (0.5, 0.8, 2)
    for pair in found["pairs"]:
        (line,) = [line.split() for line in shown.stdout.splitlines() if line.startswith(pair["challenger"])]
        assert line[2:5] == [str(pair["seeds"]), str(pair["planned"]), f"{pair['detectable']:#.3g}"]
    assert "prior: each method's runs differ by 0.5 points" in shown.stdout
