"""Writes scikit-learn's digits as a folder of small images, a folder a class, below data/digits."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

SPLITS = {"train": slice(0, 600), "validation": slice(600, 1000), "test": slice(1000, 1797)}

digits = load_digits()
for split, part in SPLITS.items():
    for number, (pixels, label) in enumerate(zip(digits.images[part], digits.target[part], strict=True)):
        folder = Path("data/digits", split, str(label))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).resize((16, 16)).save(folder / f"{number:04}.png")
