"""Runs of other programs: compared as they are in the file, refused in one sentence where they break the form."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from statistics import mean
from typing import Any

import optuna
import pytest
from typer.testing import CliRunner, Result

from lawn_tune.cells import Cell
from lawn_tune.cli.main import app
from lawn_tune.ledger import open_ledger
from lawn_tune.ledger.optuna_runs import read_studies
from lawn_tune.planning.csv_runs import COLUMNS

PAGE = (Path(__file__).parents[2] / "docs/importing.md").read_text()
CSV = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)[0]
SCATTERED = "method,seed,validation,a,b\n" + "".join(
    f"{name},{seed},{70 + i + seed},{i},{7 * i % 5 + 0.5}\n" for name in ("x", "y") for i in range(6) for seed in (0, 1)
)
"""A random search: its points are a small part of the product of their levels."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text(CSV)
    Path("scattered.csv").write_text(SCATTERED)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def done(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def compared(space: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done("compare", space, "--format", "json"))
    return found


def cells(space: str) -> tuple[Cell, ...]:
    with open_ledger("sqlite:///lawn-tune.db", create=False) as ledger:
        return ledger.cells(space)


def test_the_page_lists_the_columns() -> None:
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)))
    assert set(listed) == set(COLUMNS)


def test_the_runs_of_the_page_get_the_verdict_of_their_numbers() -> None:
    assert "imported 8 runs of 2 cells" in done("import", "runs.csv", "--compare", "mine:adam")
    found = compared("runs")
    rows = [line.split(",") for line in CSV.splitlines() if ",confirm," in line]
    values = {name: mean(float(row[-1]) for row in rows if row[0] == name) for name in ("adam", "mine")}
    (pair,) = found["pairs"]
    assert pair["difference"]["mean"] == pytest.approx(values["mine"] - values["adam"])
    assert pair["difference"]["seeds"] == [11, 12]
    assert not pair["to_decide"], "nothing can be launched"
    winners = {cell["cell"].split("/")[1]: cell["winner"]["hyperparameters"] for cell in found["cells"]}
    assert winners == {"adam-imported": {"lr": 0.02, "wd": 0.1}, "mine": {"lr": 0.03}}
    assert found["about"] == ["Results of runs.csv."]
    done("report", "runs", "--output", "report.html")
    assert "mine is" in Path("report.html").read_text()
    done("report", "runs", "--format", "json", "--output", "report.json")
    protocol = json.loads(Path("report.json").read_text())["protocol"]
    assert protocol["intervals"] == "paired, Student's t over seeds, 95 % for all pairs together; margin 0.5"
    assert not {"schedule", "precision", "constrained by LAWN"} & protocol.keys(), "nothing is known of the training"


def test_the_same_import_adds_nothing_and_another_one_is_refused() -> None:
    assert "all new" in done("import", "runs.csv")
    shown = done("import", "runs.csv", "--name", "elsewhere", "--storage", "sqlite:///other.db")
    assert shown.endswith("next: lawn-tune compare elsewhere --storage sqlite:///other.db\n")
    before = compared("runs")
    assert json.loads(done("import", "runs.csv", "--json"))["added"] == 0
    assert compared("runs") == before
    header, *lines = CSV.splitlines(keepends=True)
    Path("runs.csv").write_text("\n , \n".join((header, *reversed(lines))))
    assert json.loads(done("import", "runs.csv", "--json"))["added"] == 0, (
        "the order of lines and empty ones mean nothing"
    )
    Path("runs.csv").write_text(CSV.replace("92.1", "92.2"))
    result = run("import", "runs.csv")
    assert result.exit_code == 2
    assert "space 'runs' is in the ledger already, with other results" in result.output
    done("import", "runs.csv", "--name", "again")
    assert compared("runs") == before


