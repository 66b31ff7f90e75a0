"""What a group and its ranks send each other: by processes that do as a test says, and by ranks without a group."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.rank_processes import on_ranks
from tests.helpers.tasks import CPU, pack, point, task
from trainables import ranks
from trainables.outcomes import EpochRecord
from trainables.training import group, rank
from trainables.training.group import ERRORS, GroupRun, RankError
from trainables.training.trial import (
    EpochEnded,
    Event,
    PackRun,
    Records,
    Resumed,
    Saved,
    StepsEnded,
    Unsaved,
    Unusable,
    Waiting,
)

CONFIG = pack(task(micro_batch=12, epochs=3), [point("adam-lawn")])
STUB = """
import json, os, socket, sys, time
channel = socket.socket(fileno=int(sys.argv[1]))
lines = channel.makefile()
order = json.loads(lines.readline())
answers, number = [], order["rank"]
def send(**message):
    channel.sendall((json.dumps(message) + chr(10)).encode())
def ask(**message):
    send(**message)
    answers.append(json.loads(lines.readline()))
def finish(digest):
    send(kind="finished", outcomes=[], references={"a": {"b": 1.0}}, digest=json.dumps(digest))
"""


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)


def stubbed(script: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> GroupRun:
    """A run of two ranks that do what a script says."""
    monkeypatch.setattr(group, "START", STUB + script)
    return plain(**options)


def plain(**options: Any) -> GroupRun:
    usual: dict[str, Any] = {"data_dir": Path("nowhere"), "device": CPU, "checkpoint": None, "checkpoint_seconds": 9.0}
    usual |= {"checkpoint_steps": 0, "report_seconds": 0.0, "flattening": False, "threads": 1, "code": b"", "named": ""}
    return GroupRun(CONFIG, 2, **usual | options)


ORDERS = """
found = order | {"leads": os.getsid(0) == os.getpid(), "name": os.environ["GLOO_SOCKET_IFNAME"]}
with open(f"{order['data_dir']}/{number}.part", "w") as file:
    json.dump(found, file)
os.rename(file.name, f"{order['data_dir']}/{number}")
while not os.path.exists(f"{order['data_dir']}/{1 - number}"):
    time.sleep(0.01)
finish("") if number == 0 else send(kind="stopped")
"""


@pytest.mark.parametrize(("kind", "threads", "each"), [("cpu", 1, 1), ("cuda", 5, 2), ("cpu", 8, 4)])
def test_each_rank_has_its_order_device_and_share_of_the_threads(
    kind: str, threads: int, each: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a session of its own: Ctrl-C is for the worker."""
    if kind == "cuda":
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    options = {"checkpoint": tmp_path / "c", "checkpoint_steps": 3, "flattening": True, "code": b"zip", "named": "a:B"}
    run = stubbed(ORDERS, monkeypatch, data_dir=tmp_path, device=torch.device(kind), threads=threads, **options)
    assert not [event for event in run if not isinstance(event, Waiting)]
    assert (run.outcomes, run.references) == ([], {"a": {"b": 1.0}})
    orders = [json.loads((tmp_path / f"{number}").read_text()) for number in range(2)]
    meeting = orders[0]["meeting"]
    assert not Path(meeting).parent.exists()
    for number, order in enumerate(orders):
        own = {"rank": number, "device": f"cuda:{number}" if kind == "cuda" else "cpu", "threads": each}
        places = {"data_dir": str(tmp_path), "checkpoint": str(tmp_path / "c"), "meeting": meeting}
        paces = {"checkpoint_seconds": 9.0, "checkpoint_steps": 3, "report_seconds": 0.0, "flattening": True}
        code = {"code": "emlw", "named": "a:B", "config": CONFIG.to_dict(), "count": 2}
        assert order == own | places | paces | code | {"leads": True, "name": "lo"}


def test_a_worker_that_sees_too_few_gpus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RankError, match="2 GPUs are to train a pack, and its worker sees 1"):
        list(stubbed("", monkeypatch, device=torch.device("cuda")))


