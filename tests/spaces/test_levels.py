"""Words among the levels of a grid: what a file says, the numbers they are, and back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawn_tune.planning.plan import plan
from search_spaces import levels
from search_spaces.loader import load_space
from search_spaces.space import SpaceError
from tests.helpers.tiny import tiny_space
from trainables.training import switching

NUMBERS = st.lists(st.integers(0, 99).map(float), unique=True)
MARGINS = st.lists(st.integers(1, 99).map(float), unique=True)


def space(tmp_path: Path, free: str, name: str = "free_epochs") -> Path:
    text = tiny_space(
        "words", width=2, confirm=[1], batch_size=64, epochs=9, peak_lr=[0.01], weight_decay=[0.1], free_epochs=[77]
    )
    file = tmp_path / "words.toml"
    file.write_text(text.replace("free_epochs = [77]", free))
    return file


def test_training_reads_words_as_spaces_write_them() -> None:
    (inflection,) = levels.of_word("inflection", ())
    assert inflection == switching.INFLECTION
    assert [switching.automatic(level) for level in (*levels.of_word("auto", (3.0,)), inflection, 0.0, None)] == [
        True, True, False, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("free", "expected", "texts"),
    [
        ('free_epochs = [1, "auto"]', (1.0, -4.0), ["1", "auto (margin 4)"]),
        (
            'free_epochs = ["auto", 2]\nswitch_margin = [2, 8]',
            (-2.0, -8.0, 2.0),
            ["auto (margin 2)", "auto (margin 8)", "2"],
        ),
        ('free_epochs = ["inflection"]', (switching.INFLECTION,), ["inflection"]),
        (
            'free_epochs = [1]\n[optimizers.adam-lawn.batch.64]\nfree_epochs = ["auto"]\nswitch_margin = [3]',
            (-3.0,),
            ["auto (margin 3)"],
        ),
        (
            'free_epochs = ["auto"]\nswitch_margin = [3]\n[optimizers.adam-lawn.batch.64]\nfree_epochs = ["auto", 1]',
            (-3.0, 1.0),
            ["auto (margin 3)", "1"],
        ),
    ],
)  # fmt: skip
def test_words_become_levels_of_their_own(
    free: str, expected: tuple[float, ...], texts: list[str], tmp_path: Path
) -> None:
    cell = plan(load_space(space(tmp_path, free)))[1]
    assert cell.grid.values["free_epochs"] == expected
    assert list(map(levels.text, expected)) == texts
    assert len({trial.key for trial in cell.search_trials}) == cell.grid.size == len(expected)


@pytest.mark.parametrize(
    ("free", "error"),
    [
        ('free_epochs = ["automatic"]', "adam-lawn.free_epochs: must contain only numbers, got 'automatic'"),
        ('free_epochs = ["auto", "auto"]', "adam-lawn.free_epochs: must not contain a value twice, got 'auto'"),
        ('free_epochs = ["auto"]\nswitch_margin = [0]', "adam-lawn.switch_margin: must contain only numbers above 0"),
        ("free_epochs = [1]\nswitch_margin = [2]", 'adam-lawn.switch_margin: needs a level "auto" in the same table'),
        (
            'free_epochs = [1]\neps = ["auto"]',
            "eps: must contain only numbers; words are levels of free_epochs only",
        ),
        ('free_epochs = [1]\neps = ["inflection"]', "only, got 'inflection'. Remove the word."),
    ],
)
def test_a_word_in_the_wrong_place_is_one_error(free: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(SpaceError) as caught:
        plan(load_space(space(tmp_path, free)))
    assert error in str(caught.value)


@given(NUMBERS, MARGINS, st.booleans())
def test_written_levels_are_read_as_they_were(numbers: list[float], margins: list[float], bends: bool) -> None:
    found = [*sorted(numbers), *levels.of_word("auto", tuple(margins)), *([switching.INFLECTION] if bends else [])]
    table = tomllib.loads(levels.toml("free_epochs", found))
    read = tuple(table.get(levels.MARGIN, [levels.DEFAULT_MARGIN]))
    words = [levels.of_word(item, read) if isinstance(item, str) else (item,) for item in table["free_epochs"]]
    assert [level for some in words for level in some] == found
