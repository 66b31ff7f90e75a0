"""Spaces of training functions: what is read of them, what changes a key, and what is refused before anything runs."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from lawn_tune.cells import Cell
from lawn_tune.executors.memory_need import too_large
from lawn_tune.planning.classes import COLORS
from lawn_tune.planning.functions import own_code
from lawn_tune.planning.generations import CODE, earlier_code, with_code
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.plan import plan, warnings
from lawn_tune.planning.sources import Code
from search_spaces.loader import load_space
from search_spaces.space import SpaceError
from tests.helpers import tasks
from tests.helpers.functions import LINE, SPACE, Functions, end_of
from tests.helpers.memory_ledger import rows

BOOM = "raise RuntimeError('a plan ran the function')\n"


def code_of(own: Functions) -> Code:
    return own_code(load_space(own.file), {})


def keys(own: Functions) -> list[str]:
    return [
        trial.key for cell in own.cells for trial in (*cell.search_trials, *cell.confirm_trials(cell.grid.point(0)))
    ]


def test_a_plan_reads_the_function_and_never_runs_it(tmp_path: Path) -> None:
    cells = Functions(tmp_path, BOOM + LINE).cells
    assert [str(cell.name) for cell in cells] == ["own/adam/bs1", "own/adam-lawn/bs1"]
    assert all(Cell.from_dict(cell.to_dict()) == cell for cell in cells)
    assert {(cell.metric.label, cell.protocol.direction, cell.task.epochs) for cell in cells} == {
        ("mse", "minimize", 4)
    }
    assert cells[1].baselines == ("adam",)
    assert cells[0].task.examples == 1


def test_each_pack_holds_one_trial_whatever_is_asked_for(tmp_path: Path) -> None:
    cell = Functions(tmp_path).cells[0]
    for size in (None, 7):
        assert [len(pack) for pack in make_packs(cell, "search", cell.search_trials, size)] == [1, 1]


def test_a_function_that_runs_out_of_memory_is_not_told_of_micro_batches(tmp_path: Path) -> None:
    assert "micro_batch" in too_large(tasks.IMAGES)
    assert "micro_batch" not in too_large(Functions(tmp_path).cells[0].task)


def test_the_code_is_what_the_function_imports_from_its_folder(tmp_path: Path) -> None:
    own = Functions(tmp_path, f"import torch, layers\nfrom data import sets\n{LINE}")
    (tmp_path / "layers.py").write_text("import os, train\nfrom data.more import x\n")
    (tmp_path / "unrelated.py").write_text("")
    (tmp_path / "data").mkdir()
    for name in ("__init__", "sets", "more", "other"):
        (tmp_path / "data" / f"{name}.py").write_text("from . import sets\n" if name == "more" else "")
    found = code_of(own)
    assert sorted(found.files) == ["data/__init__.py", "data/more.py", "data/sets.py", "layers.py", "train.py"]
    with zipfile.ZipFile(io.BytesIO(found.archive())) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == found.files
        assert archive.comment.decode() == found.digest


def test_a_package_is_taken_whole_and_sources_say_what_else(tmp_path: Path) -> None:
    own = Functions(tmp_path, space=SPACE.replace("train.py:train", "mine.loop:train"))
    (tmp_path / "mine").mkdir()
    for name in ("__init__", "loop", "unused"):
        (tmp_path / "mine" / f"{name}.py").write_text(LINE if name == "loop" else "")
    assert sorted(code_of(own).files) == ["mine/__init__.py", "mine/loop.py", "mine/unused.py"]
    (tmp_path / "words.txt").write_text("a b c")
    own.file.write_text(own.file.read_text().replace("epochs = 4", 'epochs = 4\nsources = ["words.txt", "mine/u*.py"]'))
    assert sorted(code_of(own).files) == ["mine/loop.py", "mine/unused.py", "words.txt"]


def test_keys_change_with_the_code_and_with_nothing_else_about_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    own, elsewhere = Functions(tmp_path / "a"), Functions(tmp_path / "b")
    before = keys(own)
    elsewhere.file.write_text(SPACE.replace("digits = 4", "digits = 2") + "\n# a remark\n")
    assert keys(elsewhere) == before
    (tmp_path / "a" / "train.py").write_text(LINE + "# changed\n")
    assert not set(keys(own)) & set(before)
    old = [with_code(cell, code_of(elsewhere).digest) for cell in own.cells]
    assert [trial.key for cell in old for trial in cell.search_trials] == [
        trial.key for cell in elsewhere.cells for trial in cell.search_trials
    ], "--keep-code"


def test_a_space_of_own_methods_names_its_pairs_colors_and_keys(tmp_path: Path) -> None:
    methods = "".join(
        f"[optimizers.{name}]\n{key} = [1, 2]\n" for name, key in (("new", "tau"), ("old", "rho"), ("z", "a"))
    )
    pair = '[[compare]]\nchallenger = "new"\nbaseline = "old"\n'
    new, old, z = Functions(tmp_path, space=SPACE[: SPACE.index("[optimizers.adam]")] + methods + pair).cells
    assert (new.baselines, old.baselines) == (("old",), ())
    assert new.method.shown_color == old.method.shown_color != z.method.shown_color
    assert new.search_trials[1].hyperparameters == {"tau": 2.0}
    assert new.method.required == ()


def test_methods_of_one_class_share_a_color_that_no_other_class_has(tmp_path: Path) -> None:
    classes = [f"C{i}" for i in range(len(COLORS))]
    source = LINE + "".join(f"class {name}:\n    pass\n" for name in classes)
    methods = "".join(
        f'[optimizers.{name}-{end}]\nclass = "train.py:{name}"\npeak_lr = [0.1]\nwarmup_epochs = [1]\n'
        for end in "ab"
        for name in classes
    )
    cells = Functions(tmp_path, source, SPACE[: SPACE.index("[optimizers.adam]")] + methods).cells
    assert [cell.method.shown_color for cell in cells] == list(COLORS) * 2


def test_finished_trials_of_changed_code_are_counted(tmp_path: Path) -> None:
    own = Functions(tmp_path)
    adam, lawn = own.cells
    held = [*rows(adam, adam.search_trials), *rows(lawn, lawn.search_trials, "failed")]
    held = [replace(row, provenance={CODE: adam.task.code}) for row in held]
    assert earlier_code(own.cells, held) == 0
    (tmp_path / "train.py").write_text(LINE + "# changed\n")
    assert earlier_code(own.cells, held) == 2
    assert earlier_code(own.cells[1:], held) == 0


def test_batch_sizes_examples_and_rows_of_the_catalogue_are_optional(tmp_path: Path) -> None:
    budgets = "".join(f"[[budgets]]\nbatch_size = {size}\nepochs = {size}\n" for size in (8, 32))
    space = SPACE.replace("epochs = 4", "examples = 100").replace("[optimizers.adam]", f"{budgets}[optimizers.adam]", 1)
    space += (
        '[catalogue.methods.titled]\nlabel = "Titled!"\nrule = "own"\nbaseline = "adam"\n[optimizers.titled]\nx = [1]\n'
    )
    cells = Functions(tmp_path, space=space).cells
    assert [(cell.task.batch_size, cell.task.epochs, cell.task.examples) for cell in cells[:2]] == [
        (8, 8, 100),
        (32, 32, 100),
    ]
    assert (cells[-1].method.label, cells[-1].baselines) == ("Titled!", ("adam",))


def test_declared_data_is_part_of_the_key_and_verified(tmp_path: Path) -> None:
    own = Functions(tmp_path, "def train(trial):\n    pass\n")
    before = keys(own)
    (tmp_path / "a.csv").write_text("1,2")
    digest = hashlib.sha256(b"1,2").hexdigest()
    own.file.write_text(f'{SPACE}[[data]]\npath = "a.csv"\nsha256 = "{digest}"\n')
    assert not set(keys(own)) & set(before)
    assert own.cells[0].task.dataset_row.digest == digest
    assert "returned after 0" in end_of(own.run(own.job()))["error"]
    (tmp_path / "a.csv").write_text("1,3")
    damaged = end_of(own.run(own.job()))
    assert damaged["reason"] == "data"
    assert "is damaged (content differs from its checksum: " in damaged["error"]
    assert "a.csv); results would not be comparable. Restore it, or correct its sha256" in damaged["error"]
    (tmp_path / "a.csv").unlink()
    assert "a.csv). Put it there, or give its folder by --data-dir" in end_of(own.run(own.job()))["error"]


REFUSED = {
    "data above": (
        "[seeds]",
        f"[[data]]\npath = '../a'\nsha256 = '{'0' * 64}'\n[seeds]",
        "must be a path in the data folder",
    ),
    "no digest": ("[seeds]", "[[data]]\npath = 'a'\nsha256 = '12'\n[seeds]", "must have 64 hex digits"),
    "no function": ('train.py:train"', 'train.py"', "must name a module and what is in it, got 'train.py'"),
    "no file": ("train.py:train", "tarin.py:train", "there is no file .*tarin.py"),
    "no module": ("train.py:train", "nowhere.mine:train", "there is no module nowhere.mine next to the space"),
    "another name": ("train.py:train", "train.py:trian", "defines no trian, .* Did you mean 'train'"),
    "a data set": ("epochs = 4", 'epochs = 4\ndataset = "digits"', "dataset: unknown key"),
    "a precision": ("epochs = 4", 'epochs = 4\nprecision = "bfloat16"', "precision: unknown key"),
    "on test": ("epochs = 4", 'epochs = 4\nselection = "test"', "selection: must be one of validation"),
    "both": (
        "[optimizers.adam]",
        "[[budgets]]\nbatch_size = 1\nepochs = 1\n[optimizers.adam]",
        "epochs: must not be next to",
    ),
    "no epochs": ("epochs = 4", "", "epochs: missing key"),
    "no direction": ('direction = "minimize", ', "", "metric.direction: missing key"),
    "a direction": ('"minimize"', '"down"', "metric.direction: must be maximize or minimize, got 'down'"),
    "digits": ("digits = 4", "digits = -1", "metric.digits: must be a whole number from 0 to 15, got -1"),
    "a unit": ("digits = 4", "unit = 5", "metric.unit: must be a string, got 5"),
    "a key of the metric": ("digits = 4", "digit = 4", "metric.digit: unknown key.* Did you mean 'digits'"),
    "a known metric": (
        'name = "mse", direction = "minimize"',
        'name = "accuracy", direction = "maximize"',
        'metric: must not have the name of a built-in metric, got .accuracy.. Write metric = "accuracy"',
    ),
    "an unknown metric": (
        '{ name = "mse", direction = "minimize", digits = 4 }',
        '"mse"',
        'metric: must be one of accuracy, .*, or write { name = "mse", direction = "minimize" }',
    ),
    "a module of torch": ("train.py:train", "torch:nn", "must be code of your own, got 'torch:nn'"),
    "no kind": ('trainable = "train.py:train"', "", "missing key; a space has a dataset, a workload or a trainable"),
    "a mistyped kind": ("trainable =", "trainabel =", "trainabel: unknown key.* Did you mean 'trainable'"),
    "a mistyped decay": ("weight_decay", "weigth_decay", "missing key; .* Rename weigth_decay, or add it"),
    "no face": (
        "[optimizers.adam-lawn]",
        "[optimizers.adam-hyperball]",
        "must have a torch optimizer for any parameters",
    ),
    "no class": (
        "[optimizers.adam-lawn]",
        "[optimizers.adamp]",
        "must have a torch optimizer for any parameters",
    ),
    "no rate": ("peak_lr = [0.02, 0.05]\nwarmup_epochs = [1]\nfree", "free", "peak_lr: missing key"),
    "long warm-up": ("warmup_epochs = [1]\nweight", "warmup_epochs = [4]\nweight", "must be below the 4 epochs"),
    "a word": ("[1.5]", '["auto"]', "must contain only numbers where a function trains, got 'auto'"),
    "sources": ("epochs = 4", 'epochs = 4\nsources = ["no*.py"]', "sources: matches no file"),
    "above": ("epochs = 4", 'epochs = 4\nsources = ["../x.py"]', "sources: must be within"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_by_the_plan(name: str, tmp_path: Path) -> None:
    old, new, pattern = REFUSED[name]
    assert old in SPACE
    own = Functions(tmp_path, space=SPACE.replace(old, new, 1))
    with pytest.raises(SpaceError, match=pattern) as caught:
        plan(load_space(own.file))
    assert str(caught.value).startswith(str(own.file))
    assert re.search(r"\. [A-Z].*\.$", str(caught.value)), "it says what to do"


def test_a_method_that_is_probably_mistyped_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(SPACE.replace("adam-lawn", "adam_lawn"))
    (tmp_path / "train.py").write_text(LINE)
    pair = '[[compare]]\nchallenger = "adam_lawn"\nbaseline = "adam"\n'
    assert warnings(plan(load_space(tmp_path / "own.toml"))) == [
        "warning: own: adam_lawn is not a method of the catalogue, so its function must build the optimizer. "
        "Did you mean 'adam-lawn'?"
    ]
    (tmp_path / "own.toml").write_text(SPACE.replace("adam-lawn", "adam_lawn") + pair)
    assert not warnings(plan(load_space(tmp_path / "own.toml"))), "a pair names it"
    (tmp_path / "own.toml").write_text(SPACE)
    assert not warnings(plan(load_space(tmp_path / "own.toml")))


def test_code_that_cannot_be_parsed_or_is_too_large_is_named(tmp_path: Path) -> None:
    own = Functions(tmp_path, "def train(trial:\n")
    with pytest.raises(SpaceError, match=r"train.py:1 cannot be parsed"):
        plan(load_space(own.file))
    own = Functions(tmp_path, "import blob\n" + LINE)
    left = 20_000_000 - len((tmp_path / "train.py").read_bytes())
    (tmp_path / "blob.py").write_bytes(b"#" * left)
    plan(load_space(own.file))
    (tmp_path / "blob.py").write_bytes(b"#" * (left + 1))
    with pytest.raises(SpaceError, match="its 2 source files have"):
        plan(load_space(own.file))
