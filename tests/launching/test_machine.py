"""Cores and GPUs of a machine: what control groups and CUDA_VISIBLE_DEVICES leave of them."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawn_tune.cli.launch import limits_of
from lawn_tune.errors import UsageError
from lawn_tune.executors import build, machine
from lawn_tune.executors.build import machine_slots, on_gpus, planned_workers
from lawn_tune.executors.machine import cpu_limit, machine_cpus, memory, visible_gpus
from lawn_tune.settings import Settings


class Groups:
    """Control groups as Linux shows them, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.mount, self.own = folder / "cgroup", folder / "own"
        self.own.write_text("")

    def belongs_to(self, *lines: str) -> None:
        self.own.write_text("".join(f"{line}\n" for line in lines))

    def write(self, place: str, **files: str) -> None:
        (self.mount / place).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.mount / place / name.replace("__", ".")).write_text(f"{text}\n")

    def limit(self, version: int, group: str, quota: str) -> None:
        """Limits one group to a quota of microseconds in 100 ms."""
        if version == 2:
            self.write(group, cpu__max=f"{quota} 100000")
        else:
            self.write(f"cpu,cpuacct/{group}", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    """A machine of 8 cores without limits."""
    found = Groups(tmp_path)
    monkeypatch.setattr(machine, "CGROUPS", found.mount)
    monkeypatch.setattr(machine, "OWN_CGROUPS", found.own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return found


LINES = {1: ("5:memory:/other", "4:cpuset,cpu_other:/other", "3:cpu,cpuacct:/a/b", "0::/"), 2: ("0::/a/b",)}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("group", ["", "a", "a/b"])
@pytest.mark.parametrize(
    ("quota", "limit", "cores"),
    [("50000", 0.5, 1), ("100000", 1.0, 1), ("250000", 2.5, 2), ("799999", 7.99999, 7), ("1600000", 16.0, 8)],
)
def test_a_limit_of_the_own_group_or_one_above_counts_in_whole_cores(
    groups: Groups, version: int, group: str, quota: str, limit: float, cores: int
) -> None:
    groups.belongs_to(*LINES[version])
    groups.limit(version, group, quota)
    assert cpu_limit() == pytest.approx(limit)
    assert machine_cpus() == cores
    assert machine_slots(Settings(gpus=0)).count == cores, "a worker a core"


@pytest.mark.parametrize("version", [1, 2])
def test_the_lowest_limit_counts(groups: Groups, version: int) -> None:
    groups.belongs_to(*LINES[version])
    for group, quota in (("", "600000"), ("a", "300000"), ("a/b", "400000"), ("a/b/c", "100000"), ("z", "100000")):
        groups.limit(version, group, quota)
    assert machine_cpus() == 3, "groups below and beside ours do not limit it"


def test_no_limit_is_no_limit(groups: Groups) -> None:
    for lines in ((), ("nonsense",), *LINES.values()):
        groups.belongs_to(*lines)
        assert cpu_limit() == inf
    groups.limit(2, "a", "max")
    groups.limit(1, "a", "-1")
    for lines in LINES.values():
        groups.belongs_to(*lines)
        assert (cpu_limit(), machine_cpus()) == (inf, 8)
    groups.own.unlink()
    assert machine_cpus() == 8, "not Linux"


@pytest.mark.parametrize("path", ["/docker/0123", "/../../host", "/"])
def test_a_container_whose_group_has_the_path_of_its_host_is_limited(groups: Groups, path: str) -> None:
    groups.belongs_to(f"0::{path}")
    groups.write("", cpu__max="150000 100000")
    assert cpu_limit() == 1.5


def test_hybrid_groups_are_looked_at_in_both_places(groups: Groups) -> None:
    groups.belongs_to("2:cpu:/", "0::/user")
    groups.write("cpu", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    groups.write("unified/user", cpu__max="200000 100000")
    assert cpu_limit() == 2.0


@pytest.mark.parametrize(("place", "name"), [("a", "memory__max"), ("memory/a", "memory__limit_in_bytes")])
def test_memory_is_at_most_what_control_groups_allow(groups: Groups, place: str, name: str) -> None:
    groups.belongs_to("5:memory:/a/b", "0::/a/b")
    groups.write(place, **{name: "max"})
    assert memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    groups.write(place, **{name: "50000000"})
    assert memory() == 5e7


@given(st.floats(0.01, 64), st.integers(1, 64))
def test_there_is_always_a_core_and_never_more_than_allowed(limit: float, cores: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "cpu_limit", lambda: limit)
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        assert 1 <= machine_cpus() <= max(1, min(limit, cores))


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        (None, 4),
        ("", 0),
        (" ", 0),
        ("-1", 0),
        ("NoDevFiles", 0),
        ("none", 0),
        ("0", 1),
        ("3,1", 2),
        (" 0 , 2 ", 2),
        ("0,1,-1,2", 2),
        ("-1,0", 0),
        ("4", 0),
        ("0,4,1", 1),
        ("0,,1", 1),
        ("1,1", 0),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", 1),
        ("GPU-8932f937,GPU-1d8c2a1b", 2),
        ("MIG-41b3359c-e721-56e5-8009-12e5797ed514", 1),
        ("GPU-", 0),
    ],
)
def test_cuda_sees_the_gpus_before_the_first_invalid_entry(visible: str | None, count: int) -> None:
    assert visible_gpus(visible, 4) == count
    assert visible_gpus(visible, 0) == 0


@pytest.mark.parametrize(
    ("settings", "found", "expected"),
    [
        (Settings(), 0, False),
        (Settings(), 1, True),
        (Settings(gpus=0), 1, False),
        (Settings(gpus=2), 2, True),
        (Settings(gpus_per_trial=2), 0, True),
        (Settings(ray_address="auto"), 0, True),
        (Settings(ray_address="auto", gpus=0), 1, False),
    ],
)
def test_whether_a_launch_trains_on_gpus_is_known_before_it_begins(
    settings: Settings, found: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "machine_gpus", lambda: found)
    assert on_gpus(settings) == expected
    if settings.gpus_per_trial == 1:
        assert limits_of(settings, machine_slots(settings)).speeds.on_gpu == expected


def test_a_cluster_says_how_many_workers_there_are_and_on_what() -> None:
    """Nothing is packed before, even where --workers is given."""
    slots = machine_slots(Settings(workers=3))
    assert planned_workers(Settings(ray_address="auto", executor="ray"), slots) is None
    assert planned_workers(Settings(executor="ray"), slots) == 3


@pytest.mark.parametrize(("visible", "gpus"), [(None, 2), ("-1", 0), ("1", 1)])
def test_a_launch_takes_the_gpus_that_cuda_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: int
) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(machine, "NVIDIA", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = machine_slots(Settings())
    assert slots.gpus == min(gpus, 1)
    assert slots.count == (gpus or machine_cpus())


@pytest.mark.parametrize(
    ("listed", "files", "unlisted"),
    [(False, (), False), (False, ("dxg",), True), (False, ("nvidia0", "nvidiactl"), True), (True, ("nvidia0",), False)],
)
def test_gpus_that_the_driver_does_not_list_are_the_user_s_to_count(
    listed: bool, files: tuple[str, ...], unlisted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under WSL2, where --gpus says how many there are."""
    for name in files:
        (tmp_path / name).touch()
    (tmp_path / "driver").mkdir()
    monkeypatch.setattr(machine, "NVIDIA", tmp_path / ("driver" if listed else "none"))
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    assert machine.unlisted_gpus() == unlisted
    if unlisted:
        assert machine_slots(Settings(gpus=2)).gpus == 1
    else:
        with pytest.raises(UsageError, match="this machine has 0 NVIDIA GPUs"):
            machine_slots(Settings(gpus=2))
