"""Cells of different tasks are never compared; a published value says how its setup differs."""

from __future__ import annotations

import pytest

from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import Comparison, Verdict
from lawn_tune.comparison.flags import Flag
from lawn_tune.comparison.published import caveat
from lawn_tune.comparison.tables import caption, table
from lawn_tune.comparison.verdicts import headline, sentence
from tests.helpers.comparing import LAWN, changed_task, compared, flags_of
from tests.helpers.memory_source import make_cell, with_protocol
from tests.helpers.pair_source import confirmed, joined, pair_source
from trainables.tasks import model_config


def changed_pair(lawn: Cell) -> Comparison:
    return compared(joined(confirmed(make_cell(), [100, 101, 102]), confirmed(lawn, [180, 181, 182])))


@pytest.mark.parametrize(
    ("lawn", "words"),
    [
        (changed_task(LAWN, model=model_config("small-vgg", width=4)), "model width 16 against 4"),
        (changed_task(LAWN, model=model_config("ncf")), "model small-vgg against ncf"),
        (changed_task(LAWN, dataset="synthetic"), "dataset digits against synthetic"),
        (changed_task(LAWN, loss="bce"), "loss cross-entropy against bce"),
        (changed_task(LAWN, batch_size=32), "batch size 64 against 32"),
        (changed_task(LAWN, schedule="cosine"), "schedule linear against cosine"),
        (changed_task(LAWN, constrain="final"), "constrain all against final"),
        (changed_task(LAWN, precision="bfloat16"), "precision float32 against bfloat16"),
        (with_protocol(LAWN, metric="hr@10"), "metric accuracy against hr@10"),
        (with_protocol(LAWN, selection="test"), "selection validation against test"),
        (with_protocol(LAWN, reported="best"), "reported last against best"),
    ],
)
def test_cells_of_different_tasks_are_never_compared(lawn: Cell, words: str) -> None:
    comparison = changed_pair(lawn)
    (pair,) = comparison.pairs
    assert pair.challenger.confirmed is not None
    assert (pair.verdict, pair.difference) == (Verdict.NOT_COMPARABLE, None)
    (note,) = [note for note in pair.notes if note.flag is Flag.DIFFERENT_TASKS]
    assert words in note.text
    assert words in sentence(pair)
    assert "better" not in sentence(pair)
    assert "not comparable" in headline(comparison).lower()
    assert not any(entry.best for entry in table(comparison).entries.values())


def test_other_epochs_and_seeds_are_another_budget_and_no_other_task() -> None:
    (pair,) = changed_pair(with_protocol(make_cell("adam-lawn", epochs=10), search_seeds=(0, 1))).pairs
    assert pair.verdict is Verdict.BETTER
    assert flags_of(pair) == {Flag.UNEQUAL_BUDGET}


def test_the_caption_names_tasks_that_differ_and_only_then() -> None:
    shared, mixed = (
        compared(pair_source([1, 2, 3], [1, 2, 3])),
        changed_pair(changed_task(LAWN, model=model_config("small-vgg", width=4))),
    )
    assert "not all of one task" not in caption(shared)
    assert "not all of one task: model small-vgg (width 16) or small-vgg (width 4)" in caption(mixed)


def test_a_metric_that_differs_is_claimed_for_no_cell_alone() -> None:
    assert table(changed_pair(with_protocol(LAWN, metric="hr@10"))).title == "digits: test accuracy (%) or HR@10 (%)"


@pytest.mark.parametrize(
    ("epochs", "batch_size", "words", "absent"),
    [
        (249, 100_000, "249 epochs here against 500 in the paper, less than half", "equal"),
        (250, 100_000, "250 epochs here against 500 in the paper;", "half"),
        (300, 1_000, "epochs are equal (300)", "half"),
    ],
)
def test_a_published_value_says_how_its_set_up_differs(epochs: int, batch_size: int, words: str, absent: str) -> None:
    cell = make_cell("adam", batch_size, epochs=epochs, dataset="movielens-100k")
    text = caveat(with_protocol(cell, metric="hr@10")) or ""
    assert words in text
    assert absent not in text
    assert "schedule" not in text
    assert "the paper's model size is not published" in text


def test_a_published_value_says_that_its_schedule_and_model_differ() -> None:
    text = caveat(changed_task(make_cell("adam", 4096, epochs=300, dataset="cifar-100"), schedule="cosine"))
    assert text == (
        "read the paper's value with care: epochs are equal (300); the paper's schedule is linear, this run's cosine; "
        "model small-vgg here against VGG-19 in the paper"
    )


def test_without_a_published_value_there_is_no_caveat() -> None:
    assert caveat(make_cell()) is None