def test_built_in_methods_keep_their_rows_and_are_compared_as_usual() -> None:
    point = "method,seed,phase,peak_lr,warmup_epochs,weight_decay,free_epochs,validation,test,epochs\n"
    lines = [
        f"{name},{seed},{phase},0.01,1,{wd},{free},{90 + seed + (free == 2)},{90 + seed + (free == 2)},9\n"
        for name, wd, free in (("adam", 0.1, ""), ("adam-lawn", "", 2))
        for phase, seeds in (("search", (0,)), ("confirm", (1, 2, 3)))
        for seed in seeds
    ]
    Path("known.csv").write_text(point + "".join(lines))
    done("import", "known.csv")
    (pair,) = compared("known")["pairs"]
    assert (pair["challenger"], pair["baseline"]) == ("known/adam-lawn/bs1", "known/adam/bs1")
    assert pair["difference"]["mean"] == pytest.approx(1.0)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_points_that_are_no_product_are_read_back_and_shown(direction: str) -> None:
    done("import", "scattered.csv", "--metric", "bits", "--direction", direction, "--compare", "x:y")
    found = cells("scattered")
    assert [cell.grid.size for cell in found] == [6, 6]
    assert [Cell.from_dict(cell.to_dict()) for cell in found] == list(found)
    with pytest.raises(ValueError, match="points must be lists of 2 numbers"):
        Cell.from_dict(found[0].to_dict() | {"points": [[1.0, 2.0], [3.0]]})
    best = 5.0 if direction == "maximize" else 0.0
    for cell in compared("scattered")["cells"]:
        assert cell["winner"]["hyperparameters"]["a"] == best
        assert cell["points"]["complete"] == 6
    status = json.loads(done("status", "scattered", "--json"))
    assert (status["state"], status["total"]["last_change"]) == ("finished", None)
    assert len(json.loads(done("export", "scattered", "--format", "json"))) == 24
    done("report", "scattered", "--format", "md", "--output", "report.md")
    text = Path("report.md").read_text()
    assert "lawn-tune launch" not in text
    assert "retrained on train" not in text
    assert "Each hyperparameter alone" in text


def test_trials_of_optuna_become_search_runs() -> None:
    url = "sqlite:///theirs.db"
    for name, best in (("tpe", 0.25), ("grid", 0.75)):
        study = optuna.create_study(study_name=name, storage=url, direction="minimize")
        for x, seed in itertools.product((0.25, 0.5, 0.75), (3, 4)):
            trial = optuna.trial.create_trial(
                params={"x": x},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                value=abs(x - best) + seed / 100,
                user_attrs={"seed": seed},
            )
            study.add_trial(trial)
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    optuna.create_study(study_name="unfinished", storage=url)
    done("import", "optuna", url, "tpe", "grid", "--name", "both", "--metric", "regret", "--compare", "tpe:grid")
    winners = {cell["cell"]: cell["winner"] for cell in compared("both")["cells"]}
    assert winners["both/tpe/bs1"]["hyperparameters"] == {"x": 0.25}
    assert winners["both/grid/bs1"]["hyperparameters"] == {"x": 0.75}
    assert winners["both/tpe/bs1"]["value"] == pytest.approx(0.035)
    for wrong, words in (
        (["optuna", url, "none"], "there is no study 'none'"),
        (["optuna", url, "tpe", "--direction", "maximize"], "the study is to minimize, got maximize"),
        (["optuna", url, "tpe", "--metric", "accuracy"], "accuracy is to maximize, and the study is to minimize"),
        (["optuna", url, "tpe", "unfinished"], "study 'unfinished' has no complete trial"),
        (["optuna", url], "takes a URL and the name of a study"),
    ):
        result = run("import", "--metric", "regret", *wrong)
        assert (result.exit_code, words in result.output) == (2, True), result.output


def test_infinite_values_of_optuna_are_runs_that_diverged() -> None:
    study = optuna.create_study(study_name="tpe", storage="sqlite:///theirs.db", direction="minimize")
    for x, value in ((1.0, math.inf), (2.0, math.inf), (3.0, 0.2)):
        study.enqueue_trial({"x": x})
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 4)}), value)
    done("import", "optuna", "sqlite:///theirs.db", "tpe", "--metric", "loss")
    (cell,) = compared("tpe")["cells"]
    assert (cell["winner"]["hyperparameters"], cell["points"]["diverged"]) == ({"x": 3.0}, 2)


