"""Image classification: the part that all image datasets share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables import metrics, ranks
from trainables.models import build_model
from trainables.tasks import Split, Task
from trainables.workloads.base import Evaluation, Part, Predict, Resident, cut, trained_on
from trainables.workloads.crops import Crops

EXAMPLES_PER_CALL = 256
PROBE_EXAMPLES = 4096


@dataclass(frozen=True)
class LabeledImages:
    """Images [N, C, H, W], as stored in the dataset (uint8 stays uint8), with class indices [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> LabeledImages:
        """Returns the images on a device."""
        return LabeledImages(self.images.to(device), self.labels.to(device))

    @staticmethod
    def joined(parts: Sequence[LabeledImages]) -> LabeledImages:
        """Returns the images of all parts, in their order."""
        return LabeledImages(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))

    def hold_out(self, every: int) -> tuple[LabeledImages, LabeledImages]:
        """Splits off every n-th of the examples sorted by class: a stratified split that never changes.

        No random numbers are drawn, so the split is the same under every library version.

        Args:
            every: n; 1/n of the examples are held out, rounded up.

        Returns:
            The remaining and the held-out examples, both in the order of the dataset.
        """
        by_class = torch.argsort(self.labels, stable=True)
        held = torch.zeros(len(self), dtype=torch.bool)
        held[by_class[::every]] = True
        return self._where(~held), self._where(held)

    def _where(self, mask: Tensor) -> LabeledImages:
        return LabeledImages(self.images[mask], self.labels[mask])


