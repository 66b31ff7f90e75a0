"""A process that trains on class folders is killed within an epoch, and another one ends with the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fabricated import PICTURES, imagenet_files, write_imagenet
from tests.helpers.tasks import CPU, IMAGES, pack, point
from trainables.outcomes import EpochRecord
from trainables.tasks import PackConfig
from trainables.training.trial import PackRun, Records, Resumed

SCRIPT = """
import json, time
from pathlib import Path
import torch
from trainables.tasks import PackConfig
from trainables.training.trial import PackRun, Saved

config = PackConfig.from_dict(json.loads(Path("pack.json").read_text()))
options = {"checkpoint": Path("saved"), "checkpoint_seconds": 0.0, "pause_seconds": 0.0}
for event in PackRun(config, data_dir=Path(), device=torch.device("cpu"), **options):
    if isinstance(event, Saved):
        print("saved", flush=True)
        time.sleep(0.2)
"""


def trained(config: PackConfig, data_dir: Path, **options: Any) -> tuple[list[EpochRecord], list[float]]:
    """Records of a pack trained to its end, and the epochs from which it went on."""
    records, places = list[EpochRecord](), list[float]()
    for event in PackRun(config, data_dir=data_dir, device=CPU, **options):
        if isinstance(event, Records):
            records += event.records
        elif isinstance(event, Resumed):
            places.append(event.epoch)
    return records, places


@pytest.mark.timeout(600)
def test_a_pack_killed_within_an_epoch_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "pictures", imagenet_files(15, 3))
    rows = json.dumps({"datasets": {"pictures": PICTURES}})
    task = replace(IMAGES, dataset="pictures", optimizer="adam-lawn", batch_size=16, epochs=2, rows=rows)
    config = pack(task, [point("adam-lawn", free_epochs=free) for free in (0.5, 1.5)], [0, 1])
    (tmp_path / "pack.json").write_text(json.dumps(config.to_dict()))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        for _ in range(7):  # of five steps an epoch
            process.stdout.readline()
        process.kill()
    again, places = trained(config, tmp_path, checkpoint=tmp_path / "saved")
    assert 1 < places[0] < 2
    assert again == trained(config, tmp_path)[0]
