"""`lawn-tune plan`: its table, its JSON, its errors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

import lawn_tune.cli.launch
import lawn_tune.cli.plan
import lawn_tune.cli.plan_text
from lawn_tune.cells import Cell
from lawn_tune.executors import build
from lawn_tune.ledger import open_ledger
from lawn_tune.planning.costs import estimate
from lawn_tune.planning.extending import STAY
from lawn_tune.planning.placement import place
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import builtin_spaces, find_space
from lawn_tune.planning.speed import Speeds
from tests.helpers.commands import read, run
from tests.helpers.memory_ledger import QUICKSTART
from trainables.catalogue.datasets import DATASETS, MACHINE
from trainables.catalogue.rows import Dataset
from trainables.catalogue.sizes import Speed

pytestmark = pytest.mark.usefixtures("empty_folder")


def short(cell: Cell) -> str:
    return str(cell.name).removeprefix(f"{cell.name.space}/")


def test_plan_lists_every_cell_and_the_totals() -> None:
    result = run("plan", "quickstart")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["quickstart"]
    assert [line[:3] for line in lines[2:6]] == [[short(cell), "9", "3"] for cell in QUICKSTART]
    assert "4 cells, 36 search + 12 confirm trials in 8 packs" in result.stdout
    assert "ledger sqlite:///lawn-tune.db: not created yet" in result.stdout
    assert not list(Path().iterdir()), "planning writes nothing"


def test_plan_names_rivals_with_grids_of_unequal_size(tmp_path: Path) -> None:
    text = Path(lawn_tune.__file__).parents[1].joinpath("search_spaces", "quickstart.toml").read_text()
    (tmp_path / "mine.toml").write_text(f"{text}\n[optimizers.adam.batch.512]\nweight_decay = [0.1]\n")
    shown = run("plan", str(tmp_path / "mine.toml")).stdout
    assert shown.count("unequal search") == 1
    assert "adam-lawn/bs512 has 9 grid points, its baseline adam 3: unequal search" in shown
    assert "unequal search" not in run("plan", "quickstart").stdout


def test_plan_tells_hours_where_they_are_known_and_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, speeds in (("digits", {"small-vgg": Speed(1e-3, 0.0)}), ("fashion-mnist", {})):
        monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), name, replace(DATASETS[name], speeds=speeds))
    cost = sum(estimate(cell).examples for cell in QUICKSTART) * 1e-3 / 60
    assert f"time on one worker: {cost:.0f} min (from {MACHINE})" in run("plan", "quickstart").stdout
    mixed = run("plan", "quickstart", "fashion_mnist").stdout
    assert f"time on one worker: {cost:.0f} min (from {MACHINE})" in mixed
    assert "without 15 of 19 cells, whose time is unknown until measured" in mixed
    unknown = run("plan", "fashion_mnist").stdout
    assert "time on one worker: unknown until measured" in unknown
    shown = [lawn_tune.cli.plan_text.ON_GPUS in text for text in (mixed, unknown)]
    assert shown == [True, False], "the table of speeds is of CPU cores"


def test_plan_as_json_holds_what_the_table_holds() -> None:
    document = read("plan", "--all", "--json")
    expected = [str(cell.name) for name in builtin_spaces() for cell in plan(find_space(name))]
    assert [cell["cell"] for cell in document["cells"]] == expected
    assert document["ledger"] is None
    assert {cell["ledger"] for cell in document["cells"]} == {None}
    assert all(cell["examples_trained"] > 0 for cell in document["cells"])


def test_plan_takes_filters_caps_and_seeds() -> None:
    document = read("plan", "quickstart", "--cells", "adam/*", "--max-epochs", "5", "--seeds", "4", "--json")
    shown = [(cell["cell"], cell["epochs"], cell["full_epochs"], cell["confirm_trials"]) for cell in document["cells"]]
    assert shown == [("quickstart/adam/bs64", 5, 20, 4), ("quickstart/adam/bs512", 5, 20, 4)]
    assert "5/20" in run("plan", "quickstart", "--max-epochs", "5").stdout


def test_plan_tells_what_a_real_ledger_has() -> None:
    with open_ledger("sqlite:///mine.db") as real:
        real.register(QUICKSTART)
    document = read("plan", "quickstart", "digits", "--storage", "sqlite:///mine.db", "--json")
    assert document["ledger"] == "sqlite:///mine.db"
    assert document["cells"][0]["ledger"] == {
        **{"planned": 12, "complete": 0, "diverged": 0, "failed": 0, "running": 0},
        "missing": 12,
    }
    text = run("plan", "quickstart", "--storage", "sqlite:///mine.db").stdout
    assert "0/12" in text
    assert "ledger sqlite:///mine.db: 0 trials finished, 48 missing" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.2, "<1 s"),
        (20, "20 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (180, "3 min"),
        (7160, "119 min"),
        (7190, "2.0 h"),
        (3.6e6, "1,000 h"),
    ],
)
def test_durations_have_the_unit_that_suits_them(seconds: float | None, shown: str) -> None:
    assert lawn_tune.cli.plan_text.time_text(seconds) == shown


def test_plan_tells_which_points_never_reach_the_constraint() -> None:
    args = ("plan", "movielens_100k", "--max-epochs", "40", "--cells", "adam*/bs100000")
    line = "8 of 24 points of adam-lawn/bs100000 have free_epochs >= 40 and never reach the constraint"
    assert line in run(*args).stdout.splitlines()
    assert [cell["unconstrained_points"] for cell in read(*args, "--json")["cells"]] == [0, 8]
    assert "never reach" not in run("plan", "movielens_100k").stdout


def test_a_grid_that_never_reaches_its_constraint_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = "peak_lr = [0.1]\nwarmup_epochs = [2]\nfree_epochs = [4, 5]\n"
    Path("late.toml").write_text(f'extends = "quickstart"\n[optimizers.adam-lawn]\n{grid}')
    all_late, one_late = (("late.toml", "--cells", "*/bs64", "--max-epochs", epochs) for epochs in ("4", "5"))
    warning = "warning: no point of late/adam-lawn/bs64 ever reaches its constraint: every free_epochs is >= 4"
    planned, other = run("plan", *all_late).stdout, run("plan", *one_late).stdout
    assert planned.count("warning:") == planned.count(warning) == 1
    assert "points of adam-lawn" not in planned
    assert "1 of 2 points of adam-lawn/bs64 have free_epochs >= 5" in other
    assert "warning:" not in other
    monkeypatch.setattr(lawn_tune.cli.launch, "run_launch", lambda *args, **options: 0)
    assert warning in run("launch", *all_late, "--quiet").stderr
    assert "warning:" not in run("launch", *one_late, "--quiet").stderr


def test_plan_knows_the_levels_that_launches_added() -> None:
    with open_ledger("sqlite:///mine.db") as real:
        real.register([QUICKSTART[0].extended({"peak_lr": (0.5,)}), *QUICKSTART[1:]])
    args = ("plan", "quickstart", "--storage", "sqlite:///mine.db")
    before, after = (read(*some, "--json")["cells"][0] for some in (args[:2], args))
    assert after["added_levels"] == {"peak_lr": [0.5]}
    rates = len(QUICKSTART[0].grid.values["peak_lr"])
    assert after["points"] * rates == before["points"] * (rates + 1)
    line = "adam/bs64: launch --extend added peak_lr 0.5 to the grid; no winner yet"
    assert {line, STAY} <= set(run(*args).stdout.splitlines())


def test_plan_counts_equal_trials_of_other_spaces(tmp_path: Path) -> None:
    source = find_space("quickstart").source
    (tmp_path / "mine.toml").write_text(source.read_text())
    cell = QUICKSTART[0]
    with open_ledger("sqlite:///lawn-tune.db") as real:
        real.register(QUICKSTART)
        (pack, *_) = real.record_packs(cell.name, "search", [cell.search_trials])
        pack = real.begin(pack, cell.search_trials)
        real.fail(pack, "odd")
    counts = [read("plan", space, "--json")["cells"][0]["ledger"] for space in ("quickstart", "mine.toml")]
    assert counts[0] == counts[1]
    assert counts[0]["failed"] == 9


@pytest.mark.parametrize("name", ["mine", "mine.py"])
def test_a_name_without_the_ending_of_its_file_is_corrected(name: str) -> None:
    Path("mine.toml").write_text("")
    assert f"there is no built-in space '{name}'. Did you mean 'mine.toml'? Give one of" in run("plan", name).stderr
    assert "there is no built-in space ''. Give one of" in run("plan", "").stderr


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["plan"], ["plan takes either spaces or --all", "quickstart"]),
        (["plan", "--all", "digits"], ["plan takes either spaces or --all"]),
        (["plan", "nothing"], ["there is no built-in space 'nothing'. Give one of digits,", "quickstart"]),
        (["plan", "my/space.toml"], ["my/space.toml: cannot be read: No such file"]),
        (["plan", "digits", "digits"], ["every space needs a name of its own"]),
        (["plan", "digits", "--cells", "adam"], ["--cells 'adam' matches no cell of: digits/sgd/bs32", "hint: "]),
        (
            ["plan", "digits", "--max-epochs", "0"],
            [
                "--max-epochs: must be a whole number from 1 to 999999, got '0'",
                "hint: Leave it out to use the space's epochs.",
            ],
        ),
        (["plan", "digits", "--max-epochs", "3"], ["--max-epochs 3", "optimizers.sgd.warmup_epochs has 5"]),
        (
            ["plan", "movielens_100k", "--max-epochs", "2"],
            ["shorten the warm-up in a copy of the file", "below 2 fit: "],
        ),
        (["plan", "digits", "--detect", "0"], ["--detect: must be a number of points above 0, as 0.5, got '0'"]),
        (["plan", "digits", "--detect", "nan"], ["--detect: must be a number of points above 0, as 0.5, got 'nan'"]),
        (
            ["plan", "digits", "--seeds", "0"],
            [
                "--seeds: must be a whole number from 1 to 999999, got '0'",
                "hint: Leave it out to use the space's seeds.",
            ],
        ),
        (
            ["plan", "digits", "--workers", "0"],
            ["--workers: must be a whole number from 1 to 999999, got '0'", "hint: "],
        ),
        (["dashboard", "--port", "65536"], ["--port: must be a whole number from 0 to 65535, got '65536'", "hint: "]),
        (["plan", "digits", "--storage", "x.db"], ["--storage: must be a storage URL", "got 'x.db'"]),
        (["plan", "digits", "--storage", "sqlite://"], ["names no file"]),
        (["plan", "digits", "--storage", "mysql://me:pw@host/db"], ["mysql"]),
    ],
)
def test_plan_errors_are_usage_errors_without_a_traceback(args: list[str], parts: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert [part for part in parts if part not in result.stderr] == []
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    assert "pw@" not in result.output
    assert result.stdout == ""


def test_plan_tells_how_long_so_many_workers_take() -> None:
    hours = [read("plan", "digits", "--workers", n, "--json")["makespan_hours"] for n in ("1", "4", "1000")]
    one = sum(cell["hours"] for cell in read("plan", "digits", "--json")["cells"])
    assert hours[0] == pytest.approx(one)
    assert hours[0] > hours[1] > hours[2] > hours[0] / 1000
    assert "makespan_hours" not in read("plan", "digits", "--json")
    assert re.search(
        r"^from nothing on 4 such workers: about \d+ min$", run("plan", "digits", "--workers", "4").stdout, re.M
    )


def test_plan_shows_the_packs_that_a_launch_on_so_many_workers_would_train(tmp_path: Path) -> None:
    plain = read("plan", "quickstart", "--json")
    assert "order" not in plain
    for workers in (1, 8, 512):
        found = read("plan", "quickstart", "--workers", str(workers), "--json")
        placement = place(QUICKSTART, Speeds().costs(QUICKSTART), workers)
        sizes = {str(cell.name): cell.packing for cell in placement.cells}
        assert found["workers"] == workers
        assert found["busy_share"] == pytest.approx(placement.busy)
        assert found["makespan_hours"] == pytest.approx(placement.span / 3600)
        assert found["order"] == list(sizes)
        for cell in found["cells"]:
            packing = sizes[cell["cell"]]
            assert packing is not None
            assert (cell["search_pack_size"], cell["confirm_pack_size"]) == (packing.search, packing.confirm)
            assert cell["search_packs"] >= cell["search_trials"] / packing.search
        if workers == 1:
            assert found["cells"] == plain["cells"]
    shown = run("plan", "quickstart", "--workers", "512").stdout
    assert "1, 1" in shown
    assert re.search(r"^workers are busy for \d+% of it; sizes are trials per pack", shown, re.M)
    assert "sizes" not in run("plan", "quickstart").stdout


def test_plan_shows_the_packs_that_a_launch_recorded(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with open_ledger(url) as ledger:
        ledger.register(QUICKSTART)
        ledger.record_packings(place(QUICKSTART, Speeds().costs(QUICKSTART), 512).cells)
    found = read("plan", "quickstart", "--workers", "1", "--storage", url, "--json")
    assert {cell["search_pack_size"] for cell in found["cells"]} <= {1, 2}
    assert found["cells"] == read("plan", "quickstart", "--storage", url, "--json")["cells"]


def sizes(*args: str) -> list[tuple[int, int]]:
    """Returns the sizes of packs in search and confirm, a cell each."""
    cells = read("plan", "table4_movielens_100k", "--cells", "sgd/*", "--json", *args)["cells"]
    return [(cell["search_pack_size"], cell["confirm_pack_size"]) for cell in cells]


def test_plan_shows_the_packs_of_a_launch_on_gpus_whose_times_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = sizes()
    assert plain == sizes("--gpus", "0") == [(16, 3), (1, 1), (1, 1), (1, 1)]
    on_gpus = sizes("--gpus", "8")
    assert on_gpus == sizes("--gpus", "1", "--workers", "1") == [(32, 3), (32, 3), (10, 3), (2, 2)]
    spread = read("plan", "table4_movielens_100k", "--gpus", "8", "--workers", "8", "--json")
    assert all(cell["hours"] is None for cell in spread["cells"])
    assert spread["makespan_hours"] is spread["busy_share"] is None
    unknown = run("plan", "table4_movielens_100k", "--gpus", "8", "--workers", "8").stdout
    assert "on 8 such workers: unknown until measured, which a first small launch does" in unknown
    assert "busy" not in unknown
    assert any(1 < cell["search_pack_size"] < 32 for cell in spread["cells"])
    monkeypatch.setattr(build, "machine_gpus", lambda: 2)
    assert sizes() == on_gpus, "as a launch on this machine"
    shown = run("plan", "table4_movielens_100k").stdout.splitlines()
    assert lawn_tune.cli.plan.GPU_PACKS in shown
    assert lawn_tune.cli.plan_text.ON_GPUS not in shown
    assert sizes("--gpus", "0") == plain


def test_plan_shows_the_smoke_run_of_a_launch_on_gpus() -> None:
    args = ("plan", "table4_movielens_100k", "--smoke", "--json")
    on_cores, on_gpus = (
        sum(cell["search_trials"] for cell in read(*args, *more)["cells"]) for more in ((), ("--gpus", "1"))
    )
    assert on_cores < on_gpus
