"""A checkpoint is loaded whole and right, or named and passed over, and the pack ends as if it had never been there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tests.helpers.tasks import events_of, pack, point, run, task, training
from trainables.tasks import PackConfig
from trainables.training.checkpoint import UnusableCheckpoint, load_checkpoint, save_checkpoint
from trainables.training.trial import Records, Resumed, Unusable

Content = tuple[dict[str, Any], dict[str, Tensor]]
Reasons = list[str]

CONFIG = pack(task(), [point("adam-lawn", free_epochs=epochs) for epochs in (0.5, 1.0, 3.5)])
LOSES = pack(task("sgd"), [point("sgd"), point("sgd", peak_lr=1e9), point("sgd", peak_lr=0.02)])
"""Its second trial diverges in the first epoch."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `CONFIG` after two of its four epochs: two constrained rows and one that is free."""
    return saved(CONFIG, tmp_path_factory.mktemp("checkpoints") / "c.safetensors")


def saved(config: PackConfig, file: Path) -> Path:
    session = training(config)
    for _ in range(2):
        session.run_epoch()
    save_checkpoint(file, session, 1.5)
    return file


def read(file: Path) -> Content:
    with safe_open(file, framework="pt") as opened:
        return json.loads(opened.metadata()["story"]), {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118


def written(content: Content, file: Path, **metadata: str) -> Path:
    """Writes a file without a digest, as older versions did, so that only what it holds can betray it."""
    story, tensors = content
    save_file({name: x.contiguous() for name, x in tensors.items()}, file, {"story": json.dumps(story), **metadata})
    return file


def reasons(file: Path, config: PackConfig = CONFIG) -> Reasons:
    """Loads a file and returns why it was not; a training that was not loaded is untouched."""
    found: Reasons = []
    session = training(config)
    start = [x.clone() for x in (session.pack.state.weights, session.pack.state.step)]
    spent = None
    try:
        spent = load_checkpoint(file, session)
    except UnusableCheckpoint as error:
        found.append(str(error))
    if spent is None:
        assert (session.epoch, session.records, session.diverged) == (0, [], {})
        assert all(
            torch.equal(x, y) for x, y in zip(start, (session.pack.state.weights, session.pack.state.step), strict=True)
        )
    return found


def names(file: Path) -> list[str]:
    return list(read(file)[1])


def test_a_whole_checkpoint_is_loaded_with_or_without_a_digest(whole: Path, tmp_path: Path) -> None:
    assert not reasons(whole)
    assert not reasons(written(read(whole), tmp_path / "old.safetensors"))
    assert not reasons(tmp_path / "missing")
    assert not reasons(saved(LOSES, tmp_path / "loses.safetensors"), LOSES)


HARMS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "shortened": lambda x: x[..., :-1],
    "lengthened": lambda x: torch.cat([x, x[..., -1:]], dim=-1),
    "a row less": lambda x: x[:-1],
    "a row more": lambda x: torch.cat([x, x[-1:]]),
    "flattened": lambda x: x.flatten() if x.dim() > 1 else x.unsqueeze(1),
    "permuted": lambda x: x.movedim(0, -1) if x.dim() > 1 else x[:1],
    "a dimension more": lambda x: x.unsqueeze(0),
    "empty": lambda x: x[:0],
    "another dtype": lambda x: x.to(torch.float64 if x.dtype != torch.float64 else torch.float32),
    "integers of its size": lambda x: x.view(torch.uint8) if x.dtype == torch.bool else x.view(torch.int8),
    "lost": lambda x: None,
}


@pytest.mark.parametrize("harm", HARMS)
def test_every_tensor_that_does_not_fit_is_named_even_in_an_old_file(harm: str, whole: Path, tmp_path: Path) -> None:
    for name in names(whole):
        story, tensors = read(whole)
        harmed = HARMS[harm](tensors.pop(name))
        file = written((story, tensors if harmed is None else {**tensors, name: harmed}), tmp_path / "c.safetensors")
        (reason,) = reasons(file)
        assert f"'{name}'" in reason, reason