def test_trials_of_optuna_without_a_seed_are_numbered_at_each_point() -> None:
    study = optuna.create_study(study_name="tpe", storage="sqlite:///theirs.db")
    for x, attributes in ((1.0, {}), (1.0, {}), (2.0, {}), (1.0, {"seed": 7})):
        study.enqueue_trial({"x": x}, attributes)
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 3)})
        study.tell(trial, x)
    runs, direction = read_studies("sqlite:///theirs.db", ["tpe"])
    assert [(dict(run.point)["x"], run.seed) for run in runs] == [(1.0, 0), (1.0, 1), (2.0, 0), (1.0, 7)]
    assert direction == "minimize"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("method,", "name,", "the header needs method, got name, seed"),
        ("validation,test", "value,result", "the header needs validation or test"),
        ("seed,", "method,", "every column needs a name of its own, got 'method'"),
        ("lr,", ",", "every column needs a name of its own, got ''"),
        ("adam,0,search,0.01", "adam,0,search,fast", "runs.csv, line 2: lr: must be a number from 0"),
        ("adam,0,search,0.01", "adam,0,search,-1", "line 2: lr: must be a number from 0"),
        ("adam,0,search,0.01", "adam,0,search,inf", "line 2: lr: must be a number from 0"),
        ("adam,0,search,0.01", "adam,-3,search,0.01", "line 2: seed: must be a whole number from 0, got '-3'"),
        ("adam,0,search,0.01", "adam,0,train,0.01", "line 2: phase: must be search or confirm, got 'train'"),
        (
            "adam,0,search,0.01",
            "a/b,0,search,0.01",
            "line 2: method: must be a name of letters, digits, '.', '_' and '-'",
        ),
        ("adam,0,search,0.01", "adam,0,search", "line 2: 6 values for the header's 7 columns"),
        ("adam,0,search,0.01,0.1", "adam,0,search,0.01,", "the hyperparameters lr, wd here, and lr"),
        ("adam,0,search,0.01,0.1", "adam,0,search,0.02,0.1", "line 3: the same search run as runs.csv, line 2"),
        ("adam,11", "adam,0", "line 6: seed 0 is one that method 'adam' was searched with"),
        ("mine,11", "late,11", "line 8: method 'late' has no search run at batch size 1"),
        ("adam,0,search,0.01,0.1", "adam,0,search,,", "line 2: method 'adam' has no hyperparameter here"),
        ("90.0,89.2", "nan,89.2", "line 2: validation: must be a number, or empty, got 'nan'"),
        (",,90.1", ",,", "line 6: test: a complete confirm run needs a value"),
        ("91.0,90.1", ",90.1", "line 3: validation: some search runs of method 'adam' have a value, others none"),
        ("adam,0,search,0.02", "adam,1,search,0.02", "line 2: most points of method 'adam' have no seed in common"),
        ("90.0,89.2", '"90.0,89.2', "not a CSV file: unexpected end"),
        (",", ";", "hint: Separate its columns by commas."),
        (CSV.partition("\n")[2], "", "runs.csv: it has no run"),
    ],
)
def test_what_breaks_the_form_is_one_line_that_names_its_place(old: str, new: str, words: str) -> None:
    assert old in CSV
    Path("runs.csv").write_text(CSV.replace(old, new, -1 if old == "," else 1))
    result = run("import", "runs.csv")
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert not Path("lawn-tune.db").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.csv"], "nothing.csv: cannot be read: No such file"),
        (["runs.csv", "runs.csv"], "import takes one CSV file, got 2"),
        (["runs.csv", "--metric", "loss"], "--direction: needed for the metric 'loss'"),
        (["runs.csv", "--direction", "minimize"], "--direction: accuracy is to maximize, got minimize"),
        (["runs.csv", "--compare", "mine"], "--compare: must be CHALLENGER:BASELINE"),
        (["runs.csv", "--compare", "mine:sgd"], "--compare: there is no method 'sgd'"),
        (["runs.csv", "--name", "digits"], "--name: must be a name"),
    ],
)
def test_what_is_asked_for_wrongly_is_a_usage_error(arguments: list[str], words: str) -> None:
    result = run("import", *arguments)
    assert result.exit_code == 2, result.output
    assert words in result.output


def test_fractions_are_not_taken_for_percentages() -> None:
    """Of fractions, the margin of half a point would make any two methods equivalent."""
    lines = [
        f"{name},{seed},{phase},0.1,{value},{value}\n"
        for name, value in (("x", 0.9), ("y", 0.93))
        for seed, phase in ((0, "search"), (1, "confirm"), (2, "confirm"))
    ]
    Path("shares.csv").write_text("method,seed,phase,lr,validation,test\n" + "".join(lines))
    result = run("import", "shares.csv", "--compare", "y:x")
    assert (result.exit_code, "accuracy is in percent, and no value is above 1" in result.output) == (2, True)
    done("import", "shares.csv", "--metric", "share", "--direction", "maximize", "--compare", "y:x")
    (pair,) = compared("shares")["pairs"]
    assert pair["difference"]["margin"] is None
    Path("runs.csv").write_text(CSV.replace("93.0,91.9", "93.0,191.9"))
    assert "line 5: accuracy must be from 0 to 100 percent, got 191.9" in run("import", "runs.csv").output


def test_small_values_are_shown_with_digits_that_tell_them_apart() -> None:
    lines = [
        f"{name},{seed},{phase},0.1,{base + 1e-5 * seed},{base + 1e-5 * seed}\n"
        for name, base in (("x", 0.00201), ("y", 0.00194))
        for seed, phase in ((0, "search"), (1, "confirm"), (2, "confirm"), (4, "confirm"))
    ]
    Path("losses.csv").write_text("method,seed,phase,lr,validation,test\n" + "".join(lines))
    metric = ("--metric", "small-loss", "--direction", "minimize")
    done("import", "runs.csv", *metric)
    assert "| mine | 92.00 (search, 1)" in done("compare", "runs", "--format", "md")
    done("import", "losses.csv", *metric, "--compare", "y:x")
    text = done("compare", "losses", "--format", "md")
    assert "| x | 0.002033 ± 0.000009 (3)" in text
    assert "| y − x | 1 | −0.000070 |" in text


