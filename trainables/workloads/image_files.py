"""Image data sets that are not held in memory: folders of class folders, and ImageNet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, tee
from pathlib import Path

import torch
from torch import Tensor

from trainables.data import DataError, image_listing
from trainables.tasks import Split, Task
from trainables.workloads.base import Batch, Part
from trainables.workloads.decoding import WHOLE, Decoder, Encoded, Pictures
from trainables.workloads.images import EXAMPLES_PER_CALL, Images, evenly_spaced, reject_single_image
from trainables.workloads.resized import Resized

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue, where white is 1; used for every folder (our choice)."""

LARGEST_DRAW = 2**63 - 1


def build(task: Task, data_dir: Path, device: torch.device) -> ImageFiles:
    """Returns the images of the folder that the task's data set names.

    `val` is the test set. Of `train`, evenly spaced images of each class validate, as many as the row has fewer
    `train_examples` than `full_examples` (our choice).

    Args:
        task: what is trained.
        data_dir: folder of the data sets.
        device: where batches go.

    Raises:
        DataError: the folder cannot be used, or holds others than the row of the data set says.
    """
    return _build(task, data_dir, device, resized=False)


def build_resized(task: Task, data_dir: Path, device: torch.device) -> ImageFiles:
    """Returns the same from images that were resized once, see `Resized`."""
    return _build(task, data_dir, device, resized=True)


def _build(task: Task, data_dir: Path, device: torch.device, *, resized: bool) -> ImageFiles:
    row = task.dataset_row
    found = image_listing(row, data_dir)
    if row.shape.get("channels") != 3 or not row.shape.get("pixels"):
        raise DataError(
            f"data set '{row.name}' requires `channels = 3` and `pixels` in its shape, got {dict(row.shape)}"
        )
    places, digest = [place for place, _ in (*found.train, *found.val)], found.digest
    pictures: Pictures = Encoded(places)
    if resized:
        side = round(row.shape["pixels"] * 8 / 7)
        pictures = Resized.of(data_dir / row.folder, pictures, len(places), side, digest)
    labels = torch.tensor([label for _, label in (*found.train, *found.val)])
    return ImageFiles(task, pictures, labels, trained=len(found.train), digest=digest, device=device)


class ImageFiles(Images):
    """Images that threads decode while batches are trained on; `base.Workload` states the contract.

    Args:
        task: what is trained; its data set's row says how many images validate.
        pictures: the images, those of the test set last.
        labels: their classes [N].
        trained: number of images that are not of the test set.
        digest: sha256 of where they were read from.
        device: where batches go.
    """

    def __init__(
        self,
        task: Task,
        pictures: Pictures,
        labels: Tensor,
        *,
        trained: int,
        digest: str,
        device: torch.device,
    ) -> None:
        row = task.dataset_row
        mean, std = (255 * torch.tensor(values, device=device).view(-1, 1, 1) for values in (MEAN, STD))
        super().__init__(task, row.shape, mean, std)
        train, validation = _hold_out(trained, row.full_examples - row.train_examples, row.full_examples)
        reject_single_image(task.batch_size, {"train": len(train), "train+validation": trained}, task.micro_batch)
        self._labels, self._digest, self._device = labels, digest, device
        search = task.train_on == "train"
        self._train = train if search else torch.arange(trained)
        self._held_out: dict[Split, Tensor] = {"test": torch.arange(trained, len(labels))}
        if search:
            self._held_out["validation"] = validation
        if task.steps:  # a smoke run repeats the outputs of the first call anyway
            self._held_out = {split: index[:EXAMPLES_PER_CALL] for split, index in self._held_out.items()}
        self.examples = len(self._train)
        self._decoder = Decoder(
            pictures, row.shape["pixels"], threads=torch.get_num_threads(), pinned=device.type == "cuda"
        )

    @property
    def digest(self) -> str:
        """See `Workload.digest`."""
        return self._digest

    def epoch(self, generator: torch.Generator) -> Part:
        """Returns all training images' numbers [N] in random order, and the draw of each one's crop [N]."""
        order = torch.randperm(len(self._train), generator=generator)
        return self._train[order], torch.randint(LARGEST_DRAW, (len(order),), generator=generator)

    def batch(self, *examples: Tensor) -> tuple[Part, Tensor]:
        """Returns standardized crops [..., B, 3, H, W] and class indices [..., B]."""
        (batch,) = self.in_order(iter([examples]))
        return batch.inputs, batch.targets

    def batches(
        self, generators: Sequence[torch.Generator], size: int, micro_batch: int | None = None, first: int = 0
    ) -> Iterator[Iterator[Batch]]:
        """See `Workload.batches`; the images of a step are decoded before it is asked for."""
        steps, again = tee(self.drawn_steps(generators, size, micro_batch, first))
        batches = self.in_order(part for parts in again for part in parts)
        for parts in steps:
            yield islice(batches, len(parts))

    def probe_examples(self) -> Part:
        """Returns the numbers of at most 4,096 training images, evenly spaced, as whole images."""
        return _whole(self._train[evenly_spaced(len(self._train))])

    def held_out(self, split: Split) -> Tensor | None:
        """See `Images.held_out`."""
        return self._held_out.get(split)

    def whole(self, split: Split, parts: Sequence[Part]) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.whole`."""
        return self._decoded(_whole(index) for (index,) in parts)

    def in_order(self, parts: Iterable[Part]) -> Iterator[Batch]:
        """See `Resident.in_order`."""
        for images, labels in self._decoded(parts):
            yield Batch((self.standardized(images),), labels, labels.shape[-1])

    def _decoded(self, parts: Iterable[Part]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields crops [..., B, 3, H, W] and classes [..., B] on the device; channels last in memory on a GPU."""
        parts, again = tee(parts)
        for (index, _), images in zip(
            parts, self._decoder.batches((index, draw) for index, draw in again), strict=True
        ):
            found = images.to(self._device, non_blocking=True).movedim(-1, -3)
            yield found if found.is_cuda else found.contiguous(), self._labels[index].to(self._device)


def _whole(index: Tensor) -> Part:
    return index, torch.full_like(index, WHOLE)


def _hold_out(count: int, held: int, of: int) -> tuple[Tensor, Tensor]:
    """Returns the numbers of images, sorted by class, that stay, and evenly spaced ones: `held` of each `of`."""
    chosen = torch.zeros(count, dtype=torch.bool)
    part = max(1, count * held // of)
    chosen[torch.arange(part) * count // part] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()
