"""Checkpoints outlive machines and never stop a training: folders, pyarrow's file systems, places that refuse them."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from lawn_tune.executors.base import Job
from lawn_tune.executors.checkpoints import Folder, Store, open_store, shared_token
from tests.helpers.jobs import a_job, curve, place, run, settings
from trainables import data
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.rows import Dataset

__all__ = ["place"]


def test_another_worker_goes_on_where_the_first_one_was_stopped(place: str) -> None:
    whole = run(a_job(), settings("/dev/null/never"))
    assert run(a_job(), settings(place), stop_after=2)[-1]["reason"] == "stopped"
    said = run(a_job(), settings(place))
    assert said[-1]["kind"] == "finished"
    assert said[-1]["provenance"]["resumed from epoch"] == 2
    assert "resumed from epoch" not in whole[-1]["provenance"]
    assert curve(said) == curve(whole)
    store = settings(place).checkpoints
    with store.open("p") as file:
        assert file.exists()
    for _ in range(2):
        store.remove("p")
    with store.open("p") as file:
        assert not file.exists()


@contextmanager
def broken_read(self: Store, pack: str) -> Iterator[Path]:
    raise OSError("ACCESS DENIED")
    yield


def broken_write(self: Store, pack: str, file: Path) -> None:
    raise OSError("NO SPACE LEFT")


@pytest.mark.parametrize(
    ("method", "replacement", "reason"),
    [("open", broken_read, "ACCESS DENIED"), ("keep", broken_write, "NO SPACE LEFT")],
)
def test_a_place_that_refuses_checkpoints_is_told_once_and_training_goes_on(
    method: str, replacement: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, method, replacement)
    said = run(a_job(), settings(str(tmp_path)))
    assert said[-1]["kind"] == "finished"
    (warning,) = [text for message in said for text in message.get("warnings", ())]
    assert warning.startswith(f"no checkpoint can be kept in {tmp_path} from ")
    assert reason in warning
    assert "training goes on" in warning


def test_a_folder_that_cannot_be_made_is_told_once_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = run(a_job(), settings(str(tmp_path / "file" / "checkpoints")))
    assert said[-1]["kind"] == "finished"
    assert sum(len(message.get("warnings", ())) for message in said) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_workers_tell_when_they_see_another_folder_than_the_launch(tmp_path: Path) -> None:
    with shared_token(str(tmp_path / "shared")) as token:
        seen = run(a_job(), settings(str(tmp_path / "shared"), token=token))
        unseen = run(a_job(), settings(str(tmp_path / "other"), token=token))
    assert not [message for message in seen if message.get("warnings")]
    (warning,) = [text for message in unseen for text in message.get("warnings", ())]
    assert "is not the folder that the launch sees" in warning
    assert not [path for path in (tmp_path / "shared").iterdir() if path.suffix != ".safetensors"]
    with shared_token("s3://bucket/prefix") as none:
        assert none == ""


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/x", "http://host/x", "C://x"])
def test_urls_with_keys_or_of_no_store_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ValueError, match=r"^a (URL without keys|folder, or a URL)") as refused:
        open_store(url)
    assert "secret" not in str(refused.value)


def test_a_machine_without_the_data_says_so_or_fetches_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = replace(a_job().config.task, dataset="fashion-mnist")
    job = Job(pack="p", config=replace(a_job().config, task=wanted))
    here = replace(settings(str(tmp_path)), data_dir=str(tmp_path / "data"))
    failed = run(job, here)[-1]
    assert (failed["kind"], failed["reason"]) == ("failed", "data")
    assert failed["error"].startswith(f"{socket.gethostname()}: data set 'fashion-mnist' is not in {tmp_path}/data")
    assert f"lawn-tune data fetch fashion-mnist --data-dir {tmp_path}/data" in failed["error"]
    asked = []

    def fetch(name: str, data_dir: Path, **options: Any) -> None:
        asked.append(name)
        for file in DATASETS[name].files:
            (data_dir / file.path).parent.mkdir(parents=True, exist_ok=True)
            (data_dir / file.path).touch()

    monkeypatch.setattr(data, "fetch", fetch)
    empty = tuple(replace(file, sha256=hashlib.sha256().hexdigest()) for file in DATASETS["fashion-mnist"].files)
    row = replace(DATASETS["fashion-mnist"], files=empty)
    monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), "fashion-mnist", row)
    for _ in range(2):
        assert run(job, replace(here, fetch_data=True))[-1]["kind"] == "failed", "the files cannot be read"
    assert asked == ["fashion-mnist"]
