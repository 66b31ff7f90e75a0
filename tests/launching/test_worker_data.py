"""What a worker does with the data of its machine: verifies it, repairs it if allowed, and says what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.executors.base import Job
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.ledger import open_ledger
from lawn_tune.results import UTILIZATION
from tests.helpers.fabricated import published, write_movielens
from tests.helpers.jobs import a_job, run
from trainables import data
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.losses import REFERENCES
from trainables.tasks import model_config
from trainables.training.trial import resident_workload

SPACE = """
description = "one point a method"
dataset = "movielens-100k"
loss = "bce"
metric = "hr@10"
seeds = {search = [0], confirm = [1]}
budgets = [{batch_size = 1000, epochs = 1}]

[model]
name = "ncf"
factors = 2

[optimizers.adam]
peak_lr = [0.01]
warmup_epochs = [0.5]
weight_decay = [0.1]
"""
INLINE = ("--executor", "inline", "--gpus", "0")


@pytest.fixture
def ratings(tmp_path: Path) -> Iterator[Path]:
    """The file of ratings, which is the published one."""
    resident_workload.cache_clear()
    write_movielens(tmp_path / "data" / "ml-100k")
    with published(tmp_path / "data"):
        yield tmp_path / "data" / "ml-100k" / "u.data"
    resident_workload.cache_clear()


@pytest.fixture
def fetched(ratings: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The data sets that were downloaded."""
    whole, names = ratings.read_bytes(), list[str]()

    def fetch(name: str, *_: object, **__: object) -> None:
        names.append(name)
        ratings.write_bytes(whole)

    monkeypatch.setattr(data, "fetch", fetch)
    return names


def job() -> Job:
    task = a_job().config.task
    task = replace(task, dataset="movielens-100k", model=model_config("ncf", factors=2), loss="bce", epochs=1)
    member = replace(
        a_job().config.members[0], hyperparameters={"peak_lr": 0.01, "warmup_epochs": 0.5, "weight_decay": 0.1}
    )
    return Job(pack="p", config=replace(a_job().config, task=task, members=(member,)))


def settings(ratings: Path, fetch_data: bool = False) -> WorkerSettings:
    checkpoints = str(ratings.parents[2] / "checkpoints")
    return WorkerSettings(data_dir=str(ratings.parents[1]), checkpoint_dir=checkpoints, fetch_data=fetch_data)


def test_damaged_data_ends_a_job_and_is_fetched_where_that_is_allowed(ratings: Path, fetched: list[str]) -> None:
    whole = ratings.read_bytes()
    ratings.write_bytes(whole[: len(whole) // 2])
    failed = run(job(), settings(ratings))[-1]
    assert (failed["kind"], failed["reason"]) == ("failed", "data")
    assert "'movielens-100k' is damaged" in failed["error"]
    assert fetched == []
    messages = run(job(), settings(ratings, fetch_data=True))
    assert messages[-1]["kind"] == "finished"
    assert fetched == ["movielens-100k"]
    assert any("'movielens-100k' was fetched" in note for message in messages for note in message.get("notes", ()))


def test_the_digest_of_the_data_is_in_the_provenance_and_in_no_key(ratings: Path, fetched: list[str]) -> None:
    messages = run(job(), settings(ratings, fetch_data=True))
    assert messages[-1]["provenance"]["data sha256"] == DATASETS["movielens-100k"].digest
    assert 0 < messages[-1]["provenance"][UTILIZATION] <= 1
    assert fetched == []
    assert "data sha256" not in run(a_job(epochs=1), settings(ratings))[-1]["provenance"], "it is generated"


def test_what_needs_no_training_is_in_the_provenance(ratings: Path, fetched: list[str]) -> None:
    found = run(job(), settings(ratings))[-1]["provenance"]["references"]
    workload = resident_workload(job().config.task, ratings.parents[1], torch.device("cpu"))
    assert found == workload.references()
    assert found.keys() == REFERENCES.keys()
    assert found["itempop"].keys() == set(DATASETS["movielens-100k"].metrics)
    assert "references" not in run(a_job(epochs=1), settings(ratings))[-1]["provenance"], "digits have none"


def test_data_is_verified_once_for_all_packs_in_a_row(
    ratings: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[[Path], bytes] = Path.read_bytes
    paths = list[Path]()

    def counted(path: Path) -> bytes:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    for _ in range(2):
        assert run(job(), settings(ratings, fetch_data=True))[-1]["kind"] == "finished"
    assert paths.count(ratings) == 1


@pytest.mark.parametrize("way", ["variable", "flag", "neither"])
def test_no_launch_trains_on_half_of_the_data(way: str, ratings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download fails as well: nothing answers at the address."""
    monkeypatch.chdir(ratings.parents[2])
    (file,) = DATASETS["movielens-100k"].files
    row = replace(DATASETS["movielens-100k"], files=(replace(file, url="http://127.0.0.1:9/ml-100k.zip"),))
    monkeypatch.setitem(DATASETS, "movielens-100k", row)
    whole = ratings.read_bytes()
    Path("half.toml").write_text(SPACE)
    command = ["launch", "half.toml", *INLINE, *(["--fetch-data"] if way == "flag" else [])]
    environ = {"LAWN_TUNE_FETCH_DATA": "1"} if way == "variable" else {}
    ratings.write_bytes(whole[: len(whole) // 2])
    refused = CliRunner().invoke(app, command, env=environ)
    assert refused.exit_code == (4 if way == "neither" else 5), refused.output
    assert "movielens-100k" in refused.output
    ratings.write_bytes(whole)
    assert CliRunner().invoke(app, command, env=environ).exit_code == 0
    with open_ledger("sqlite:///lawn-tune.db", create=False) as ledger:
        rows = ledger.trials("half")
    assert {row.provenance["data sha256"] for row in rows} == {DATASETS["movielens-100k"].digest}
    assert {row.outcome for row in rows} == {"complete"}