def test_each_event_is_answered_once_by_what_was_asked_for_since(monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
for _ in range(4 if number == 0 else 0):
    ask(kind="StepsEnded")
finish(answers) if number == 0 else send(kind="stopped")
"""
    run, seen = stubbed(script, monkeypatch), 0
    for event in run:
        if isinstance(event, Waiting):
            continue
        seen += 1
        if seen == 1:
            run.postpone_checkpoints()
        if seen == 3:
            run.stop()
    asked = [(False, True), (False, False), (True, False), (True, False)]
    assert json.loads(run.digest) == [{"stop": stop, "postpone": postpone} for stop, postpone in asked]


def test_an_event_is_what_it_was_after_its_message() -> None:
    file = Path("checkpoint")
    run = plain(checkpoint=file)
    records = Records([EpochRecord(epoch=1, series={"a": [1.0, None]})])
    events: list[Event] = [Resumed(1.5), EpochEnded(2), StepsEnded(), Saved(file), Unusable(file, "why"), records]
    assert [run._event(json.loads(json.dumps(rank._message(event)))) for event in events] == events
    for error, text in ((OSError(28, "No space left"), "No space left"), (ValueError("odd"), "odd")):
        found = run._event(rank._message(Unsaved(error)))
        assert isinstance(found, Unsaved)
        assert str(found.error) == text


@pytest.mark.parametrize("cause", [*ERRORS, "error"])
def test_the_error_of_a_rank_keeps_its_kind_and_explains_those_that_only_ended(
    cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""
if number == 0:
    os._exit(3)
time.sleep(0.1)
send(kind="raised", cause="{cause}", error="out", traceback="at line 1")
time.sleep(9)
"""
    monkeypatch.setattr(group, "GRACE_SECONDS", 0.5)
    began = time.monotonic()
    if cause == "error":
        with pytest.raises(RankError, match=r"^rank 0 of 2: its process ended with exit code 3$"):
            list(stubbed(script, monkeypatch))
    else:
        with pytest.raises(ERRORS[cause], match=r"^out$"):
            list(stubbed(script, monkeypatch))
    assert time.monotonic() - began < 8, "nobody waits for the other longer"


def test_the_end_of_what_a_rank_printed_goes_with_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "print('x' * 9000, flush=True)\nos._exit(3) if number == 1 else time.sleep(9)"
    monkeypatch.setattr(group, "GRACE_SECONDS", 0.2)
    with pytest.raises(RankError) as caught:
        list(stubbed(script, monkeypatch))
    assert str(caught.value) == "rank 1 of 2: its process ended with exit code 3\n" + "x" * 3_999


@pytest.mark.parametrize("stops", [2, 9])
def test_ranks_train_as_one_process_and_do_as_they_are_answered(stops: int, tmp_path: Path) -> None:
    """The first checkpoint cannot be kept, so none follows by steps."""
    options = {"checkpoint": tmp_path / "file", "checkpoint_seconds": 1e9, "checkpoint_steps": 1}

    def train() -> tuple[dict[str, Any], list[str]]:
        ranks.joined = lambda *_: nullcontext()  # type: ignore[assignment]  # as these are already
        asked: list[str] = []

        def ask(message: dict[str, Any]) -> dict[str, bool]:
            asked.append(message["kind"])
            return {"stop": asked.count("EpochEnded") == stops, "postpone": asked.count("Saved") == 1}

        own = {"rank": ranks.rank(), "device": "cpu", "meeting": ""}
        return rank._train(plain(**options)._order | own, ask), asked

    (end, asked), other = on_ranks(2, train, tmp_path)
    assert other == ({"kind": "stopped"}, [])
    assert asked[:2] == ["StepsEnded", "Saved"]
    assert (asked.count("EpochEnded"), asked.count("Saved")) == ((2, 2) if stops == 2 else (3, 1))
    if stops == 2:
        assert (end, asked[-1]) == ({"kind": "stopped"}, "Saved")
        return
    alone = PackRun(CONFIG, data_dir=Path("nowhere"), device=CPU)
    list(alone)
    assert alone.outcomes is not None
    (one,), (values,) = alone.outcomes, end["outcomes"]
    found = group._outcome(json.loads(json.dumps(values)))
    assert replace(found, summary={}) == replace(one, summary={})
    assert found.summary["last/train_loss"] == one.summary["last/train_loss"]
    assert (end["kind"], end["digest"], end["references"]) == ("finished", alone.digest, alone.references)
