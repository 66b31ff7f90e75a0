"""A smoke run sees what a study will see, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sqlalchemy import text
from torch import Tensor
from typer.testing import CliRunner, Result

import lawn_tune.ledger.temporary
from lawn_tune.cli.main import app
from lawn_tune.errors import LedgerError
from lawn_tune.executors.base import Failed, Job, Nothing, Progress
from lawn_tune.launching.smoke import SmokeAgenda
from lawn_tune.ledger import open_ledger
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.temporary import PREFIX, in_schema, temporary_ledger
from lawn_tune.planning.packing import largest_packs, make_packs
from lawn_tune.planning.plan import plan
from lawn_tune.planning.smoke import EPOCHS, POINTS, STEPS, smoke_cells
from lawn_tune.planning.spaces import builtin_spaces, find_space
from lawn_tune.settings import SETTINGS
from lawn_tune.storage import StorageUrl
from search_spaces.loader import load_space
from tests.helpers.fakes import record
from tests.helpers.tiny import TWO_CELLS
from trainables.data import DataError
from trainables.tasks import PackConfig, Trial
from trainables.training.rows import switch_step
from trainables.workloads import build_workload

BUILT_IN = [cell for name in builtin_spaces() for cell in plan(find_space(name))]
PAIRS = list(zip(BUILT_IN, smoke_cells(BUILT_IN), strict=True))


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A space of two cells in the current folder, with nothing else in it and no setting from outside."""
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    file = tmp_path / "tiny.toml"
    file.write_text(TWO_CELLS)
    return file


COMMAND = ("launch", "tiny.toml", "--smoke")


def launch(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*COMMAND, *arguments, "--executor", "inline"])


def launch_one(*arguments: str) -> Result:
    """The same with one of the two cells, which takes half the time."""
    return launch("--cells", "adam/bs64", *arguments)


# --- what is trained --------------------------------------------------------------------------------------------------


def test_a_smoke_cell_is_its_cell_for_a_few_steps() -> None:
    for cell, smoke in PAIRS:
        assert smoke.task == replace(cell.task, epochs=EPOCHS, steps=STEPS)
        assert min(cell.grid.size, POINTS) <= smoke.grid.size <= 16, cell.name
        for name, levels in smoke.grid.values.items():
            if name not in ("warmup_epochs", cell.method.switch):
                known = cell.kept[name].levels if name in cell.kept else cell.grid.values[name]
                assert set(levels) <= set(known), cell.name
        for phase in ("search", "confirm"):
            sizes = [max(map(len, make_packs(each, phase, each.planned_trials(phase)))) for each in (cell, smoke)]
            assert sizes[1] >= sizes[0], f"packs of {cell.name} take the memory of the study's"
        assert len(smoke.search_trials) == smoke.grid.size, cell.name
        keys, studied = ({trial.key for trial in each.search_trials} for each in (smoke, cell))
        assert not keys & studied, cell.name


def test_a_smoke_run_on_gpus_has_packs_of_their_size() -> None:
    for cell, smoke in zip(BUILT_IN, smoke_cells(BUILT_IN, on_gpu=True), strict=True):
        studied, tried = (largest_packs(each, on_gpu=True) for each in (cell, smoke))
        for phase in ("search", "confirm"):
            sizes = [max(map(len, make_packs(each, phase, each.planned_trials(phase)))) for each in (studied, tried)]
            assert sizes[1] >= sizes[0], f"packs of {cell.name} take the memory of the study's"


