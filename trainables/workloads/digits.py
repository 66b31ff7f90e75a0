"""scikit-learn's digits: 1,797 images of 8x8 pixels, ten classes; installed with scikit-learn, no download."""

from __future__ import annotations

from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.catalogue.datasets import DATASETS
from trainables.data import DataError
from trainables.tasks import Task
from trainables.workloads.images import ImageWorkload, LabeledImages


def build(task: Task, data_dir: Path, device: torch.device) -> ImageWorkload:
    """Returns the digits with a fifth as test and a tenth of the rest as validation: 1,293 + 144 + 360 (our choice).

    Args:
        task: what is trained.
        data_dir: unused.
        device: where the data will be.

    Raises:
        DataError: the installed scikit-learn has other digits.
    """
    digits = read_digits()
    if sha256(digits.tobytes()).hexdigest() != DATASETS["digits"].sha256:
        raise DataError(
            "the digits of the installed scikit-learn differ from the published ones; results would not be comparable. "
            "Install it again: `pip install --force-reinstall scikit-learn`"
        )
    pixels = torch.from_numpy(digits[:, :-1]).reshape(-1, 1, 8, 8)
    everything = LabeledImages(pixels, torch.from_numpy(digits[:, -1]).long())
    rest, test = everything.hold_out(every=5)
    train, validation = rest.hold_out(every=10)
    return ImageWorkload(task, train=train, validation=validation, test=test, classes=10, device=device)


def read_digits() -> NDArray[np.uint8]:
    """Returns the 64 pixels and the label of each image, [1797, 65].

    Read from scikit-learn's file, since importing `sklearn.datasets` takes each worker most of a second; by
    `load_digits` if an installed version has that file elsewhere.
    """
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder) / "datasets" / "data" / "digits.csv.gz").is_file():
            return np.loadtxt(path, delimiter=",").astype(np.uint8)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.uint8)
