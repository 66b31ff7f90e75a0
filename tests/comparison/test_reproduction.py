"""The paper's tables next to ours: every printed number once, ours where it is confirmed, nothing where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lawn_tune.cells import Cell
from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.published import paper_tables
from lawn_tune.comparison.renderers.reproduction import WRITERS
from lawn_tune.comparison.reproduction import ABSENT, Reproduction, Row, reproduction
from lawn_tune.planning.plan import plan_all
from lawn_tune.planning.spaces import find_spaces
from lawn_tune.results import Outcome
from tests.helpers.memory_source import confirm_rows, search_rows

TABLES = {table.number: table for table in paper_tables()}
SPACES = {space.name: space for space in find_spaces(["table4"])}
ADAM, LAWN = "adam/bs10000", "adam-lawn/bs10000"


def trained(values: dict[str, Sequence[float | Outcome]], itempop: float = 40.0) -> Comparison:
    """Cells of Table 4 on MovieLens-1M: all points at 60, the winner confirmed with these values."""
    cells = plan_all([SPACES["table4_movielens_1m"]], cells=list(values))
    rows = []
    for cell in cells:
        confirmed = values[f"{cell.name.optimizer}/bs{cell.name.batch_size}"]
        search: list[float | Outcome] = [60.0] * cell.grid.size if confirmed else ["diverged"] * cell.grid.size
        rows += search_rows(cell, search)
        if confirmed:
            rows += confirm_rows(cell, winner(cell), confirmed)
    references = {"references": {"itempop": {"hr@10": itempop}}}
    return compare(cells, [replace(row, provenance=dict(row.provenance) | references) for row in rows], {})


def winner(cell: Cell) -> dict[str, float]:
    found = compare([cell], search_rows(cell, [60.0] * cell.grid.size), {}).cells[0].winner
    assert found is not None
    return dict(found.hyperparameters)


def rows_of(shown: Reproduction, title: str, method: str) -> list[Row]:
    (block,) = [block for block in shown.blocks if block.title == title]
    start = [row.method for row in block.rows].index(method)
    return list(block.rows[start : start + 3])


def test_ours_stands_below_the_papers_value_with_its_difference() -> None:
    comparison = trained({ADAM: [69.0, 70.0, 71.0], LAWN: [70.5, 70.6, 70.7]})
    shown = reproduction(TABLES[4], [comparison])
    paper, ours, difference = rows_of(shown, "movielens-1m, HR@10", "Adam-L")
    assert paper.texts == ("70.80", "70.41", "70.77", "70.66")
    assert ours.texts == (ABSENT, "70.60 ± 0.06 (3)", ABSENT, ABSENT)
    assert difference.texts == (ABSENT, "+0.19", ABSENT, ABSENT)
    assert rows_of(shown, "movielens-1m, HR@10", "Adam")[2].texts[1] == "−0.12"
    assert (shown.trained, shown.printed) == (2, 60)
    assert any("Adam-LAWN" in text for text in shown.verdicts)


def test_what_is_no_better_than_popularity_or_diverges_everywhere_fails() -> None:
    comparison = trained({"sgd/bs100000": [45.3, 45.3, 45.3], ADAM: [], LAWN: [45.4, 45.4, 45.4]}, itempop=45.31)
    shown = reproduction(TABLES[4], [comparison])
    assert rows_of(shown, "movielens-1m, HR@10", "SGD")[0].texts[2] == "Fail"
    assert rows_of(shown, "movielens-1m, HR@10", "SGD")[1].texts[2] == "Fail (45.30 ± 0.00 (3))"
    assert rows_of(shown, "movielens-1m, HR@10", "SGD")[2].texts[2] == ABSENT, "the paper prints no value"
    assert rows_of(shown, "movielens-1m, HR@10", "Adam")[1].texts[1] == "Fail (diverged)"
    assert rows_of(shown, "movielens-1m, HR@10", "Adam-L")[1].texts[1] == "45.40 ± 0.00 (3)"


def test_search_values_are_never_shown_as_ours() -> None:
    cells = plan_all([SPACES["table4_movielens_1m"]], cells=[ADAM])
    comparison = compare(cells, search_rows(cells[0], [60.0] * cells[0].grid.size), {})
    shown = reproduction(TABLES[4], [comparison])
    assert shown.trained == 0
    assert {text for block in shown.blocks for row in block.rows if row.source == "ours" for text in row.texts} == {
        ABSENT
    }


def test_tables_share_a_cell_whichever_space_trained_it() -> None:
    shown = reproduction(TABLES[2], [trained({ADAM: [69.0, 70.0, 71.0]})])
    assert rows_of(shown, "movielens-1m, HR@10", "WD")[1].texts[0].startswith("70.00 ±")
    of_focal_loss = reproduction(TABLES[5], [trained({"adam/bs100000": [69.0, 70.0, 71.0]})])
    assert of_focal_loss.trained == 1, "its column of the cross entropy only"


@pytest.mark.parametrize("count", [1, 2, 4])
def test_columns_name_their_loss_where_there_are_several(count: int) -> None:
    losses = list(dict.fromkeys(value.loss for value in TABLES[5].values))[:count]
    part = replace(TABLES[5], values=tuple(value for value in TABLES[5].values if value.loss in losses))
    for block in reproduction(part, []).blocks:
        assert len(set(block.columns)) == len(block.columns)
        assert any("batch" in text.partition(",")[0] for text in block.columns) == (count == 1)


def test_table_6_shows_the_calibration_of_every_batch_size_and_of_adam_without_decay() -> None:
    spaces = find_spaces(["table6_cifar10"])
    cells = plan_all(spaces, cells=["adam*/bs4096", "adam-lawn/bs256"])
    rows = []
    for cell in cells:
        rows += search_rows(cell, [60.0] * cell.grid.size)
        for row, ece in zip(confirm_rows(cell, winner(cell), [61.0, 62.0, 63.0]), (0.1, 0.2, 0.3), strict=True):
            rows.append(replace(row, summary=dict(row.summary) | {"ece": ece}))
    shown = reproduction(TABLES[6], [compare(cells, rows, {})])
    block = shown.blocks[0]
    assert [text.split(",")[0] for text in block.columns] == ["batch ?", "batch 256", "batch 4"]
    ours = "0.2000 ± 0.0577 (3)"
    texts = {(row.method, row.source): row.texts for row in block.rows}
    assert texts["Adam", "paper"] == ("0.132", "", "")
    assert [row.texts for row in block.rows if row.source == "ours"] == [
        ("", ABSENT, ours),
        ("", ours, ours),
        ("", ABSENT, ours),
    ]
    assert block.rows[-1].method == "Adam, no decay"
    assert (shown.trained, shown.printed) == (2, 4)
    assert all(ours in write(shown) for suffix, write in WRITERS.items() if suffix != "tex")


@pytest.mark.parametrize("number", TABLES)
@pytest.mark.parametrize("suffix", WRITERS)
def test_every_printed_number_and_doubt_is_in_every_format(number: int, suffix: str) -> None:
    table = TABLES[number]
    shown = reproduction(table, [])
    text = WRITERS[suffix](shown)
    printed = [value.text for value in table.values]
    papers = [text for block in shown.blocks for row in block.rows if row.source == "paper" for text in row.texts]
    assert sorted(found.split(" ")[0] for found in papers if found) == sorted(printed)
    assert all(value in text for value in printed)
    assert text.count("ours − paper" if suffix != "tex" else "ours $-$ paper") == 1 + len(
        {(value.dataset, value.metric, value.label) for value in table.values}
    )
    assert f"0 of {len(printed)} printed values" in text
