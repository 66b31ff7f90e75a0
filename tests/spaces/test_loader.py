"""The loader: a good file becomes a space, a bad one raises one clear SpaceError."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lawn_tune.planning.plan import plan
from search_spaces.loader import (
    DEFAULTS,
    OPTIONAL,
    OWN_FUNCTION,
    OWN_WORKLOAD,
    REQUIRED,
    ROWS,
    SOURCES,
    TRAINABLE,
    load_space,
)
from search_spaces.space import Budget, Pairing, SearchSpace, SpaceError
from tests.helpers.space_text import VALID, spoilt

Result = TypeVar("Result")


def load(folder: Path, text: str, name: str = "mine.toml") -> SearchSpace:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_space(path)


def test_a_valid_file_is_read_as_written(tmp_path: Path) -> None:
    space = load(tmp_path, VALID)
    assert (space.name, space.source) == ("mine", tmp_path / "mine.toml")
    assert space.model == {"name": "small-vgg", "width": 8}
    assert (space.search_seeds, space.confirm_seeds) == ((0, 1), (101, 102, 103))
    assert space.budgets == (Budget(batch_size=64, epochs=20), Budget(batch_size=512, epochs=30))
    assert list(space.grids) == ["adam", "adam-lawn"]
    assert space.grids["adam-lawn"].values["free_epochs"] == (1.0, 3.5)
    assert all(isinstance(level, float) for level in space.grids["adam"].values["warmup_epochs"])


@pytest.mark.parametrize("key", DEFAULTS)
def test_optional_keys_have_defaults(tmp_path: Path, key: str) -> None:
    without = re.sub(rf"(?m)^{key} = .*\n", "", VALID)
    assert without != VALID
    assert getattr(load(tmp_path, without), key) == DEFAULTS[key]


def test_required_and_optional_keys_are_all_a_space_has() -> None:
    derived = {"name", "source", "classes"}  # classes are named in the grids
    renamed = {"search_seeds": "seeds", "confirm_seeds": "seeds", "grids": "optimizers"}
    names = {renamed.get(field.name, field.name) for field in fields(SearchSpace)} - derived
    own = {TRAINABLE, *OWN_FUNCTION, *OWN_WORKLOAD, *SOURCES}
    assert names - {"overrides"} | {"epochs"} == {*REQUIRED, *ROWS, *own, *DEFAULTS, *OPTIONAL}


ERRORS = {
    "syntax": ('loss = "cross-entropy"', "loss = = 1", "not valid TOML", "line 3"),
    "repeated key": ("reported =", 'metric = "accuracy"\nreported =', "not valid TOML", "line 6"),
    "unknown top key": ("schedule =", "shedule =", "shedule: unknown key", "Did you mean 'schedule'"),
    "unknown top table": (
        "[model]",
        '[modell]\nname = "x"\n[model]',
        "modell: unknown key",
        "got a table. Did you mean",
    ),
    "misspelt extends": ("schedule =", 'extend = "x"\nschedule =', "extend: unknown key", "Did you mean 'extends'?"),
    "unknown seeds key": ("search = [0, 1]", "serch = [0, 1]", "seeds.serch: unknown key", "Did you mean 'search'"),
    "unknown budget key": ("epochs = 20", "epoch = 20", "budgets[0].epoch: unknown key", "Did you mean 'epochs'"),
    "missing top key": ('metric = "accuracy"\n', "", "metric: missing key", "Add it"),
    "missing model name": ('name = "small-vgg"\n', "", "model.name: missing key", "[model]"),
    "missing seeds": ("search = [0, 1]\n", "", "seeds.search: missing key", "[seeds]"),
    "missing epochs": ("epochs = 30\n", "", "budgets[1].epochs: missing key", "Add it to that [[budgets]]."),
    "text is a number": ('dataset = "digits"', "dataset = 7", "dataset: must be a non-empty string", "got 7"),
    "text is empty": ('"a valid space"', '" "', "description: must be a non-empty string", "got ' '"),
    "notes are a list": ("schedule =", "notes = []\nschedule =", "notes: must be a non-empty string", "got []"),
    "missing table": ('[model]\nname = "small-vgg"\nwidth = 8', "", "model: missing key", "Add it"),
    "model option is a list": ("width = 8", "width = [8]", "model.width: must be a single number", "got [8]"),
    "seeds are a number": ("search = [0, 1]", "search = 0", "seeds.search: must be a list", "got 0"),
    "seed is a text": ("search = [0, 1]", 'search = ["a"]', "seeds.search: must be a whole number", "got 'a'"),
    "seed is true": ("search = [0, 1]", "search = [true]", "seeds.search: must be a whole number", "got True"),
    "seed is a float": ("search = [0, 1]", "search = [1.0]", "seeds.search: must be a whole number", "got 1.0"),
    "seed is negative": ("search = [0, 1]", "search = [-3]", "seeds.search: must be a whole number from 0", "got -3"),
    "seed is huge": ("search = [0, 1]", "search = [4294967296]", "seeds.search: must be", "got 4294967296"),
    "seeds repeat": ("search = [0, 1]", "search = [4, 4]", "seeds.search: must not contain a value twice", "got 4"),
    "seeds overlap": ("[101, 102, 103]", "[101, 1]", "seeds.confirm: must not contain any of seeds.search", "got [1]"),
    "no seeds": ("search = [0, 1]", "search = []", "seeds.search: must be a list with at least one", "got []"),
    "batch size is a float": ("batch_size = 64", "batch_size = 64.0", "budgets[0].batch_size: must be a", "got 64.0"),
    "batch size is zero": ("batch_size = 64", "batch_size = 0", "budgets[0].batch_size: must be a whole", "got 0"),
    "micro-batch of the whole batch": (
        "epochs = 20",
        "epochs = 20\nmicro_batch = 64",
        "budgets[0].micro_batch: must be below batch_size 64",
        "got 64",
    ),
    "micro-batch is zero": (
        "epochs = 20",
        "epochs = 20\nmicro_batch = 0",
        "budgets[0].micro_batch: must be a",
        "got 0",
    ),
    "batch size repeats": ("batch_size = 512", "batch_size = 64", "budgets[1].batch_size: must differ", "got 64"),
    "margin is a text": ("schedule =", 'margin = "1"\nschedule =', "margin: must be a number above 0", "got '1'"),
    "margin is nan": ("schedule =", "margin = nan\nschedule =", "margin: must be a number above 0", "got nan"),
    "margin is zero": ("schedule =", "margin = 0\nschedule =", "margin: must be a number above 0", "got 0"),
    "how to write a whole number": ("epochs = 20", 'epochs = "20"', "epochs: must be", "a whole number such as 12."),
    "epochs are a text": ("epochs = 20", 'epochs = "20"', "budgets[0].epochs: must be a whole number", "got '20'"),
    "epochs are negative": ("epochs = 30", "epochs = -30", "budgets[1].epochs: must be a whole number", "got -30"),
    "rate is negative": (
        "0.003, 0.01",
        "-0.01",
        "optimizers.adam.peak_lr: must contain only finite numbers",
        "got -0.01",
    ),
    "rate is nan": ("0.003, 0.01", "nan", "optimizers.adam.peak_lr: must contain only finite numbers", "got nan"),
    "rate is infinite": ("0.003, 0.01", "inf", "optimizers.adam.peak_lr: must contain only finite numbers", "got inf"),
    "rate overflows": ("0.003, 0.01", "1e999", "optimizers.adam.peak_lr: must contain only finite numbers", "got inf"),
    "rate is a huge whole": ("0.003, 0.01", "9" * 400, "optimizers.adam.peak_lr: must contain only finite", "got 999"),
    "number beyond Python": ("0.003, 0.01", "9" * 5000, "not valid TOML", "4300 digits"),
    "rate is true": ("0.003, 0.01", "true", "optimizers.adam.peak_lr: must contain only numbers", "got True"),
    "rate is a text": ("0.003, 0.01", '"0.1"', "optimizers.adam.peak_lr: must contain only numbers", "got '0.1'"),
    "rate is a misspelt word": ("0.003, 0.01", '"atuo"', "numbers, got 'atuo'", "Did you mean 'auto'? Write"),
    "rate is a list": ("0.003, 0.01", "[0.1]", "optimizers.adam.peak_lr: must contain only numbers", "got [0.1]"),
    "rate is a date": (
        "0.003, 0.01",
        "1979-05-27",
        "optimizers.adam.peak_lr: must contain only numbers",
        "got 1979-05-27. ",
    ),
    "rates are one number": ("[0.003, 0.01, 0.03]", "0.01", "optimizers.adam.peak_lr: must be a list", "got 0.01"),
    "how to write one number": ("[0.003, 0.01, 0.03]", "0.01", "peak_lr: must be a list", "Write it as [0.01]."),
    "how to write one seed": ("search = [0, 1]", "search = 7", "seeds.search: must be a list", "Write it as [7]."),
    "how to write one word": ("[1, 3.5]", '"auto"', "free_epochs: must be a list", 'Write it as ["auto"].'),
    "how to write seeds": ("search = [0, 1]", "search = []", "seeds.search: must be", "a list such as [1, 2, 3]."),
    "rates of another batch size": (
        "[0.003, 0.01, 0.03]",
        "{ from_batch = 512 }",
        "optimizers.adam.peak_lr: must be a list",
        "Move from_batch to the table of a batch size, such as [optimizers.adam.batch.4096].",
    ),
    "no rates": ("[0.003, 0.01, 0.03]", "[]", "optimizers.adam.peak_lr: must be a list with at least", "got []"),
    "rates repeat": (
        "0.003, 0.01",
        "0.01, 0.01",
        "optimizers.adam.peak_lr: must not contain a value twice",
        "got 0.01",
    ),
    "decay repeats in another form": (
        "[0.0, 0.1]",
        "[1, 1.0]",
        "optimizers.adam.weight_decay: must not contain",
        "got 1.0",
    ),
    "decay is negative": ("[0.0, 0.1]", "[-0.1]", "optimizers.adam.weight_decay: must contain only finite", "got -0.1"),
    "warm-up is negative": ("warmup_epochs = [2]", "warmup_epochs = [-2]", "optimizers.adam.warmup_epochs", "got -2"),
    "name of an optimizer": ("[optimizers.adam]", '[optimizers."a b"]', "optimizers.a b: must be a name", "got 'a b'"),
    "name of a hyperparameter": ("weight_decay =", '"é" =', "optimizers.adam.é: must be a name", "got 'é'"),
    "name of a data set": ('"digits"', '"a/b"', "dataset: must be a name", "got 'a/b'"),
    "name of a model": ('"small-vgg"', '"small vgg"', "model.name: must be a name", "got 'small vgg'"),
    "budgets are one table": (
        "[[budgets]]\nbatch_size = 64\nepochs = 20\n\n[[budgets]]",
        "[budgets]",
        "budgets",
        "got a table",
    ),
    "override of a word": (
        "[optimizers.adam]",
        "[optimizers.adam.batch.large]\npeak_lr = [1]\n[optimizers.adam]",
        "optimizers.adam.batch.large: must be a batch size",
        "got 'large'",
    ),
    "override without a table": (
        "[optimizers.adam]\n",
        "[optimizers.adam]\nbatch = [1]\n",
        "optimizers.adam.batch: must be a table",
        "got [1]",
    ),
    "comparison of one": (
        "[model]",
        '[[compare]]\nchallenger = "adam"\n[model]',
        "compare[0].baseline: missing key",
        "Add it to that [[compare]].",
    ),
    "comparison of three": (
        "[model]",
        '[[compare]]\nchallenger = "adam"\nbaseline = "sgd"\nother = "lamb"\n[model]',
        "compare[0].other: unknown key",
        "'lamb'",
    ),
    "model has tables only": ("[model]", "[model.x]", "model.name: missing key", "[model]"),
}
"""Fault → text replaced, replacement, key and rule in the message, and the value or place shown."""


@pytest.mark.parametrize(("old", "new", "rule", "value"), ERRORS.values(), ids=ERRORS)
def test_each_fault_is_one_clear_error(tmp_path: Path, old: str, new: str, rule: str, value: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load(tmp_path, spoilt(old, new))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'mine.toml'}: ")
    assert rule in message
    assert value in message
    assert message.endswith(".")
    assert len(message) < 600


def test_overrides_and_comparisons_are_read(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        VALID
        + "\n[optimizers.adam.batch.512]\npeak_lr = [0.1, 0.2]\n"
        + '\n[[compare]]\nchallenger = "adam"\nbaseline = "sgd"\n',
    )
    assert space.overrides == {"adam": {512: {"peak_lr": (0.1, 0.2)}}}
    assert space.compare == (Pairing(challenger="adam", baseline="sgd"),)
    assert "batch" not in space.grids["adam"].values
    assert space.grid("adam", 64) == space.grids["adam"]
    assert space.grid("adam", 512).values == {**space.grids["adam"].values, "peak_lr": (0.1, 0.2)}


def test_tables_of_the_wrong_kind(tmp_path: Path) -> None:
    head = VALID.partition("[model]")[0]
    for name, value in (("model", '"ncf"'), ("seeds", "[1]"), ("optimizers", "3"), ("budgets", "[1, 2]")):
        rest = {"model": '{ name = "small-vgg" }', "seeds": "{ search = [0], confirm = [1] }", "optimizers": "{}"}
        lines = {**rest, "budgets": "[{ batch_size = 1, epochs = 1 }]", name: value}
        text = head + "".join(f"{key} = {line}\n" for key, line in lines.items())
        with pytest.raises(SpaceError, match=rf": {name}: must "):
            load(tmp_path, text)


def test_no_optimizer_is_an_error(tmp_path: Path) -> None:
    text = VALID.partition("[optimizers.adam]")[0] + "[optimizers]\n"
    with pytest.raises(SpaceError, match="optimizers: must name at least one optimizer"):
        load(tmp_path, text)


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    space = load(tmp_path, spoilt("[0.0, 0.1]", "[-0.0, 0.1]"))
    assert str(space.grids["adam"].values["weight_decay"][0]) == "0.0"


@pytest.mark.parametrize("name", ["my space.toml", "-x.toml", ".toml", "ü.toml"])
def test_a_file_needs_a_name_that_is_valid_for_a_study(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpaceError, match="the file name: must be a name"):
        load(tmp_path, VALID, name)


def test_a_missing_file_names_the_nearest_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(VALID)
    (tmp_path / "mime.txt").write_text("")
    with pytest.raises(SpaceError, match=rf"Did you mean '{re.escape(str(tmp_path))}/mine\.toml'\? Check the path"):
        load_space(tmp_path / "mime.toml")
    with pytest.raises(SpaceError, match=r"No such file or directory\. Check the path"):
        load_space(tmp_path / "quite-another.toml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"nowhere\.toml: cannot be read: No such file"):
        load_space(tmp_path / "nowhere.toml")
    with pytest.raises(SpaceError, match="cannot be read: Is a directory"):
        load_space(tmp_path)
    (tmp_path / "latin.toml").write_bytes(VALID.encode() + b'# \xe9\n"')
    with pytest.raises(SpaceError, match="must be UTF-8 text, but byte"):
        load_space(tmp_path / "latin.toml")
    (tmp_path / "wide.toml").write_bytes(VALID.encode("utf-16"))
    with pytest.raises(SpaceError, match=r"must be UTF-8 text, but byte 0 is not. Save the file as UTF-8\."):
        load_space(tmp_path / "wide.toml")


@pytest.mark.parametrize(
    "text",
    [f"x = {'[' * 100_000}", f"x = {'[' * 200}{']' * 200}", f"x = {'{a = ' * 150}1{'}' * 150}", f"x{'.x' * 2_000} = 1"],
    ids=["open lists", "lists", "tables", "dotted keys"],
)
def test_nesting_has_a_limit(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpaceError, match="nested too deeply, over 32 levels") as caught:
        load(tmp_path, f"{text}\n{VALID}")
    assert len(str(caught.value)) < 300


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert load(tmp_path, f"\ufeff{VALID}") == load(tmp_path, VALID)
    with pytest.raises(SpaceError, match="is not valid TOML"):
        load(tmp_path, f"\ufeff\ufeff{VALID}")


LITERALS = [
    *("true", "nan", "-inf", "1e999", "-1", "0", "-0.0", "0.5", "7", "9" * 400, "9" * 5000, "0x1F", "1979-05-27"),
    *('""', '"adam"', "'''x'''", "[]", "[1]", "[1, 1]", "[[1]]", "[true]", '["a"]', "{}", "{ x = 1 }", "[{}]", ""),
]


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """The valid text after a few deletions, copies, insertions and replaced values."""
    text = VALID
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 60)))
        kind = draw(st.sampled_from(["cut", "copy", "insert", "value", "line"]))
        if kind == "cut":
            text = text[:start] + text[end:]
        elif kind == "copy":
            text = text[:end] + text[start:]
        elif kind == "insert":
            text = text[:start] + draw(st.text(max_size=8)) + text[start:]
        else:
            pattern = r"(?<== ).*" if kind == "value" else r"(?m)^.+$"
            places = list(re.finditer(pattern, text))
            if places:
                place = draw(st.sampled_from(places))
                new = draw(st.sampled_from(LITERALS)) if kind == "value" else ""
                text = text[: place.start()] + new + text[place.end() :]
    return text


def attempt(action: Callable[[], Result]) -> Result | SpaceError:
    """Returns the result of the action, or its SpaceError."""
    try:
        return action()
    except SpaceError as error:
        return error


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutations())
def test_any_mutation_is_a_space_or_a_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    space = attempt(lambda: load_space(path))
    if isinstance(space, SearchSpace):
        found = space
        cells = attempt(lambda: plan(found))
        if not isinstance(cells, SpaceError):
            assert len(cells) == len(found.grids) * len(found.budgets)
            return
        space = cells
    assert str(path) in str(space)
