"""The image workload: splits, standardization, evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from tests.helpers.tasks import CPU, IMAGES
from trainables.tasks import Task, TrainOn, model_config
from trainables.workloads import build_workload, digits
from trainables.workloads.base import Resident
from trainables.workloads.images import ImageWorkload, LabeledImages, reject_single_image

TASK = replace(IMAGES, dataset="digits", batch_size=32)


def labeled(count: int, channels: int = 1) -> LabeledImages:
    """Images in which every pixel encodes the class."""
    labels = torch.arange(count) % 10
    return LabeledImages((25 * labels).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, channels, 8, 8), labels)


def workload(task: Task = TASK, test: int = 300) -> ImageWorkload:
    return ImageWorkload(task, train=labeled(100), validation=labeled(20), test=labeled(test), classes=10, device=CPU)


def logits_of_three_predictors(images: Tensor) -> Tensor:
    classes = torch.unique(images[:, 0, 0, 0], return_inverse=True)[1]
    return torch.stack([torch.eye(10)[classes], torch.zeros(len(images), 10), torch.full((len(images), 10), torch.nan)])


def test_perfect_constant_and_nan_predictors() -> None:
    evaluation = workload(test=500).evaluate(logits_of_three_predictors, "test")
    assert evaluation.metrics["accuracy"].tolist() == [100, 10, 0]
    assert evaluation.hits.sum(dim=1).tolist() == [500, 50, 0]
    assert evaluation.ece is not None
    assert evaluation.ece[0].item() == pytest.approx(1 - torch.eye(10).softmax(-1).max().item(), abs=1e-6)
    assert evaluation.ece[1].item() == pytest.approx(0, abs=1e-6)
    assert evaluation.ece[2].isnan()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(2, 10))
def test_hold_out_is_a_stratified_partition(classes: list[int], every: int) -> None:
    labels = torch.tensor(classes)
    everything = LabeledImages(torch.arange(len(classes)).view(-1, 1, 1, 1), labels)
    rest, held = everything.hold_out(every)
    assert sorted(rest.images.flatten().tolist() + held.images.flatten().tolist()) == list(range(len(classes)))
    assert len(held) == -(-len(classes) // every)
    assert labels[held.images.flatten()].equal(held.labels)
    for c in range(5):
        assert abs((held.labels == c).sum().item() - (labels == c).sum().item() / every) < 1


@pytest.mark.parametrize("channels", [1, 3])
def test_training_images_are_standardized_by_channel(channels: int) -> None:
    part = labeled(100, channels)
    images = ImageWorkload(TASK, train=part, validation=part, test=part, classes=10, device=CPU)
    (pixels,), _ = images.batch(torch.arange(100))
    assert pixels.shape == (100, channels, 8, 8)
    torch.testing.assert_close(pixels.mean(dim=(0, 2, 3)), torch.zeros(channels), atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels.std(dim=(0, 2, 3)), torch.ones(channels), atol=1e-5, rtol=0)


@pytest.mark.parametrize("train_on", get_args(TrainOn))
@pytest.mark.parametrize("name", ["synthetic", "digits"])
def test_bundled_datasets_have_the_sizes_that_planning_uses(name: str, train_on: TrainOn) -> None:
    task = replace(TASK, dataset=name, train_on=train_on)
    built = build_workload(task, Path("nowhere"), CPU)
    assert isinstance(built, Resident)
    assert len(built.epoch(torch.Generator().manual_seed(0))[0]) == built.examples == task.examples


@given(st.integers(2, 40), st.integers(2, 60), st.integers(2, 60))
def test_a_batch_of_one_image_is_rejected_and_another_size_is_named(size: int, search: int, full: int) -> None:
    counts = {"train": search, "train+validation": full}
    if all(count % size != 1 for count in counts.values()):
        reject_single_image(size, counts)
        return
    with pytest.raises(ValueError, match=f"batch_size {size} leaves .* one image") as caught:
        reject_single_image(size, counts)
    reject_single_image(int(str(caught.value).rsplit(" ", 1)[1]), counts)


@given(st.integers(2, 40), st.integers(1, 40), st.integers(2, 60), st.integers(2, 60))
def test_a_micro_batch_of_one_image_is_rejected(size: int, micro_batch: int, search: int, full: int) -> None:
    counts = {"train": search, "train+validation": full}
    if any(count % size == 1 for count in counts.values()):
        return
    steps = [min(size, count - start) for count in (size, *counts.values()) for start in range(0, count, size)]
    if all((step - start) > 1 for step in steps for start in range(0, step, micro_batch)):
        reject_single_image(size, counts, micro_batch)
        return
    with pytest.raises(ValueError, match=f"micro_batch {micro_batch} leaves a single image") as caught:
        reject_single_image(size, counts, micro_batch)
    _, _, fit = str(caught.value).partition("for example ")
    if fit:
        reject_single_image(size, counts, int(fit))


def test_synthetic_images_never_change() -> None:
    """Neither keys nor digests of trials know them."""
    images = build_workload(replace(TASK, dataset="synthetic"), Path("nowhere"), CPU)
    assert isinstance(images, ImageWorkload)
    parts = images._train, images._held_out["validation"], images._held_out["test"]
    assert [len(part) for part in parts] == [192, 64, 64]
    first = [part.images[0, 0, 0, :3] for part in (parts[0], parts[2])]
    expected = torch.tensor([[0.81969, 0.02241, -0.76175], [-0.01446, 2.40956, 1.26850]])
    torch.testing.assert_close(torch.stack(first), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [2, 9])
def test_no_size_is_named_where_none_fits(size: int) -> None:
    with pytest.raises(ValueError, match=r"BatchNorm needs two; use another batch_size$"):
        reject_single_image(size, {"train": 1, "train+validation": 4})


def test_the_noise_of_synthetic_images_is_as_large_as_their_patterns() -> None:
    images = build_workload(replace(TASK, dataset="synthetic", train_on="train+validation"), Path("nowhere"), CPU)
    assert isinstance(images, ImageWorkload)
    ours = images._train
    by_class = [ours.images[ours.labels == c] for c in range(10)]
    assert ours.labels.bincount().tolist() == [26] * 6 + [25] * 4
    assert torch.cat([part - part.mean(dim=0) for part in by_class]).std().item() == pytest.approx(1.0, rel=0.05)
    assert torch.stack([part.mean(dim=0) for part in by_class]).std().item() == pytest.approx(1.0, rel=0.1)


def test_a_size_that_would_fail_in_the_confirm_run_is_rejected_before_the_search() -> None:
    with pytest.raises(ValueError, match=r"one image \(1,437 images on train\+validation\).*for example 360"):
        build_workload(replace(TASK, batch_size=359), Path("nowhere"), CPU)


def test_an_image_workload_rejects_another_model() -> None:
    with pytest.raises(ValueError, match="model 'ncf' is for interactions, but data set 'digits' holds images"):
        workload(replace(TASK, model=model_config("ncf"))).build_model()


@pytest.mark.parametrize("kept", [True, False])
def test_the_digits_are_scikit_learns_wherever_it_keeps_them(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kept:
        monkeypatch.setattr(digits, "find_spec", lambda name: None)
    ours, theirs = digits.read_digits(), load_digits()
    assert (ours[:, :-1] == theirs.data).all()
    assert (ours[:, -1] == theirs.target).all()
