"""A disk without room ends a launch with one error, or costs it its checkpoints; nothing else."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.drivers import Driver, Results, Study, assert_same, assert_trained_once
from tests.helpers.sufferings import eager_checkpoints, slow

StudyAt = Callable[[str], Study]


class SmallDisk:
    """A folder on a disk of 8 MB; where mounting is not permitted, an ordinary one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            while (free := os.statvfs(self.folder)).f_bavail:
                ballast.write(b"x" * free.f_bsize)

    def free(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


def fill(disk: SmallDisk, driver: Driver) -> None:
    """Leaves no room for the ledger to grow; by the limit of its driver's files where the disk is a large one."""
    if disk.mounted:
        disk.fill()
    else:
        limit = (disk.folder / "ledger.db-wal").stat().st_size
        resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (limit, limit))


def test_a_full_disk_under_the_ledger_is_one_error_and_costs_nothing(
    disk: SmallDisk, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(f"sqlite:///{disk.folder}/ledger.db")
    driver = study.start(change=slow)
    study.wait_for(lambda: study.epochs() > 20)
    fill(disk, driver)
    assert driver.end() == 3, driver.errors
    assert driver.errors.count("error: ledger") == 1
    assert ("disk is full" if disk.mounted else "disk I/O error") in driver.errors
    assert "space" in driver.errors.partition("hint: ")[2]
    assert "Traceback" not in driver.errors
    disk.free()
    study.launch()
    assert_same(study, undisturbed)
    assert_trained_once(study, but=2)


def test_a_full_disk_under_the_checkpoints_costs_the_checkpoints_only(
    disk: SmallDisk, sqlite_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(sqlite_url)
    if disk.mounted:
        disk.fill()
    else:
        (disk.folder / "checkpoints").write_text("a file, where the folder of checkpoints should be")
    driver = study.launch("--work-dir", str(disk.folder), change=eager_checkpoints)
    assert "checkpoint" in driver.errors
    assert "training goes on" in driver.errors
    assert_same(study, undisturbed)
    assert_trained_once(study)
