"""Rows of others as files: read, or refused by an error that names the file, however it was saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.planning.check import check
from lawn_tune.planning.spaces import find_space
from search_spaces.space import SpaceError
from trainables.catalogue import BUILT_IN, CatalogueError
from trainables.catalogue.code import CodeError, resolved
from trainables.catalogue.plugins import read_file
from trainables.catalogue.rows import Control
from trainables.optimizers.controls import control_of

MODEL = """\
[models.flat]
label = "flat"
data = "images"
build = "toy:flat"
options = [{ name = "scale", default = 0.1 }]
"""

DATASET = """\
[datasets.own]
summary = "images of mine"
data = "images"
targets = "classes"
metrics = ["accuracy"]
workload = "own:build"
train_examples = 1
full_examples = 1
files = [{ path = "own.csv", url = "https://example.org/own.csv" }]
"""


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(MODEL)
    plain = read_file(path)
    path.write_bytes(b"\xef\xbb\xbf" + MODEL.encode())
    assert read_file(path) == plain


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DATASET, r"datasets\.own\.files\[0\]: file own\.csv requires either sha256 or checksum"),
        (f"x = {'[' * 100_000}", "cannot be read as TOML: nested too deeply"),
        (f"x = {'9' * 5_000}", "cannot be read as TOML: Exceeds the limit"),
        (MODEL.replace('"flat"', f'"flat"\ncolor{".x" * 1_000} = 1', 1), "models.flat.color: unknown key"),
        (MODEL.replace('"flat"', f"{{ x{'.x' * 1_000} = 1 }}", 1), "models.flat.label: must be of type str"),
        (
            '[rules.a]\nlabel = "a"\ndirection = "a:b"\nstate = []\ncolor = "red"',
            "color must be .*#rrggbb.*, got 'red'",
        ),
        ('[methods.a]\nlabel = "a"\nrule = "sgd"\ncolor = "#12345"', r"methods\.a: color must be .*, got '#12345'"),
        ('[metrics.a]\nlabel = "a"\ndirection = "minimize"\ndigits = -1', "digits must be a whole .* to 15, got -1"),
        (MODEL.replace('"flat"', "1979-05-27", 1), "models.flat.label: must be of type str"),
        (MODEL.replace('"flat"', f"[{'1, ' * 10_000}]", 1), "models.flat.label: must be of type str"),
    ],
    ids=[
        "nothing to verify by",
        "lists",
        "number",
        "key",
        "tables",
        "color",
        "short color",
        "digits",
        "date",
        "long list",
    ],
)
def test_what_is_no_row_is_refused_in_few_words(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(text)
    with pytest.raises(CatalogueError, match=reason) as caught:
        BUILT_IN.with_rows(read_file(path), str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_an_option_is_a_finite_number(scale: float, tmp_path: Path) -> None:
    (tmp_path / "catalogue.toml").write_text(MODEL)
    known = BUILT_IN.with_rows(read_file(tmp_path / "catalogue.toml"), "catalogue.toml")
    space = find_space("digits")
    check(replace(space, model={"name": "flat", "scale": 0.5}), known)
    with pytest.raises(SpaceError, match=r"model\.scale: must be a finite number"):
        check(replace(space, model={"name": "flat", "scale": scale}), known)


@pytest.mark.parametrize(("code", "reason"), [("nowhere:step", "No module named 'nowhere'"), ("json:step", "'json'")])
def test_code_that_cannot_be_imported_is_named_with_what_to_do(
    code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = f'[catalogue.rules.own]\nlabel = "own"\nstate = []\ndirection = "{code}"\n'
    rows += (
        '[catalogue.methods.own]\nlabel = "own"\nrule = "own"\n[optimizers.own]\npeak_lr = [0.1]\nwarmup_epochs = [0]\n'
    )
    Path("own.toml").write_text(f'extends = "quickstart"\nmethods = ["own"]\nbatch_sizes = [64]\n{rows}')
    ended = CliRunner().invoke(app, ["launch", "own.toml", "--executor", "inline", "--retries", "0"])
    assert ended.exit_code == 5, ended.output
    (error,) = (line for line in ended.output.splitlines() if line.startswith("error: "))
    assert error.startswith(
        f"error: 1 trial failed: '{code}', which a row of the catalogue names, cannot be imported: "
    )
    assert reason in error
    assert "hint: Correct it, then launch again." in ended.output
    assert error.endswith("make it importable where training runs, for example by PYTHONPATH")


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (
            lambda: resolved("json"),
            "'json', which a row of the catalogue names, is a module: write it as 'module:attribute'",
        ),
        (
            lambda: control_of(Control(name="mine", label="mine", hook="json:dumps"), {}),
            "'json:dumps', the hook of control 'mine', must be a trainables.*Control, or a class of one, got function",
        ),
    ],
)
def test_code_of_another_kind_is_refused(read: Callable[[], object], text: str) -> None:
    with pytest.raises(CodeError, match=text):
        read()