class Images(Resident):
    """Classification of images, wherever they are; `base.Workload` states the contract.

    Args:
        task: what is trained.
        shape: of the images, for the model.
        mean, std: of each channel [C, 1, 1], by which images are standardized, on the device.
    """

    def __init__(self, task: Task, shape: Mapping[str, int], mean: Tensor, std: Tensor) -> None:
        self._task, self._shape, self._mean, self._std = task, shape, mean, std
        self.examples_per_call = EXAMPLES_PER_CALL

    @abstractmethod
    def held_out(self, split: Split) -> Tensor | None:
        """Returns the numbers [E] of a split's images; None if they are trained on."""

    @abstractmethod
    def whole(self, split: Split, parts: Sequence[Part]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields for some of these numbers [B] the whole images [B, C, H, W] and their classes [B], on the device."""

    def build_model(self) -> nn.Module:
        """See `Workload.build_model`."""
        return build_model(self._task, self._shape)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `metrics.multiclass_margin`."""
        return metrics.multiclass_margin(outputs, targets)

    def evaluate(self, predict: Predict, split: Split) -> Evaluation:
        """Returns top-1 and top-5 accuracy (percent), confidences and which images are classified correctly."""
        numbers = self.held_out(split)
        if numbers is None:
            raise trained_on(split, self._task)
        calls = list(cut((numbers,), self.examples_per_call))
        images = self.whole(split, ranks.own(calls))

        def scores(*_: Tensor) -> Tensor:
            found, labels = next(images)
            return _scores(predict(self.standardized(found)).float(), labels)

        hits, top, confidence = torch.cat(ranks.divided(scores, calls), dim=1).unbind(-1)
        measured = {"accuracy": metrics.percentage(hits), "accuracy@5": metrics.percentage(top)}
        return Evaluation(measured, hits.bool(), confidence)

    def standardized(self, images: Tensor) -> Tensor:
        """Returns images as the model takes them."""
        return (images.float() - self._mean) / self._std


def _scores(outputs: Tensor, labels: Tensor) -> Tensor:
    """Returns of outputs [R, B, C] whether each is right, whether it is among the top five, and its confidence.

    Returns:
        [R, B, 3], the first two as 0 or 1.
    """
    confidence = outputs.softmax(dim=-1).amax(dim=-1)
    right = metrics.correct(outputs, labels), metrics.correct_in_top(outputs, labels)
    return torch.stack([*(found.to(confidence) for found in right), confidence], dim=-1)


class ImageWorkload(Images):
    """A classification dataset resident on the device; `base.Workload` states the contract.

    Args:
        task: what is trained.
        train, validation, test: the fixed splits. Under `train_on = "train+validation"` the first two are joined.
        classes: number of classes.
        device: where the data is.
        padding: border of the random crops that are trained on, each flipped with probability 1/2; None for the images
            as they are. Margins and metrics are those of whole images.

    Raises:
        ValueError: an epoch's last batch would hold a single image, which BatchNorm cannot normalize.
    """

    def __init__(
        self,
        task: Task,
        *,
        train: LabeledImages,
        validation: LabeledImages,
        test: LabeledImages,
        classes: int,
        device: torch.device,
        padding: int | None = None,
    ) -> None:
        counts = {"train": len(train), "train+validation": len(train) + len(validation)}
        reject_single_image(task.batch_size, counts, task.micro_batch)
        search = task.train_on == "train"
        self._device = device
        self._train = (train if search else LabeledImages.joined([train, validation])).to(device)
        self._held_out: dict[Split, LabeledImages] = {"test": test.to(device)}
        if search:
            self._held_out["validation"] = validation.to(device)
        self.examples = len(self._train)
        std, mean = torch.std_mean(self._train.images.float(), dim=(0, 2, 3))
        _, channels, size, _ = self._train.images.shape
        shape = {"channels": channels, "pixels": size, "classes": classes}
        super().__init__(task, shape, mean.view(-1, 1, 1), std.view(-1, 1, 1))
        self._crops = None if padding is None else Crops(self._train.images, padding)

    def epoch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns all training examples' indices [N] in random order, and the crop of each [N] if there are any."""
        order = torch.randperm(len(self._train), generator=generator).to(self._device)
        return (order,) if self._crops is None else (order, self._crops.draw(generator).to(self._device))

    def batch(self, *examples: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns standardized images [..., B, C, H, W] and class indices [..., B]."""
        index, *crop = examples
        images = self._crops.cut(index, *crop) if self._crops else self._train.images[index]
        return (self.standardized(images),), self._train.labels[index]

    def probe_examples(self) -> tuple[Tensor, ...]:
        """Returns the indices of at most 4,096 training examples, evenly spaced, as whole images."""
        index = evenly_spaced(len(self._train)).to(self._device)
        return (index,) if self._crops is None else (index, torch.full_like(index, self._crops.center))

    def held_out(self, split: Split) -> Tensor | None:
        """See `Images.held_out`."""
        found = self._held_out.get(split)
        return None if found is None else torch.arange(len(found), device=self._device)

    def whole(self, split: Split, parts: Sequence[Part]) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.whole`."""
        found = self._held_out[split]
        return ((found.images[index], found.labels[index]) for (index,) in parts)


def evenly_spaced(examples: int) -> Tensor:
    """Returns the indices of at most 4,096 examples."""
    count = min(PROBE_EXAMPLES, examples)
    return torch.arange(count) * examples // count


def reject_single_image(batch_size: int, examples: Mapping[str, int], micro_batch: int = 0) -> None:
    """Checks that no epoch ends with a batch, and no step with a micro-batch, of a single image.

    Args:
        batch_size: examples per step.
        examples: `train_on` → examples in one epoch.
        micro_batch: examples at once; 0 for those of a step.

    Raises:
        ValueError: one does; the message suggests another size.
    """
    for train_on, count in examples.items():
        if batch_size == 1 or count % batch_size == 1:
            raise ValueError(
                f"batch_size {batch_size} leaves a last batch of one image ({count:,} images on {train_on}), and "
                f"BatchNorm needs two; use another batch_size{_next_fit(batch_size, examples.values())}"
            )
    steps = sorted({batch_size, *(count % batch_size for count in examples.values())} - {0})
    if micro_batch and not _divides(micro_batch, steps):
        near = sorted(range(2, batch_size), key=lambda size: abs(size - micro_batch))
        fit = next((f", for example {size}" for size in near if _divides(size, steps)), "")
        raise ValueError(
            f"micro_batch {micro_batch} leaves a single image of a step of {' or '.join(map(str, steps))}, and "
            f"BatchNorm needs two; use another micro_batch{fit}"
        )


def _divides(micro_batch: int, steps: Sequence[int]) -> bool:
    """Whether no step of these sizes leaves a single image for its last micro-batch."""
    return micro_batch > 1 and all(size % micro_batch != 1 for size in steps)


def _next_fit(batch_size: int, counts: Collection[int]) -> str:
    """Names the next size that fits, if one does: the largest number of images does unless another one is 1."""
    sizes = (*range(batch_size + 1, most := max(counts)), most)
    return next((f", for example {size}" for size in sizes if all(count % size != 1 for count in counts)), "")