def test_its_schedule_is_scaled() -> None:
    for cell, smoke in PAIRS:
        steps = min(STEPS, -(-cell.task.examples // cell.task.batch_size))
        assert max(smoke.grid.values["warmup_epochs"]) < EPOCHS, cell.name
        if cell.method.switch is None:
            continue
        levels = sorted(cell.grid.values[cell.method.switch])
        for level, scaled in zip(levels, smoke.grid.values[cell.method.switch], strict=False):
            step = switch_step(scaled, steps, steps * EPOCHS)
            assert (step == 0) == (level == 0), cell.name
            assert (step is None) == (level >= cell.protocol.full_epochs), cell.name


def test_keys_of_whole_epochs_do_not_know_of_smoke_runs() -> None:
    task = BUILT_IN[0].task
    assert "steps" not in task.to_dict()
    short = replace(task, steps=STEPS)
    assert type(task).from_dict(short.to_dict()) == short


def test_a_short_workload_has_the_batches_and_calls_of_the_whole_one(tmp_path: Path) -> None:
    task = replace(plan(find_space("quickstart"))[0].task, dataset="synthetic", batch_size=64)
    device = torch.device("cpu")
    whole, short = (build_workload(replace(task, steps=steps), tmp_path, device) for steps in (0, 2))
    assert (whole.examples, short.examples) == (192, 128)
    batches = [
        [part.inputs[0] for step in each.batches([torch.Generator().manual_seed(1)], 64) for part in step]
        for each in (whole, short)
    ]
    assert len(batches[1]) == 2
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=False))
    calls: list[int] = []

    def predict(images: Tensor) -> Tensor:
        calls.append(len(images))
        return torch.zeros(3, len(images), 10)

    short._whole.examples_per_call = whole.examples_per_call = 48  # type: ignore[attr-defined]
    found, expected = short.evaluate(predict, "test"), whole.evaluate(predict, "test")
    assert calls == [48, 48, 16]  # one of the short one, then all of the whole one
    assert found.hits.shape == expected.hits.shape


# --- the agenda -------------------------------------------------------------------------------------------------------


class Script:
    """A launch of one pack that is done when a job ended."""

    def __init__(self) -> None:
        task = replace(smoke_cells(BUILT_IN[:1])[0].task)
        self.job = Job(pack="p", config=PackConfig(task=task, members=(Trial(key="0" * 16, seed=0),)))
        self.jobs, self.events, self.stopping = [self.job], [], False  # type: ignore[var-annotated]

    def next_job(self) -> Job | Nothing:
        if self.jobs:
            return self.jobs.pop()
        return Nothing.EVER if any(isinstance(event, Failed) for event in self.events) else Nothing.NOW

    def handle(self, event: object) -> None:
        self.events.append(event)

    def wanted(self, job: Job) -> bool:
        return True


def interrupted() -> tuple[Script, SmokeAgenda]:
    script = Script()
    agenda = SmokeAgenda(script, lambda pack: None, lambda text: None)
    job = agenda.next_job()
    assert isinstance(job, Job)
    assert agenda.wanted(job)
    agenda.handle(Progress(job, [record(job, 1)]))
    assert not agenda.wanted(job)
    agenda.handle(Failed(job, "stopped", "stopped after epoch 2 of 3"))
    return script, agenda


def test_an_interrupted_pack_is_begun_again_and_the_launch_does_not_know() -> None:
    script, agenda = interrupted()
    again = agenda.next_job()
    assert again is script.job
    assert agenda.wanted(script.job)
    agenda.handle(Progress(script.job, [record(script.job, 2)]))
    assert agenda.wanted(script.job), "once is enough"
    assert not any(isinstance(event, Failed) for event in script.events)


@pytest.mark.parametrize("epochs", [(), (EPOCHS,), (1, EPOCHS)])
def test_a_pack_without_an_epoch_or_with_its_last_one_is_not_interrupted(epochs: tuple[int, ...]) -> None:
    agenda = SmokeAgenda(script := Script(), lambda pack: None, lambda text: None)
    agenda.handle(Progress(script.job, [record(script.job, epoch) for epoch in epochs]))
    assert agenda.wanted(script.job)
    assert not agenda.seen.interrupted