def test_a_repeated_point_keeps_no_other_from_winning() -> None:
    """A sampler that tries a point twice has run one point with two seeds and all others with one."""
    study = optuna.create_study(study_name="tpe", storage="sqlite:///theirs.db", direction="maximize")
    for x, value in ((1.0, 80.0), (1.0, 81.0), (2.0, 95.0), (3.0, 90.0)):
        study.enqueue_trial({"x": x})
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 4)}), value)
    facts = json.loads(done("import", "optuna", "sqlite:///theirs.db", "tpe", "--json"))
    assert (facts["runs"], facts["unused"]) == (4, 1)
    (cell,) = compared("tpe")["cells"]
    assert (cell["winner"]["hyperparameters"], cell["points"]["complete"]) == ({"x": 2.0}, 3)
    assert "grid incomplete" not in str(cell["notes"])
    assert len(json.loads(done("export", "tpe", "--format", "json"))) == 4


def test_a_run_that_is_missing_keeps_its_own_point_from_winning_only() -> None:
    lines = [f"x,{seed},{90 + lr + seed},{lr}" for lr in (1, 2, 3, 4) for seed in (0, 1, 2) if (lr, seed) != (4, 2)]
    Path("missing.csv").write_text("\n".join(["method,seed,validation,lr", *lines]))
    assert json.loads(done("import", "missing.csv", "--json"))["unused"] == 0
    (cell,) = compared("missing")["cells"]
    assert (cell["winner"]["hyperparameters"], cell["points"]["complete"]) == ({"lr": 3.0}, 3)
    assert "grid incomplete" in str(cell["notes"])


def test_points_that_diverged_with_their_first_seed_take_no_seed_from_the_others() -> None:
    lines = [f"x,0,diverged,,{lr}" for lr in (7, 8, 9)] + ["x,0,,90,1", "x,1,,91,1", "x,0,,92,2", "x,1,,93,2"]
    Path("lost.csv").write_text("\n".join(["method,seed,outcome,validation,lr", *lines]))
    done("import", "lost.csv")
    (cell,) = compared("lost")["cells"]
    assert (cell["winner"]["hyperparameters"], cell["estimate"]["n"]) == ({"lr": 2.0}, 2)


def test_confirm_runs_of_a_point_that_did_not_win_are_counted() -> None:
    assert json.loads(done("import", "runs.csv", "--name", "right", "--json"))["beside"] == 0
    Path("runs.csv").write_text(CSV.replace("mine,11,confirm,0.03", "mine,11,confirm,0.01"))
    assert "1 confirm run not of the winner, mine with lr 0.03: not compared\n" in done("import", "runs.csv")
    assert json.loads(done("import", "runs.csv", "--json"))["beside"] == 1


def test_a_file_in_another_encoding_is_refused() -> None:
    Path("runs.csv").write_bytes(CSV.replace("mine", "mïne").encode("latin-1"))
    result = run("import", "runs.csv")
    assert result.exit_code == 2, result.output
    assert "runs.csv: must be UTF-8 text" in result.output


def test_pairs_of_other_methods_are_not_averaged() -> None:
    """The mean of b − a, c − a and c − b is a difference of nothing."""
    values = {
        (name, size, seed): base + i * size * seed % 7 / 10
        for i, (name, base) in enumerate((("a", 80.0), ("b", 82.0), ("c", 90.0)))
        for size in (8, 16)
        for seed in (0, 1, 2, 3)
    }
    lines = [
        f"{name},{size},{seed},{'confirm' if seed else 'search'},0.1,{value},{value}"
        for (name, size, seed), value in values.items()
    ]
    Path("three.csv").write_text("\n".join(["method,batch_size,seed,phase,lr,validation,test", *lines]))
    done("import", "three.csv", *(word for pair in ("b:a", "c:a", "c:b") for word in ("--compare", pair)))
    found = compared("three")
    overall = found["overall"]
    assert (len(found["pairs"]), overall["pairs"]) == (6, 2)
    assert (overall["challenger"], overall["baseline"]) == ("b", "a")
    a, b = (mean(value for (own, _, seed), value in values.items() if own == name and seed) for name in "ab")
    assert overall["difference"]["mean"] == pytest.approx(b - a)


def test_a_database_that_is_not_there_is_not_made() -> None:
    result = run("import", "optuna", "sqlite:///none.db", "tpe", "--metric", "regret")
    assert result.exit_code == 3, result.output
    assert "there is no database at sqlite:///none.db" in result.output
    assert not Path("none.db").exists()
