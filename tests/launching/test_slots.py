"""How a cluster is divided: no job larger than a machine, none beyond what is asked for; room follows machines."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lawn_tune.executors.slots import Room, slots_of, slots_on
from trainables.tasks import RANKS

MACHINES = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 64).map(float), "GPU": st.integers(0, 8).map(float)}),
    min_size=1,
    max_size=5,
)


@given(MACHINES, st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 16), st.sampled_from(RANKS))
def test_jobs_of_several_gpus_are_whole_on_one_machine(
    nodes: list[Mapping[str, float]], workers: int | None, gpus: int, per_trial: int
) -> None:
    assume(per_trial > 1)
    slots = slots_on(nodes, workers, gpus, per_trial)
    assert slots.gpus == per_trial
    assert workers or slots.count * per_trial <= max(gpus, per_trial)
    assert slots.on_gpus(gpus) == gpus // per_trial
    able = [node for node in nodes if node["GPU"] >= per_trial and node["CPU"] >= node["GPU"] // per_trial]
    assert all(slots.on(node) == node["GPU"] // per_trial for node in able if len(able) == len(nodes))


@given(MACHINES, st.one_of(st.none(), st.integers(1, 40)), st.one_of(st.none(), st.integers(0, 16)))
def test_a_job_fits_on_a_machine_of_the_cluster(
    nodes: list[Mapping[str, float]], workers: int | None, gpus: int | None
) -> None:
    slots = slots_on(nodes, workers, gpus)
    used = sum(node["GPU"] for node in nodes) if gpus is None else gpus
    assert (slots.gpus > 0) == (used > 0)
    if used:
        assume(all(node["CPU"] >= node["GPU"] / slots.gpus for node in nodes if node["GPU"]))
        assert all(slots.on(node) == round(node["GPU"] / slots.gpus) for node in nodes if node["GPU"])
    else:
        assume(sum(node["CPU"] for node in nodes) >= (workers or 1))
        assert sum(slots.on(node) for node in nodes) >= (workers or 1)


@given(st.one_of(st.none(), st.integers(1, 64)), st.integers(1, 64), st.integers(0, 16), st.sampled_from(RANKS))
def test_a_cluster_of_one_machine_is_divided_as_the_machine_is(
    workers: int | None, cpus: int, gpus: int, per_trial: int
) -> None:
    alone = slots_of(workers, cpus, gpus, per_trial)
    cluster = slots_on([{"CPU": cpus, "GPU": gpus}], workers, gpus, per_trial)
    assert (cluster.count, cluster.gpus) == (alone.count, alone.gpus)
    if not gpus and per_trial == 1:
        assert cluster.cpus == alone.cpus


def test_a_head_that_trains_nothing_takes_no_job_and_lowers_nobody() -> None:
    head, worker = {"memory": 1e9}, {"CPU": 16.0, "GPU": 4.0}
    slots = slots_on([head, worker, worker])
    assert (slots.count, slots.cpus, slots.gpus) == (8, 4, 1.0)
    assert [slots.on(node) for node in (head, worker)] == [0, 4]


def test_room_follows_machines_that_join_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "ASK", 0.0)
    worker = {"CPU": 4.0, "GPU": 2.0}
    nodes = [worker]
    slots = slots_on(nodes)
    room, limited, asked = Room(slots, lambda: nodes), Room(slots, lambda: nodes, most=3), Room(slots, lambda: nodes, 9)
    found = []
    for count in (1, 3, 0, 1):
        nodes[:] = [worker] * count
        found.append((room.jobs(), limited.jobs(), asked.jobs()))
        assert (room.seconds_without > 0) == (count == 0)
    assert found == [(2, 2, 9), (6, 3, 9), (0, 0, 9), (2, 2, 9)]