def test_a_smoke_run_that_is_stopped_ends_though_a_pack_is_interrupted() -> None:
    script, agenda = interrupted()
    script.stopping = True
    assert agenda.next_job() is Nothing.EVER


# --- the command ------------------------------------------------------------------------------------------------------


def lines(result: Result) -> dict[str, str]:
    """The checks of a smoke run: name → state."""
    return {name: state for state, name in re.findall(r"^(ok|warn|fail) +([a-z]+): ", result.stdout, re.MULTILINE)}


def tables(url: str) -> set[str]:
    with closing(Database(url)) as database, database.reading() as connection:
        found = connection.execute(text("SELECT schemaname || '.' || tablename FROM pg_tables")).scalars()
        return {name for name in found if not name.startswith(("pg_", "information_schema"))}


@contextmanager
def untouched(url: str, folder: Path) -> Iterator[None]:
    """Around what may neither change a ledger nor leave anything next to it."""
    server = url.startswith("postgresql")
    look: Callable[[], object] = (
        (lambda: tables(url)) if server else (lambda: {path.name: path.stat().st_size for path in folder.iterdir()})
    )
    (folder / ".lawn-tune").mkdir(exist_ok=True)
    before = look()
    yield
    assert look() == before


def test_a_smoke_run_checks_everything_and_leaves_nothing(space: Path, ledger_url: str, tmp_path: Path) -> None:
    with untouched(ledger_url, tmp_path):
        result = launch("--storage", ledger_url, "--max-epochs", "1")
    assert result.exit_code == 0, result.output
    names = ("data", "ledger", "devices", "memory", "checkpoints", "training")
    assert lines(result) == dict.fromkeys(names, "ok")
    assert "an interrupted pack continued from" in result.stdout
    assert "2 cells, 6 search + 4 confirm trials" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("exit code 0")
    assert "accuracy" not in result.output, "values of a few steps mean nothing"
    for cell, trials in (("adam/bs64", 3), ("adam-lawn/bs64", 3)):
        assert re.search(rf"^{cell} search, \d trials: trained$", result.stderr, re.MULTILINE), trials
    assert not list((tmp_path / ".lawn-tune/checkpoints").iterdir())


def test_a_study_that_is_trained_already_is_not_looked_at(space: Path, sqlite_url: str) -> None:
    cells = smoke_cells(plan(load_space(space)))
    with open_ledger(sqlite_url) as ledger:
        ledger.register(cells)
    before = (space.parent / "ledger.db").read_bytes()
    assert launch_one("--storage", sqlite_url).exit_code == 0
    assert (space.parent / "ledger.db").read_bytes() == before


def test_places_of_checkpoints_that_cannot_be_written_fail_the_smoke_run(space: Path) -> None:
    (space.parent / "full").write_text("a file where a folder is expected")
    result = launch_one("--checkpoints", str(space.parent / "full"))
    assert result.exit_code == 5
    assert lines(result)["checkpoints"] == "fail"
    assert "an interrupted pack did not continue from" in result.stdout
    assert "by --checkpoints" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("exit code 5")


def test_missing_data_fails_the_smoke_run_with_the_command_that_fetches_it(space: Path) -> None:
    result = CliRunner().invoke(app, ["launch", "movielens_100k", "--smoke", "--cells", "adam/bs1000"])
    assert result.exit_code == 4
    assert lines(result) == {"data": "fail"}
    assert "smoke run: 1 check failed" in result.stdout
    assert "lawn-tune data fetch" in result.stdout


def test_data_that_a_worker_lacks_fails_the_smoke_run_as_missing_data_does(
    space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: object) -> None:
        raise DataError("synthetic.npz is not on this machine")

    monkeypatch.setattr("trainables.training.trial.resident_workload", build)
    result = launch_one()
    assert result.exit_code == 4
    assert lines(result) == {"data": "fail"}
    assert "smoke run: 1 check failed" in result.stdout
    assert "synthetic.npz is not on this machine" in result.stdout


