"""Two epochs on 6,000 real images: every method learns from the pipeline of the image tables.

Needs Debian's package dataset-fashion-mnist, which CI installs.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.tasks import CPU, IMAGES, pack, point
from trainables.tasks import Task, model_config
from trainables.training.loop import Training
from trainables.workloads import fashion_mnist
from trainables.workloads.images import ImageWorkload

INSTALLED = Path("/usr/share/datasets/fashion-mnist")
FILES = {"train-images-idx3": 6_000, "train-labels-idx1": 6_000, "t10k-images-idx3": 1_000, "t10k-labels-idx1": 1_000}

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not INSTALLED.is_dir(), reason="not installed: apt-get install dataset-fashion-mnist"),
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a data folder with the first images of the published files."""
    folder = tmp_path_factory.mktemp("data")
    (raw := folder / "FashionMNIST/raw").mkdir(parents=True)
    for name, count in FILES.items():
        content = gzip.decompress((INSTALLED / f"{name}-ubyte.gz").read_bytes())
        header, size = (16, 28 * 28) if "images" in name else (8, 1)
        start = content[:4] + count.to_bytes(4, "big") + content[8:header]
        (raw / f"{name}-ubyte").write_bytes(start + content[header : header + count * size])
    return folder


def _images(task: Task, data_dir: Path, padding: int | None) -> ImageWorkload:
    """Returns the images of `fashion_mnist.build`, on request with the crops that CIFAR is trained on."""
    train, validation = fashion_mnist._read(data_dir, "train").hold_out(every=10)
    test = fashion_mnist._read(data_dir, "t10k")
    return ImageWorkload(task, train=train, validation=validation, test=test, classes=10, device=CPU, padding=padding)


@pytest.mark.parametrize("padding", [None, 4])
@pytest.mark.parametrize("method", ["sgd", "sgd-lawn", "adam", "adam-lawn", "lamb", "lamb-lawn"])
def test_every_method_of_the_paper_learns_from_real_images(real: Path, method: str, padding: int | None) -> None:
    model = model_config("small-vgg", width=8)
    task = replace(IMAGES, optimizer=method, model=model, batch_size=100, epochs=2)
    training = Training(pack(task, [point(method, warmup_epochs=0.5)]), _images(task, real, padding), CPU)
    accuracies = [training.run_epoch().series["validation/accuracy"][0] for _ in range(2)]
    assert (accuracies[-1] or 0) > 60, f"ten classes, so chance is 10: {accuracies}"
