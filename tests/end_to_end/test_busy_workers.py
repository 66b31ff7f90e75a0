"""A grid that fits one pack is split among the workers: real processes on a real Ray train at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from lawn_tune.ledger import open_ledger
from tests.helpers.tiny import tiny_space

SPACE = tiny_space(
    "four points",
    width=4,
    confirm=[11],
    batch_size=96,
    epochs=120,
    peak_lr=[0.003, 0.01],
    weight_decay=[0.01, 0.1],
)
LIMIT = 330
"""Seconds that a launch under Ray may take on a machine that runs other tests at the same time."""


@pytest.mark.ray
@pytest.mark.timeout(2 * LIMIT)
def test_four_points_on_two_workers_keep_both_busy(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SPACE)
    environment = os.environ | {"LAWN_TUNE_EXECUTOR": "ray", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "lawn_tune.cli.main", "launch", "tiny.toml", "--workers", "2"]
    done = subprocess.run(launch, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    with open_ledger(f"sqlite:///{tmp_path}/lawn-tune.db") as ledger:
        rows = [row for row in ledger.trials("tiny") if row.phase == "search"]
    packs = defaultdict(list)
    for row in rows:
        packs[row.pack].append(row)
        assert row.provenance["packing"] == {"trials": 2, "workers": 2}, json.dumps(row.provenance)
    assert [len(members) for members in packs.values()] == [2, 2]
    starts, ends = ([members[0].provenance[name] for members in packs.values()] for name in ("started", "ended"))
    assert max(starts) < min(ends), "both train at the same time"
