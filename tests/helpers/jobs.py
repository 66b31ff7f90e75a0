"""One small job, run by a worker in this process, and places that keep its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from lawn_tune.executors import checkpoints
from lawn_tune.executors.base import Job
from lawn_tune.executors.checkpoints import Folder, Remote
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.worker import work
from trainables.tasks import PackConfig, Task, Trial, model_config


def a_job(epochs: int = 4) -> Job:
    model = model_config("small-vgg", width=2)
    task = Task(dataset="synthetic", model=model, loss="cross-entropy", optimizer="adam", batch_size=96, epochs=epochs)
    point = {"peak_lr": 0.01, "warmup_epochs": 1.0, "weight_decay": 0.1}
    return Job(pack="p", config=PackConfig(task=task, members=(Trial(key="k", seed=0, hyperparameters=point),)))


class Tree(Remote):
    """A remote store whose file system is a folder seen through pyarrow."""

    def _at(self, pack: str) -> tuple[Any, str]:
        return SubTreeFileSystem(self.url, LocalFileSystem()), f"prefix/{pack}.safetensors"


@pytest.fixture(params=["folder", "file URL", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of checkpoints of each kind."""
    if request.param == "remote":
        monkeypatch.setattr(
            checkpoints, "open_store", lambda url: Tree(url) if url == str(tmp_path) else Folder(Path(url))
        )
    return {"file URL": (tmp_path / "a b").as_uri()}.get(request.param, str(tmp_path))


def settings(place: str, **values: Any) -> WorkerSettings:
    return WorkerSettings(data_dir="nowhere", checkpoint_dir=place, checkpoint_seconds=0.0, **values)


def run(job: Job, with_settings: WorkerSettings, stop_after: int | None = None) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    epochs = iter(range(1, 1000))
    work(job, with_settings, said.append, lambda: stop_after is not None and next(epochs) >= stop_after)
    return said


def curve(said: list[dict[str, Any]]) -> dict[int, Any]:
    return {record["epoch"]: record["series"] for message in said for record in message.get("records", ())}
