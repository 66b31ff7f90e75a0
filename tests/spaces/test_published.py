"""The paper's tables as data: complete, as printed, and as consistent as the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from lawn_tune.cells import Cell
from lawn_tune.comparison.published import caveat, lookup, paper_tables, printed, published, published_curve, source
from search_spaces.published import TABLES, PublishedTable, PublishedValue, load_tables
from search_spaces.space import SpaceError
from tests.helpers.memory_source import PROTOCOL, make_cell, with_protocol
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.losses import LOSSES
from trainables.catalogue.methods import METHODS

Sums = Mapping[str, tuple[int, int, int]]

PRINTED: Mapping[int, Sums] = {
    1: {
        "SGD": (2, 15048, 0),
        "Adam": (2, 14176, 0),
        "Adam-L": (2, 15225, 2),
        "LAMB+": (2, 14773, 0),
        "LAMB-L": (2, 15241, 2),
    },
    2: {"LSR": (6, 46098, 0), "WD": (6, 46248, 0), "Hoffer": (6, 41472, 0), "LAWN": (6, 47486, 0)},
    3: {
        "SGD": (6, 49670, 0),
        "Adam": (6, 48740, 0),
        "Adam-L": (6, 50057, 6),
        "LAMB": (6, 48838, 3),
        "LAMB-L": (6, 48990, 3),
    },
    4: {
        "SGD": (12, 44432, 0),
        "Adam": (12, 88183, 1),
        "Adam-L": (12, 89430, 11),
        "LAMB": (12, 87965, 0),
        "LAMB-L": (12, 89364, 12),
    },
    5: {"Adam": (24, 181363, 0), "Adam-L": (24, 187784, 24)},
    6: {"Adam": (2, 424, 0), "Adam-L": (2, 236, 0)},
}
"""Table → method → (values, their sum in units of the last digit, how many are bold), extracted from the paper's text
by a program that shares nothing with the file or its reader."""

PAIRS = {"adam": "adam-lawn", "lamb": "lamb-lawn", "lamb-plus": "lamb-lawn"}


def test_every_printed_method_is_one_that_we_train() -> None:
    assert {value.method for table in paper_tables() for value in table.values} <= METHODS.keys()


def test_every_printed_loss_is_one_that_we_train() -> None:
    assert {value.loss for table in paper_tables() for value in table.values} <= LOSSES.keys()


def table_of(number: int) -> PublishedTable:
    return next(table for table in paper_tables() if table.number == number)


def value_of(table: int, dataset: str, label: str, batch: str, loss: str = "") -> PublishedValue:
    (value,) = [
        v
        for v in table_of(table).values
        if (v.dataset, v.label, v.batch) == (dataset, label, batch) and loss in ("", v.loss)
    ]
    return value


def units(value: PublishedValue) -> int:
    """The value in units of its last digit, 0 where the method failed."""
    return 0 if value.mean is None else int(value.text.replace(".", ""))


# --- as printed ------------------------------------------------------------------------------------------------------


def test_the_six_tables_are_there_with_every_value_as_printed() -> None:
    found = {
        table.number: {
            label: (len(row), sum(map(units, row)), sum(value.bold for value in row))
            for label in dict.fromkeys(value.label for value in table.values)
            if (row := [value for value in table.values if value.label == label])
        }
        for table in paper_tables()
    }
    assert found == PRINTED


@pytest.mark.parametrize("table", paper_tables(), ids=lambda table: f"table-{table.number}")
def test_means_equal_their_texts(table: PublishedTable) -> None:
    for value in table.values:
        assert value.table == table.number
        assert value.text == ("Fail" if value.mean is None else f"{value.mean:.{2 if table.number != 6 else 3}f}")


def test_failures_are_sgd_at_the_two_largest_batches_of_table_4() -> None:
    failed = [(v.table, v.label, v.dataset, v.batch) for t in paper_tables() for v in t.values if v.mean is None]
    largest = {"movielens-100k": ("100k", "400k"), "movielens-1m": ("100k", "1M"), "pinterest": ("100k", "1M")}
    assert failed == [(4, "SGD", dataset, batch) for dataset, sizes in largest.items() for batch in sizes]


def test_standard_errors_are_those_of_the_paper() -> None:
    single = [(table.number, value.error) for table in paper_tables() for value in table.values if value.error]
    assert {number for number, _ in single} == {1}
    assert (len(single), sum(round(100 * error) for _, error in single)) == (10, 4 + 6 + 5 + 2 + 3 + 8 + 1 + 3 + 5 + 2)
    assert {t.number: t.errors for t in paper_tables() if t.errors} == {3: (0.1, 0.45), 4: (0.15, 0.25)}
    assert {t.runs for t in paper_tables()} == {3}


@pytest.mark.parametrize("number", [1, 3, 4, 5])
def test_bold_is_the_better_of_a_pair_and_nothing_else(number: int) -> None:
    def place(value: PublishedValue) -> tuple[str, str, str]:
        return value.dataset, value.loss, value.batch

    by_place = {(place(value), value.method): value for value in table_of(number).values}
    expected = []
    for value in table_of(number).values:
        lawn = by_place.get((place(value), PAIRS.get(value.method, "")))
        if lawn is not None:
            expected.append(max(value, lawn, key=units))
    bold = [value for value in table_of(number).values if value.bold]
    assert sorted(bold, key=repr) == sorted(expected, key=repr)


# --- what the paper says about its numbers ---------------------------------------------------------------------------


def test_side_tables_repeat_the_main_ones_except_for_one_hundredth() -> None:
    main = {(v.dataset, v.metric, v.loss, v.method, v.batch): v for t in paper_tables() if t.main for v in t.values}
    pairs = [
        (v, main[key])
        for t in paper_tables()
        if not t.main
        for v in t.values
        if (key := (v.dataset, v.metric, v.loss, v.method, v.batch)) in main
    ]
    assert len(pairs) == 12 + 12
    differing = [(v.table, v.label, v.dataset, v.batch, v.text, m.text) for v, m in pairs if v.text != m.text]
    assert differing == [(2, "LAWN", "cifar-100", "4k", "73.13", "73.12")]
    assert all(any("73.1" in doubt for doubt in table_of(n).doubts) for n in (2, 3))


def test_lawn_is_the_best_of_every_column_of_table_2() -> None:
    columns: dict[tuple[str, str], dict[str, int]] = {}
    for value in table_of(2).values:
        columns.setdefault((value.dataset, value.batch), {})[value.label] = units(value)
    assert [max(column, key=lambda label: column[label]) for column in columns.values()] == ["LAWN"] * 6


def test_adam_lawn_beats_adam_with_every_loss_of_table_5_and_in_calibration() -> None:
    for number, sign in ((5, 1), (6, -1)):
        values = table_of(number).values
        lawns = [value for value in values if value.method == "adam-lawn"]
        bases = {(v.dataset, v.batch, v.loss): v for v in values if v.method == "adam"}
        assert len(lawns) == len(bases) == len(values) / 2
        for lawn in lawns:
            assert sign * units(lawn) > sign * units(bases[lawn.dataset, lawn.batch, lawn.loss])


def test_the_sentences_of_the_text_hold() -> None:
    assert value_of(1, "imagenet", "Adam", "256").text == "71.16"  # "could only get an accuracy of 71.16 %"
    assert units(value_of(1, "imagenet", "Adam-L", "256")) > units(value_of(1, "imagenet", "SGD", "256")) == 7600
    assert abs(units(value_of(1, "imagenet", "LAMB-L", "256")) - 7650) <= 5  # "close to 76.5 %"
    assert units(value_of(1, "imagenet", "Adam-L", "16k")) > 7600  # "crossing the 76 % mark"
    beaten = [(v.dataset, v.batch) for v in table_of(4).values if v.bold and v.label in ("Adam", "LAMB")]
    assert beaten == [("pinterest", "1k")]


def test_budgets_are_those_of_the_text() -> None:
    assert {v.epochs for v in table_of(1).values} == {90}
    assert {v.epochs for v in table_of(3).values} == {300}
    for value in table_of(4).values:
        assert value.epochs == (300 if value.batch in ("1k", "10k") else 500)
    by_place = {(v.dataset, v.batch): v.epochs for n in (3, 4) for v in table_of(n).values}
    for value in (*table_of(2).values, *table_of(5).values):
        assert value.epochs == by_place[value.dataset, value.batch]


# --- look-ups --------------------------------------------------------------------------------------------------------


def movielens(optimizer: str, batch_size: int) -> Cell:
    return with_protocol(make_cell(optimizer, batch_size, dataset="movielens-100k"), metric="hr@10")


def test_a_cell_finds_its_value_by_dataset_metric_loss_optimizer_and_batch_size() -> None:
    assert published(movielens("adam-lawn", 400_000)) == 66.14
    assert published(movielens("sgd", 100_000)) is None
    failed = printed(movielens("sgd", 100_000))
    assert failed is not None
    assert failed.text == "Fail"
    assert printed(with_protocol(movielens("adam", 1_000), metric="ndcg@10")) is None
    assert printed(movielens("adam", 2_000)) is None
    assert printed(make_cell(protocol=PROTOCOL)) is None


def test_every_way_to_split_a_data_set_finds_its_values() -> None:
    plain = movielens("adam", 10_000)
    for dataset in ("movielens-1m", "movielens-1m-ncf"):
        assert published(replace(plain, task=replace(plain.task, dataset=dataset))) == 70.12
    known = {value.dataset for table in paper_tables() for value in table.values}
    assert {row.published for row in DATASETS.values()} <= {"", *known}


def test_a_look_up_takes_the_main_table_and_the_loss_asked_for() -> None:
    found = lookup("cifar-100", "adam-lawn", 4096, metric="accuracy", loss="cross-entropy")
    assert found is not None
    assert (found.table, found.text) == (3, "73.12")
    focal = lookup("cifar-100", "adam-lawn", 4096, metric="accuracy", loss="focal-2")
    assert focal is not None
    assert (focal.table, focal.text) == (5, "73.29")
    assert lookup("cifar-100", "adam", 4096, metric="accuracy", loss="flooding") is None


def test_label_smoothing_and_hoffer_are_never_taken_for_adam() -> None:
    for value in table_of(2).values:
        if value.label in ("LSR", "Hoffer"):
            assert value.method not in PAIRS


def test_a_curve_ascends_in_batch_size_and_leaves_out_failures() -> None:
    curve = published_curve("movielens-1m", "sgd", metric="hr@10", loss="bce")
    assert [(value.batch_size, value.mean) for value in curve] == [(1_000, 70.91), (10_000, 69.31)]


def test_a_curve_is_all_that_the_tables_print_with_its_names() -> None:
    means: dict[tuple[str, ...], dict[int, set[float]]] = {}
    for value in (value for table in paper_tables() for value in table.values):
        if value.batch_size and value.mean:
            by_size = means.setdefault((value.dataset, value.method, value.metric, value.loss), {})
            by_size.setdefault(value.batch_size, set()).add(value.mean)
    for names in product(*map(set, zip(*means, ("digits", "adamp", "ndcg@10", "flooding"), strict=True))):
        dataset, method, metric, loss = names
        curve = published_curve(dataset, method, metric=metric, loss=loss)
        expected = means.get(names, {})
        assert [value.batch_size for value in curve] == sorted(expected)
        assert all(value.mean in expected[value.batch_size or 0] for value in curve)


def test_the_source_names_table_runs_and_errors() -> None:
    text = "paper, Table 4: mean of 3 runs, standard error 0.15 to 0.25, grids and selection not published"
    assert source([movielens("adam", 1_000), movielens("lamb", 1_000)]) == text


def test_a_failure_of_the_paper_has_no_caveat() -> None:
    assert caveat(movielens("sgd", 400_000)) is None


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"66.01", "66.03"', '"66.01", "66.o3"', ("tables[3].blocks[0].values.Adam", "must be '66.03'", "'66.o3'")),
        ('"**66.81**", "**66.91**"', '"**66.81**", "**66.91"', ("tables[3].blocks[0].values.Adam-L", "'**66.91'")),
        ('["66.33", "65.58", "Fail", "Fail"]', '["66.33"]', ("tables[3].blocks[0].values.SGD", "must hold 4 values")),
        ('"Hoffer" = ["44.54"', '"Hofer" = ["44.54"', ("tables[1].blocks[0].values.Hofer", "Did you mean 'Hoffer'?")),
        ("runs = 3", "runs = 0", ("tables[0].runs", "whole number from 1")),
        ("main = true", "mean = true", ("tables[0].main", "missing key")),
        ("errors = [0.1, 0.45]", "errors = [0.1]", ("tables[2].errors", "must hold 2 numbers")),
        ("number = 1", "number = 1\ncolor = 3", ("tables[0].color", "unknown key")),
        ('batch_sizes = ["256", "16k"]', 'batch_sizes = ["256", "17k"]', ("tables[0].blocks[0].batch_sizes", "'17k'")),
        ("epochs = [300, 500]", "epochs = [300, 500, 500]", ("tables[1].blocks[0].epochs", "1 value or 2")),
        ('"1k" = 1000', '"1k" = "1000"', ("batch_sizes.1k", "whole number")),
        ("facts = [", "facts = [3,", ("tables[0].facts", "list of strings")),
        ("[[tables]]", "[[tables", ("is not valid TOML", "Restore the file")),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, old: str, new: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "tables.toml"
    text = TABLES.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SpaceError) as caught:
        load_tables(path)
    for word in (str(path), *words):
        assert word in str(caught.value)
