"""Values that need no training, in every output; they come from the ledger alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.renderers import RENDERERS
from lawn_tune.comparison.tables import caption, table
from tests.helpers.memory_source import make_cell, search_rows
from tests.helpers.reference_space import RANKED, SPACE, reference_space
from trainables.catalogue.datasets import DATASETS


def shown_with(found: Sequence[dict[str, float]]) -> Comparison:
    return compare_space(reference_space(found), SPACE)


@pytest.mark.parametrize("output", ["md", "latex", "json"])
def test_a_reference_is_a_row_of_every_table_with_its_value_at_every_batch_size(output: str) -> None:
    comparison = shown_with([{"ndcg@10": 25.1234, "hr@10": 45.3146}])
    rows = table(comparison)
    assert rows.optimizers == (*comparison.optimizers, "ItemPop")
    assert [rows.entries["ItemPop", size].text for size in comparison.batch_sizes] == ["45.31", "45.31"]
    assert not any(entry.best or entry.n for (name, _), entry in rows.entries.items() if name == "ItemPop")
    text = RENDERERS[output](comparison)
    if output == "json":
        assert json.loads(text)["references"] == {"ItemPop": {"hr@10": [45.3146], "ndcg@10": [25.1234]}}
    else:
        row = {"md": "| ItemPop | 45.31 | 45.31 |", "latex": r"ItemPop & 45.31 & 45.31 \\"}[output]
        assert row in text.splitlines()
        assert text.count("45.31") == 3
        assert "HR@10 45.31, NDCG@10 25.12" in text


def test_two_data_sets_have_no_one_reference() -> None:
    comparison = shown_with([{"hr@10": 45.0}, {"hr@10": 40.0}])
    rows = table(comparison)
    assert rows.optimizers == comparison.optimizers
    assert any("HR@10 40.00 or 45.00" in text for text in rows.remarks)


def test_without_a_reference_nothing_is_said() -> None:
    cell = make_cell()
    comparison = compare([cell], search_rows(cell, [50.0] * 9), {})
    assert comparison.references == ()
    assert table(comparison).optimizers == comparison.optimizers
    assert not any("ItemPop" in text for text in table(comparison).remarks)


@pytest.mark.parametrize("name", [name for name, row in DATASETS.items() if row.data == "interactions"])
def test_the_caption_says_how_a_data_set_is_split_where_that_is_not_usual(name: str) -> None:
    cell = make_cell(dataset="movielens-100k", protocol=RANKED)
    moved = replace(cell, task=replace(cell.task, dataset=name))
    text = caption(compare([moved], [], {}))
    assert (f"Data {name}: {DATASETS[name].splits}." in text) == bool(DATASETS[name].splits)
