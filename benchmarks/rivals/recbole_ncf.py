"""Training examples per second of RecBole's trainer on NCF's MLP and of ours: one thread, one process each.

RecBole trains without evaluation, ours with it. Requires RecBole, which is not a dependency.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.measure import ratio, summary
from lawn_tune.planning.packing import EXAMPLES, MAX_SIZE
from trainables.data import check
from trainables.tasks import PackConfig, Task, Trial, model_config
from trainables.training.loop import Training
from trainables.training.process_memory import keep_freed_memory
from trainables.workloads import build_workload

SIZES = ((8, 1000), (64, 1000), (64, 100_000))
"""Factors and batch size."""
EPOCHS = 3
NEGATIVES = 4
RENAMED = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}
"""Names that RecBole 1.2.1 uses, renamed in NumPy 2."""


def run(data_dir: Path, repeats: int = 3) -> dict[str, Any]:
    """Measures every size; returns nothing if RecBole or the data is missing."""
    if not find_spec("recbole") or check("movielens-100k", data_dir).state != "ready":
        return {}
    return {f"ncf-{factors} batch {batch}": _race(factors, batch, data_dir, repeats) for factors, batch in SIZES}


def _race(factors: int, batch: int, data_dir: Path, repeats: int) -> dict[str, Any]:
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side, found in speeds.items():
            command = [sys.executable, "-m", __spec__.name, side, str(factors), str(batch), str(data_dir)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
            found.append(float(done.stdout.splitlines()[-1]))
    return {
        "examples_per_second": {side: summary(values) for side, values in speeds.items()},
        "ratio": {side: ratio(values, speeds["recbole"]) for side, values in speeds.items() if side != "recbole"},
    }


def recbole(factors: int, batch: int, data_dir: Path) -> float:
    """Returns examples per second of RecBole's NeuMF with the MLP alone, the same tower as ours."""
    for name, now in RENAMED.items():
        setattr(np, name, now)
    settings, utils, datasets = (import_module(f"recbole.{name}") for name in ("config", "utils", "data"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("ml-100k").mkdir()
        header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        rows = (data_dir / "ml-100k" / "u.data").read_text()
        Path("ml-100k/ml-100k.inter").write_text(header + rows)
        options = {
            "data_path": folder,
            "use_gpu": False,
            "epochs": 1,
            "train_batch_size": batch,
            "mf_train": False,
            "mlp_embedding_size": 2 * factors,
            "mlp_hidden_size": [2 * factors, factors],
            "dropout_prob": 0.0,
            "learning_rate": 0.003,
            "train_neg_sample_args": {"distribution": "uniform", "sample_num": NEGATIVES, "dynamic": False},
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni99"},
            "show_progress": False,
            "state": "WARNING",
        }
        config = settings.Config(model="NeuMF", dataset="ml-100k", config_dict=options)
        utils.init_seed(0, True)
        train = datasets.data_preparation(config, datasets.create_dataset(config))[0]
        model = utils.get_model("NeuMF")(config, train.dataset)
        trainer = utils.get_trainer(config["MODEL_TYPE"], "NeuMF")(config, model)
        seconds = _epoch_seconds(lambda: trainer.fit(train, verbose=False, saved=False))
        os.chdir(data_dir)
    return len(train.dataset) * (1 + NEGATIVES) / seconds


def solo(factors: int, batch: int, data_dir: Path) -> float:
    """Returns examples per second of one of our trials alone."""
    return _ours(factors, batch, data_dir, members=1)


def pack(factors: int, batch: int, data_dir: Path) -> float:
    """Returns examples per second of a pack of the planned size, over all its trials."""
    return _ours(factors, batch, data_dir, members=min(max(EXAMPLES // batch, 1), MAX_SIZE))


SIDES: Mapping[str, Callable[[int, int, Path], float]] = {"recbole": recbole, "solo": solo, "pack": pack}


def _ours(factors: int, batch: int, data_dir: Path, members: int) -> float:
    keep_freed_memory()
    model = model_config("ncf", factors=factors, init="xavier")
    task = Task(dataset="movielens-100k", model=model, loss="bce", optimizer="adam", batch_size=batch, epochs=1000)
    points = [{"peak_lr": 0.003, "warmup_epochs": 1.0, "weight_decay": 0.01 * (1 + i)} for i in range(members)]
    trials = tuple(Trial(key=str(i), seed=0, hyperparameters=point) for i, point in enumerate(points))
    cpu = torch.device("cpu")
    workload = build_workload(task, data_dir, cpu)
    training = Training(PackConfig(task=task, members=trials), workload, cpu)
    return members * workload.examples / _epoch_seconds(training.run_epoch)


def _epoch_seconds(epoch: Callable[[], object]) -> float:
    """Returns the median seconds of an epoch after a first one."""
    epoch()
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def main() -> None:
    """Prints examples per second, as the last line; arguments: side, factors, batch size, data folder."""
    torch.set_num_threads(1)
    side, factors, batch, data_dir = sys.argv[1:]
    print(SIDES[side](int(factors), int(batch), Path(data_dir).resolve()))


if __name__ == "__main__":
    main()