VALUES: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "a weight that is not a number": lambda x: x["state/weights"][1].fill_(torch.nan),
    "an infinite weight": lambda x: x["state/weights"][0, :1].fill_(torch.inf),
    "a moment that is not a number": lambda x: x["slots/v"][0, :1].fill_(torch.nan),
    "a step from elsewhere": lambda x: x["state/step"].add_(1),
    "a huge step": lambda x: x["state/step"].fill_(-(2**63)),
    "steps of other rows": lambda x: x["state/step"].copy_(x["state/step"].flip(0)),
    "phases of other rows": lambda x: x["state/constrained"].logical_not_(),
    "negative radii": lambda x: x["state/radii"].neg_(),
    "radii that are not numbers": lambda x: x["state/radii"].fill_(torch.nan),
    "radii of a free row": lambda x: x["state/radii"].fill_(1.0),
    "another pack's hyperparameters": lambda x: x["hyper/beta1"].mul_(0.5),
    "a hyperparameter that is not a number": lambda x: x["hyper/eps"].fill_(torch.nan),
    "an unknown tensor": lambda x: x.update({"slots/w": x["slots/v"].clone()}),
    "a statistic that is not a number": lambda x: x["buffers/features.0.1.running_var"][0].fill_(torch.nan),
}


@pytest.mark.parametrize("harm", VALUES)
def test_values_that_training_cannot_have_are_refused_even_in_an_old_file(
    harm: str, whole: Path, tmp_path: Path
) -> None:
    story, tensors = read(whole)
    VALUES[harm](tensors)
    assert len(reasons(written((story, tensors), tmp_path / "c.safetensors"))) == 1


STORIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another pack": lambda s: s["pack"]["task"].update(batch_size=64),
    "epoch 0": lambda s: s.update(epoch=0),
    "a step of the next epoch without its sums": lambda s: s.update(step=1),
    "an epoch earlier": lambda s: s.update(epoch=1),
    "the last epoch": lambda s: s.update(epoch=4),
    "an epoch that is no number": lambda s: s.update(epoch="2"),
    "an epoch that is true": lambda s: s.update(epoch=True),
    "negative seconds": lambda s: s.update(seconds=-1.0),
    "endless seconds": lambda s: s.update(seconds=float("inf")),
    "no rows": lambda s: s.update(rows=[]),
    "rows in another order": lambda s: s["rows"].reverse(),
    "a row twice": lambda s: s["rows"].append(s["rows"][0]),
    "a member in two rows": lambda s: s["rows"][0]["members"].append(2),
    "an unknown member": lambda s: s["rows"][0].update(members=[7]),
    "another phase": lambda s: s["rows"][0].update(constrained=not s["rows"][0]["constrained"]),
    "a diverged trial with a row": lambda s: s.update(diverged=[[0, 1]]),
    "all diverged": lambda s: s.update(diverged=[[0, 1], [1, 1], [2, 1]], rows=[]),
    "all diverged later": lambda s: s.update(diverged=[[0, 2], [1, 2], [2, 2]], rows=[]),
    "an unknown trial diverged": lambda s: s.update(diverged=[[7, 1]]),
    "divergence to come": lambda s: s.update(diverged=[[0, 3]]),
    "a record less": lambda s: s["records"].pop(),
    "a record more": lambda s: s["records"].append(s["records"][-1]),
    "records in another order": lambda s: s["records"].reverse(),
    "a series less": lambda s: s["records"][0]["series"].pop("train_loss"),
    "another series less in one record": lambda s: s["records"][1]["series"].pop("grad_norm"),
    "another series less in all records": lambda s: [r["series"].pop("grad_norm") for r in s["records"]],
    "a series more in one record": lambda s: s["records"][1]["series"].update(other=[0.0] * 3),
    "a value less": lambda s: s["records"][0]["series"]["grad_norm"].pop(),
    "a value that is text": lambda s: s["records"][0]["series"].update(grad_norm=["a", "b", "c"]),
    "a value that is not a number": lambda s: s["records"][0]["series"].update(grad_norm=[float("nan")] * 3),
    "a loss that is missing": lambda s: s["records"][0]["series"].update(train_loss=[None] * 3),
    "no records": lambda s: s.pop("records"),
    "a list of nothing": lambda s: s.update(diverged=[[]]),
}


@pytest.mark.parametrize("harm", STORIES)
def test_a_story_that_is_not_this_packs_is_refused_even_in_an_old_file(harm: str, whole: Path, tmp_path: Path) -> None:
    story, tensors = read(whole)
    STORIES[harm](story)
    assert len(reasons(written((story, tensors), tmp_path / "c.safetensors"))) == 1


WITHIN: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], Any]] = {
    "no step": lambda s, x: s.pop("step"),
    "another step": lambda s, x: s.update(step=1),
    "a step beyond": lambda s, x: s.update(step=4),
    "a step before": lambda s, x: s.update(step=-1),
    "a step that is true": lambda s, x: s.update(step=True),
    "an epoch earlier": lambda s, x: s.update(epoch=0),
    "a lost sum": lambda s, x: x.pop("epoch/loss_sum"),
    "a sum that is not a number": lambda s, x: x["epoch/margin_sum"].fill_(torch.nan),
    "sums of other rows": lambda s, x: x.update({"epoch/loss_sum": x["epoch/loss_sum"][:1].clone()}),
}


