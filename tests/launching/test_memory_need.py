"""What a job asks of its machine's memory: above the real peak, 2.5 times it at most, and never a reason to wait."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lawn_tune.executors.memory_need import GIB, memory_need, step_above
from lawn_tune.executors.slots import Room, Slots, slots_on
from tests.helpers import tasks
from tests.helpers.fabricated import PICTURES, encoded, write_imagenet, write_rows
from trainables.catalogue import catalogue
from trainables.catalogue.datasets import DATASETS
from trainables.tasks import ModelConfig, PackConfig, Task, Trial, model_config
from trainables.workloads import build_workload

pytestmark = pytest.mark.long

WEIGHT_DECAY = {"peak_lr": 0.001, "warmup_epochs": 1.0, "weight_decay": 0.1}


def pack(dataset: str, model: ModelConfig, batch_size: int, size: int, seeds: int = 1) -> PackConfig:
    task = Task(
        dataset=dataset,
        model=model,
        loss=catalogue().losses_of(DATASETS[dataset])[0],
        optimizer="adam",
        batch_size=batch_size,
        epochs=1,
    )
    members = (Trial(key=str(i), seed=i % seeds, hyperparameters=WEIGHT_DECAY) for i in range(size))
    return PackConfig(task=task, members=tuple(members))


TRAIN = """
from pathlib import Path
from tests.helpers.fabricated import published
from trainables.training.trial import main
with published(Path("data")):
    main()
