"""Data sets, one row each: what they hold, where they come from, what they take of memory and time."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.catalogue.rows import DataFile, Dataset, Speed

MIB = 2**20

MACHINE = "one core of an AMD EPYC server"
"""Where speeds were measured, by `make bench`: two batch sizes solved for the first two numbers (movielens-100k: 64
factors, batches 1000 and 100000), pack sizes from 1 to 16 for the third (movielens-100k: growth.json; small-vgg: batch
64)."""


def _fashion_mnist(stem: str, archive_md5: str, sha256: str) -> DataFile:
    url = f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{stem}.gz"
    return DataFile(path=f"FashionMNIST/raw/{stem}", url=url, sha256=sha256, archive_hash=f"md5:{archive_md5}")


_FASHION_MNIST = (
    _fashion_mnist(
        "train-images-idx3-ubyte",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    _fashion_mnist(
        "train-labels-idx1-ubyte",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    _fashion_mnist(
        "t10k-images-idx3-ubyte",
        "bef4ecab320f06d8554ea6380940ec79",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    _fashion_mnist(
        "t10k-labels-idx1-ubyte",
        "bb300cfdad3c16e7a12a480ee83cd310",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

_MOVIELENS_100K = DataFile(
    path="ml-100k/u.data",
    url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    sha256="3c61dc9b90a365d2ac50bdee9df8024ddf0eea4b1a15678d9934a77e75fe0ede",
    any_order=True,
)


_DIGITS = {"channels": 1, "pixels": 8, "classes": 10}

DATASETS: Mapping[str, Dataset] = {
    row.name: row
    for row in (
        Dataset(
            name="synthetic",
            summary="10 noisy patterns, made from a fixed seed",
            data="images",
            targets="classes",
            metrics=("accuracy",),
            workload="trainables.workloads.synthetic:build",
            train_examples=192,
            full_examples=256,
            shape=_DIGITS,
            resident=1 * MIB,
        ),
        Dataset(
            name="digits",
            summary="1,797 images of 8x8 pixels, 10 classes",
            data="images",
            targets="classes",
            metrics=("accuracy",),
            workload="trainables.workloads.digits:build",
            train_examples=1293,
            full_examples=1437,
            shape=_DIGITS,
            resident=1 * MIB,
            package="sklearn",
            sha256="68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2",
            speeds={"small-vgg": Speed(per_example=19e-6, per_step=0.3e-3, per_call=1.6e-3)},
        ),
        Dataset(
            name="fashion-mnist",
            summary="70,000 images of 28x28 pixels, 10 classes",
            data="images",
            targets="classes",
            metrics=("accuracy",),
            workload="trainables.workloads.fashion_mnist:build",
            train_examples=54_000,
            full_examples=60_000,
            shape={"channels": 1, "pixels": 28, "classes": 10},
            resident=350 * MIB,  # the images, and floats of them once for their mean
            files=_FASHION_MNIST,
            download="31 MB",
            speeds={"small-vgg": Speed(per_example=366e-6, per_step=0.0, per_call=1.6e-3)},
        ),
        Dataset(
            name="movielens-100k",
            summary="100,000 ratings of 1,682 films by 943 users",
            data="interactions",
            targets="binary",
            metrics=("hr@10", "ndcg@10"),
            workload="trainables.workloads.movielens:build",
            train_examples=490_570,
            full_examples=495_285,
            shape={"users": 943, "items": 1682},
            resident=120 * MIB,  # an epoch's draws, and candidates
            files=(_MOVIELENS_100K,),
            download="5 MB",
            speeds={"ncf": Speed(per_example=2.0e-6, per_step=6.8e-3, per_call=0.3e-3)},
        ),
    )
}