@pytest.mark.parametrize("harm", WITHIN)
def test_a_place_within_an_epoch_is_not_believed_either(harm: str, tmp_path: Path) -> None:
    session = training(CONFIG)
    session.run_epoch()
    steps = session.steps()
    next(steps), next(steps)
    save_checkpoint(tmp_path / "c", session, 1.5)
    assert not reasons(tmp_path / "c")
    story, tensors = read(tmp_path / "c")
    WITHIN[harm](story, tensors)
    assert len(reasons(written((story, tensors), tmp_path / "c"))) == 1


@pytest.mark.parametrize("step", [0, -1, 9, True, 2.0])
def test_a_switch_at_no_step_done_is_named(step: Any, tmp_path: Path) -> None:
    config = pack(task(), [point("adam-lawn", free_epochs=-0.1)])
    story, tensors = read(saved(config, tmp_path / "c"))
    story["switches"]["steps"] = [[0, step]]
    (reason,) = reasons(written((story, tensors), tmp_path / "c"), config)
    assert f"trial 0 switched at step {step}" in reason


def test_who_diverged_is_not_believed_against_the_curves(tmp_path: Path) -> None:
    story, tensors = read(saved(LOSES, tmp_path / "c.safetensors"))
    assert story["diverged"] == [[1, 1]]
    story["diverged"] = [[0, 2], [1, 1]]
    story["rows"] = story["rows"][1:]
    other = {name: tensor[1:] for name, tensor in tensors.items()}
    (reason,) = reasons(written((story, other), tmp_path / "c.safetensors"), LOSES)
    assert "does not fit who diverged" in reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["pack", "epoch", "rows", "diverged", "records", "seconds"]), value=JSON)
def test_any_json_in_a_story_is_an_answer_and_no_crash(key: str, value: Any, whole: Path, tmp_path: Path) -> None:
    story, tensors = read(whole)
    found = reasons(written(({**story, key: value}, tensors), tmp_path / "c.safetensors"))
    harmless = key == "seconds" and type(value) in (int, float) and 0 <= value < float("inf")
    assert len(found) == (0 if harmless or (key == "diverged" and value == []) else 1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), cut=st.booleans())
def test_a_changed_or_missing_byte_is_noticed(at: float, change: int, cut: bool, whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    place = int(at * len(content))
    content[place] ^= change
    file = tmp_path / "c.safetensors"
    file.write_bytes(content[:place] if cut else content)
    if not reasons(file):  # the name of the digest itself: nothing else changed, and the file is like an old one
        story, tensors = read(file)
        expected, others = read(whole)
        assert story == expected
        assert all(torch.equal(tensors[name], others[name]) for name in others)


def test_two_tensors_of_one_shape_are_not_exchanged_unnoticed(whole: Path, tmp_path: Path) -> None:
    with safe_open(whole, framework="pt") as opened:
        digest = opened.metadata()["digest"]
    story, tensors = read(whole)
    assert not reasons(written((story, tensors), tmp_path / "c.safetensors", digest=digest))
    tensors["slots/m"], tensors["slots/v"] = tensors["slots/v"], tensors["slots/m"]
    (reason,) = reasons(written((story, tensors), tmp_path / "c.safetensors", digest=digest))
    assert reason.endswith("its content is damaged")


@pytest.mark.parametrize("harm", ["shortened", "another dtype", "not finite", "all diverged", "a folder"])
def test_a_pack_with_a_broken_checkpoint_starts_again_and_ends_with_the_same_bits(
    harm: str, whole: Path, tmp_path: Path
) -> None:
    story, tensors = read(whole)
    if harm == "not finite":
        tensors["state/weights"].fill_(torch.nan)
    elif harm == "all diverged":
        STORIES[harm](story)
    elif harm != "a folder":
        tensors["state/weights"] = HARMS[harm](tensors["state/weights"])  # type: ignore[assignment]
    file = tmp_path / "c.safetensors"
    file.mkdir() if harm == "a folder" else written((story, tensors), file)
    events, ends = events_of(CONFIG, checkpoint=file)
    undisturbed, expected = run(CONFIG)
    assert [record for event in events if isinstance(event, Records) for record in event.records] == undisturbed
    assert not [event for event in events if isinstance(event, Resumed)]
    assert ends is not None
    assert [end.outcome for end in ends] == ["complete"] * 3
    assert [dataclasses.replace(end, summary={}) for end in ends] == [
        dataclasses.replace(end, summary={}) for end in expected
    ]
    (unusable,) = [event for event in events if isinstance(event, Unusable)]
    assert unusable.file == file
    assert unusable.reason