"""


def peak(config: PackConfig, folder: Path) -> float:
    """Bytes that a process of its own has had at most while it trained a pack, of files in `data` if it needs some."""
    (folder / "pack.json").write_text(json.dumps(config.to_dict()))
    command = [sys.executable, "-c", TRAIN, "pack.json", "--device", "cpu", "--checkpoint", "saved"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=200, env=environment)
    said = done.stdout
    found: float = json.loads(said.splitlines()[-1])[0]["summary"]["peak_memory_bytes"]
    return found


RAY = 200 * 2**20
"""What Ray adds to a worker; the need counts it, and these processes are without."""


def check(config: PackConfig, folder: Path) -> None:
    """Compares the need with the real peak."""
    found = peak(config, folder)
    assert found <= memory_need(config) <= 2.5 * (found + RAY)


@pytest.mark.parametrize(
    "config",
    [
        pack("synthetic", model_config("small-vgg", width=4), 32, 1),
        pack("digits", model_config("small-vgg", width=96), 1293, 1),
        pack("digits", model_config("small-vgg", width=32), 431, 4, seeds=4),
        pack("synthetic", model_config("vgg-19"), 96, 1),
        pack("synthetic", model_config("resnet-50"), 96, 1),
    ],
    ids=["small", "a large batch", "rows with a batch each", "VGG-19", "ResNet-50"],
)
def test_the_need_is_between_the_real_peak_and_2_5_times_it(config: PackConfig, tmp_path: Path) -> None:
    check(config, tmp_path)


@pytest.mark.parametrize(("factors", "batch_size", "size"), [(64, 100_000, 1), (64, 10_000, 4)])
def test_the_need_of_ncf_is_too(factors: int, batch_size: int, size: int, tmp_path: Path) -> None:
    """On as many users, items and ratings as MovieLens-100k has; rows of one seed share a batch."""
    draw = random.Random(0)
    (tmp_path / "data/ml-100k").mkdir(parents=True)
    known = [(1 + i % 943, 1 + i % 1682, 5, i) for i in range(2000)]  # each of them at least once
    pairs = {draw.randrange(943 * 1682) for _ in range(98_000)}
    rows = [(1 + pair // 1682, 1 + pair % 1682, 3, 2000 + i) for i, pair in enumerate(pairs)]
    write_rows(tmp_path / "data/ml-100k/u.data", list({row[:2]: row for row in (*known, *rows)}.values()))
    config = pack("movielens-100k", model_config("ncf", factors=factors), batch_size, size)
    check(config, tmp_path)


def test_the_need_of_images_in_files_counts_the_decoded_batches_that_wait(tmp_path: Path) -> None:
    """Of 2,048 images of 96x96 pixels a batch, for a model whose own numbers are few."""
    draw, count = random.Random(0), 2048
    images = [encoded(draw) for _ in range(8)]
    names = {f"{split}/{'ab'[i % 2]}/{i}.jpg": images[i % 8] for split in ("train", "val") for i in range(count + 64)}
    write_imagenet(tmp_path / "data/pictures", names)
    row = PICTURES | {"shape": {"channels": 3, "pixels": 96, "classes": 2}}
    row |= {"train_examples": count, "full_examples": count + 64}
    rows = json.dumps({"datasets": {"pictures": row}})
    task = replace(
        tasks.IMAGES, dataset="pictures", model=model_config("small-vgg", width=1), batch_size=count, rows=rows
    )
    config = PackConfig(task=task, members=(Trial(key="0", seed=0, hyperparameters=WEIGHT_DECAY),))
    check(config, tmp_path)
    assert 4 * count * 3 * 96**2 > 0.2 * GIB, "a fifth of a gigabyte waits"


SIZES = st.integers(2, 16)
IMAGES = st.sampled_from(["synthetic", "digits", "fashion-mnist"])
PACKS = st.one_of(
    st.builds(
        pack,
        IMAGES,
        st.builds(model_config, st.just("small-vgg"), width=st.integers(1, 64)),
        st.integers(2, 10_000),
        SIZES,
    ),
    st.builds(
        pack,
        st.just("movielens-100k"),
        st.builds(model_config, st.just("ncf"), factors=st.integers(1, 128)),
        st.integers(1, 400_000),
        SIZES,
    ),
)


@given(PACKS)
def test_half_a_pack_needs_no_more_than_the_whole(config: PackConfig) -> None:
    half = PackConfig(task=config.task, members=config.members[: len(config.members) // 2])
    assert memory_need(half) <= memory_need(config)
    assert memory_need(half, gpu=True) == memory_need(config, gpu=True), "rows live on the GPU"


@given(st.integers(1, 2**50))
def test_steps_are_few_and_half_too_high_at_most(need: int) -> None:
    step = step_above(need)
    assert need <= step <= max(GIB, 1.5 * need)
    assert step_above(step) == step


@pytest.mark.parametrize("name", DATASETS)
def test_every_built_in_data_set_and_model_has_its_sizes(name: str) -> None:
    row = DATASETS[name]
    assert row.resident > 0
    for model in catalogue().models_of(row):
        assert pack(name, model_config(model), 32, 1).task.footprint is not None


@given(
    st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 16), "memory": st.integers(0, 2**38)}), min_size=1),
    st.integers(1, 2**40),
)
def test_a_job_gets_a_machine_however_much_it_needs(nodes: list[Mapping[str, float]], need: int) -> None:
    room = Room(Slots(1, 1, 0.0), lambda: nodes)
    able = [node for node in nodes if node["CPU"] >= 1]
    assert room.jobs() == sum(node["CPU"] for node in able)
    asked = room.memory(need)
    assert asked <= need
    if not any(node["memory"] for node in able):
        return
    assert asked == min(need, max(node["memory"] for node in able))
    assert 1 <= room.jobs(asked) <= room.jobs()
    for node in able:
        assert room.slots.on(node, asked) * asked <= node["memory"]


def test_what_a_machine_holds_is_what_fits_its_memory_and_its_cores() -> None:
    machines = [{"CPU": 16.0, "memory": 8.0 * GIB}, {"CPU": 2.0, "memory": 64.0 * GIB}, {"memory": 512.0 * GIB}]
    room = Room(slots_on(machines), lambda: machines)
    assert room.jobs() == 18
    assert room.jobs(3 * GIB) == 2 + 2
    assert room.memory(100 * GIB) == 64 * GIB, "the head with all its memory trains nothing"
    assert room.jobs(64 * GIB) == 1


@pytest.mark.parametrize("name", ["synthetic", "digits"])
@pytest.mark.parametrize("width", [2, 16])
def test_a_footprint_counts_the_weights_that_the_model_has(name: str, width: int) -> None:
    task = pack(name, model_config("small-vgg", width=width), 32, 1).task
    model = build_workload(task, Path("nowhere"), torch.device("cpu")).build_model()
    known = task.footprint
    assert known is not None
    assert known.weights == sum(parameter.numel() for parameter in model.parameters())
    assert 0 < known.weights / 4 < known.work, "a kernel is used at every place"
