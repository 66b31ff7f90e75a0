"""Laws of paired differences: what they are computed from, and where they decide nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.flags import Flag
from lawn_tune.comparison.inference import crossed, over_seeds
from tests.helpers.memory_source import MemorySource, confirm_rows, make_cell, with_protocol
from tests.helpers.pair_source import MIDDLE, searched
from trainables.examples import Outcomes, gains, hits

USERS = 120


def ranked(metric: str) -> tuple[MemorySource, dict[str, Outcomes]]:
    """A pair on a data set of rankings whose metric is this one, with the place of each user's item."""
    source, found, generator = MemorySource(), dict[str, Outcomes](), np.random.default_rng(5)
    for name, shift in (("adam", 3), ("adam-lawn", 0)):
        cell = with_protocol(make_cell(name, dataset="movielens-100k"), metric=metric)
        winner = cell.grid.point(MIDDLE)
        trials = cell.confirm_trials(winner)
        places = [np.minimum(generator.geometric(0.15, USERS) - 1 + shift, 10).astype(np.uint8) for _ in trials]
        read = gains if metric == "ndcg@10" else hits
        rows = confirm_rows(cell, winner, [100 * float(read(one).mean()) for one in places])
        source.planned.append(cell)
        source.rows += searched(cell) + rows
        found |= {trial.key: one for trial, one in zip(trials, places, strict=True)}
    return source, found


@pytest.mark.parametrize("metric", ["hr@10", "ndcg@10"])
def test_rankings_are_compared_user_by_user_by_both_their_metrics(metric: str) -> None:
    source, found = ranked(metric)
    (pair,) = compare(source.planned, source.rows, found).pairs
    read = gains if metric == "ndcg@10" else hits
    scores = [read(one).astype(float) for one in found.values()]
    base, lawn = np.stack(scores[:3]), np.stack(scores[3:])
    assert pair.difference is not None
    assert pair.difference.examples == USERS
    assert pair.difference.effect == replace(crossed(100 * (lawn - base)), bound=100)


def test_without_places_ndcg_is_compared_over_seeds_as_before() -> None:
    source, found = ranked("ndcg@10")
    (pair,) = compare(source.planned, source.rows, {key: hits(one) for key, one in found.items()}).pairs
    assert pair.difference is not None
    assert Flag.SEEDS_ONLY in {note.flag for note in pair.notes}
    base, lawn = (np.array([*cell.confirmed.values.values()]) for cell in pair.cells if cell.confirmed)
    assert pair.difference.effect is not None
    assert pair.difference.effect.by_seed == pytest.approx(over_seeds(lawn - base).by_seed)