def test_packs_that_break_fail_the_smoke_run_with_the_reason(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise RuntimeError("the driver of this device is too old")

    monkeypatch.setattr("trainables.training.loop.Training.steps", broken)
    result = launch_one()
    assert result.exit_code == 5
    assert lines(result) == {"training": "fail"}
    assert "adam/bs64, 3 trials: RuntimeError: the driver of this device is too old" in result.stdout
    assert not list(space.parent.glob(f"{PREFIX}*"))


def test_packs_that_do_not_fit_are_a_warning_and_are_trained_as_halves(
    space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.training.trial import PackRun

    train = PackRun.__iter__

    def small(run: PackRun) -> Iterator[object]:
        if len(run.config.members) > 2:
            raise torch.OutOfMemoryError("3 do not fit")
        yield from train(run)

    monkeypatch.setattr(PackRun, "__iter__", small)
    result = launch_one()
    assert result.exit_code == 0, result.output
    assert lines(result)["memory"] == "warn"
    assert "adam/bs64, 3 trials: cpu memory: 3 do not fit" in result.stdout


def test_a_ledger_that_cannot_be_made_fails_the_smoke_run(space: Path) -> None:
    result = launch("--storage", "sqlite:///nowhere/ledger.db")
    assert result.exit_code == 3
    assert lines(result) == {"ledger": "fail"}
    assert "mkdir -p" in result.stdout


def test_plan_shows_what_a_smoke_run_trains(space: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "tiny.toml", "--smoke", "--max-epochs", "1"])
    assert result.exit_code == 0, result.output
    assert "2 cells, 6 search + 4 confirm trials" in result.stdout
    assert "a smoke run has a ledger of its own" in result.stdout


def test_a_cap_within_the_warm_up_points_to_the_smoke_run(space: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "tiny.toml", "--max-epochs", "1"])
    assert result.exit_code == 2
    assert "use --smoke, which scales the schedule" in " ".join(result.output.split())


@pytest.mark.long
@pytest.mark.ray
def test_a_smoke_run_checks_everything_under_ray(space: Path) -> None:
    result = CliRunner().invoke(app, [*COMMAND, "--cells", "adam/bs64", "--executor", "ray", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert set(lines(result).values()) == {"ok"}
    assert "an interrupted pack continued from" in result.stdout


# --- its ledger -------------------------------------------------------------------------------------------------------


def test_a_temporary_ledger_is_removed_whatever_happens(ledger_url: str, tmp_path: Path) -> None:
    def break_off() -> None:
        with temporary_ledger(ledger_url) as own, open_ledger(own) as ledger:
            ledger.register(BUILT_IN[:1])
            assert ledger.spaces()
            raise ZeroDivisionError

    with untouched(ledger_url, tmp_path), pytest.raises(ZeroDivisionError):
        break_off()


def test_a_pooler_that_drops_the_schema_is_noticed_before_anything_is_written(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lawn_tune.ledger.temporary, "in_schema", lambda url, name: url)
    before = tables(postgres_url)
    with pytest.raises(LedgerError, match="uses schema public") as caught, temporary_ledger(postgres_url):
        pass
    assert "pooler" in str(caught.value.hint)
    assert tables(postgres_url) == before


@pytest.mark.parametrize("query", ["", "?host=/tmp", "?options=-cwork_mem%3D8MB&host=/tmp", "?sslcert=&host=/tmp"])
def test_a_url_in_a_schema_keeps_its_options(query: str) -> None:
    url = f"postgresql://me@db/x{query}"
    given, found = StorageUrl.parse(url), StorageUrl.parse(in_schema(url, "own"))
    before, after = dict(given.options), dict(found.options)
    assert after.pop("options") == f"{before.pop('options', '')} -csearch_path=own".strip()
    assert after == before
    assert (found.host, found.user, found.database) == (given.host, given.user, given.database)
