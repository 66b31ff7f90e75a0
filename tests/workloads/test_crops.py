"""Random crops: each is a window of the image with its border, and where it lies is drawn by the trial's seed alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.tasks import IMAGES
from trainables.workloads.crops import Crops
from trainables.workloads.images import ImageWorkload, LabeledImages

COUNT, PADDING = 50, 2
PIXELS = torch.arange(COUNT * 3 * 6 * 5).remainder(251).to(torch.uint8).view(COUNT, 3, 6, 5)


def literal(image: Tensor, crop: int) -> Tensor:
    """Pads, cuts out and flips one image."""
    side = 2 * PADDING + 1
    flip, top, left = crop // side**2, crop % side**2 // side, crop % side
    window = F.pad(image, [PADDING] * 4)[:, top : top + image.shape[1], left : left + image.shape[2]]
    return window.flip(-1) if flip else window


@pytest.mark.parametrize("shape", [(7,), (2, 7)], ids=["a batch", "a batch a seed"])
def test_every_crop_is_a_window_of_the_padded_image(shape: tuple[int, ...]) -> None:
    crops = Crops(PIXELS, PADDING)
    for crop in range(50):
        index = torch.randint(COUNT, shape)
        found = crops.cut(index, torch.full(shape, crop))
        expected = torch.stack([literal(PIXELS[i], crop) for i in index.flatten().tolist()])
        assert found.equal(expected.view(*shape, 3, 6, 5))


def test_places_and_flips_are_drawn_evenly_and_by_the_generator_alone() -> None:
    crops = Crops(torch.zeros(100_000, 1, 4, 4, dtype=torch.uint8), PADDING)
    drawn = crops.draw(torch.Generator().manual_seed(1))
    counts = torch.bincount(drawn, minlength=50)
    assert len(counts) == 50
    assert (counts - 2000).abs().max() < 6 * 2000**0.5, "six standard deviations"
    assert drawn.equal(crops.draw(torch.Generator().manual_seed(1)))
    assert not drawn.equal(crops.draw(torch.Generator().manual_seed(2)))


def test_only_training_sees_crops() -> None:
    part = LabeledImages(torch.randint(256, (COUNT, 3, 8, 8), dtype=torch.uint8), torch.arange(COUNT) % 10)
    plain, cropped = (
        ImageWorkload(
            IMAGES, train=part, validation=part, test=part, classes=10, device=torch.device("cpu"), padding=padding
        )
        for padding in (None, PADDING)
    )
    (images,), targets = cropped.batch(*cropped.epoch(torch.Generator().manual_seed(0)))
    (order,) = plain.epoch(torch.Generator().manual_seed(0))
    assert targets.equal(part.labels[order])
    assert not images.equal(plain.batch(order)[0][0])
    for one, other in zip(plain.probe(), cropped.probe(), strict=True):
        assert one.inputs[0].equal(other.inputs[0])
    seen: list[Tensor] = []

    def predict(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros(1, len(images), 10)

    for workload in (plain, cropped):
        workload.evaluate(predict, "test")
    assert seen[0].equal(seen[1])
