"""Data sets, one row each: what they hold, where they come from, what they take of memory and time."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.catalogue.rows import DataFile, Dataset
from trainables.catalogue.sizes import Speed

MIB = 2**20

MACHINE = "one core of an AMD EPYC server"
"""Where speeds were measured. movielens-100k: epochs of 8 to 64 factors at batches 1000, 10,000 and 100,000, alone and
in packs of 4. digits: widths 8, 16 and 32 at batches 32, 64 and 512, alone and in packs of 4. fashion-mnist: width
16 at batch 1024. movielens-1m, pinterest: 64 factors at two batch sizes, on synthetic files as large as the published
ones, by a version that needed more time for a weight. vgg-19: a training pass of 32 images (62 ms each) and an
evaluation (14 ms each), both on synthetic images."""


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

_CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz"


def _cifar(archive: str, archive_md5: str, folder: str, algorithm: str, **checksums: str) -> tuple[DataFile, ...]:
    """Files of an archive with the checksum of each; its publisher gives the archive's, users of it those of files."""
    url, archive_hash = f"{_CIFAR_PAGE}/{archive}.tar.gz", f"md5:{archive_md5}"
    ending = ".bin" if archive.endswith("binary") else ""
    return tuple(
        DataFile(path=f"{folder}/{stem}{ending}", url=url, checksum=f"{algorithm}:{value}", archive_hash=archive_hash)
        for stem, value in checksums.items()
    )


_CIFAR_10 = _cifar(
    "cifar-10-binary",
    "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-batches-bin",
    "sha1",
    data_batch_1="aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    data_batch_2="c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    data_batch_3="1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    data_batch_4="aab85764eb3584312d3c7f65fd2fd016e36a258e",
    data_batch_5="26e2849e66a845b7f1e4614ae70f4889ae604628",
    test_batch="67eb016db431130d61cd03c7ad570b013799c88c",
)
_CIFAR_10_PYTHON = _cifar(
    "cifar-10-python",
    "c58f30108f718f92721af3b95e74349a",
    "cifar-10-batches-py",
    "md5",
    data_batch_1="c99cafc152244af753f735de768cd75f",
    data_batch_2="d4bba439e000b95fd0a9bffe97cbabec",
    data_batch_3="54ebc095f3ab1f0389bbae665268c751",
    data_batch_4="634d18415352ddfa80567beed471001a",
    data_batch_5="482c414d41f54cd18b22e5b47cb7c3cb",
    test_batch="40351d587109b95175f43aff81a1287e",
)
_CIFAR_100 = _cifar(
    "cifar-100-binary",
    "03b5dce01913d631647c71ecec9e9cb8",
    "cifar-100-binary",
    "sha1",
    train="e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
    test="8fb6623e830365ff53cf14adec797474f5478006",
)
_CIFAR_100_PYTHON = _cifar(
    "cifar-100-python",
    "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-python",
    "md5",
    train="16019d7e3df5f24257cddd939b257f8d",
    test="f0ef6b0ae62326f3e7ffdfab6717acfc",
)

_MOVIELENS_100K = DataFile(
    path="ml-100k/u.data",
    url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    sha256="3c61dc9b90a365d2ac50bdee9df8024ddf0eea4b1a15678d9934a77e75fe0ede",
    any_order=True,
)

_MOVIELENS_1M = DataFile(
    path="ml-1m/ratings.dat",
    url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    checksum="md5:a89aa3591bc97d6d4e0c89459ff39362",
    archive_hash="md5:c4d9eecfca2ab87c1945afe126590906",
)

_NCF = "https://raw.githubusercontent.com/hexiangnan/neural_collaborative_filtering/4aab159e81c44b062c091bdaed0ab54ac632371f/Data"
"""Split files of the NCF paper's authors; a commit of their repository names each by its content."""


def _ncf(stem: str, train: str, test: str, negative: str) -> tuple[DataFile, ...]:
    ids = {"train.rating": train, "test.rating": test, "test.negative": negative}
    return tuple(
        DataFile(path=f"ncf/{stem}.{part}", url=f"{_NCF}/{stem}.{part}", checksum=f"git:{blob}")
        for part, blob in ids.items()
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
            metrics=("accuracy", "accuracy@5"),
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
            metrics=("accuracy", "accuracy@5"),
            workload="trainables.workloads.digits:build",
            train_examples=1293,
            full_examples=1437,
            shape=_DIGITS,
            resident=1 * MIB,
            package="sklearn",
            sha256="68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2",
            speeds={"small-vgg": Speed(per_example=15e-6, per_step=0.3e-3, per_call=1.6e-3, per_work=180e-12)},
        ),
        Dataset(
            name="fashion-mnist",
            summary="70,000 images of 28x28 pixels, 10 classes",
            data="images",
            targets="classes",
            metrics=("accuracy", "accuracy@5"),
            workload="trainables.workloads.fashion_mnist:build",
            train_examples=54_000,
            full_examples=60_000,
            shape={"channels": 1, "pixels": 28, "classes": 10},
            resident=350 * MIB,  # the images, and floats of them once for their mean
            files=_FASHION_MNIST,
            download="31 MB",
            speeds={"small-vgg": Speed(per_example=20e-6, per_step=0.0, per_call=1.6e-3, per_work=180e-12)},
        ),
        *(
            Dataset(
                name=name,
                summary=f"1,281,167 + 50,000 color images, 1,000 classes (ILSVRC 2012){form}",
                data="images",
                targets="classes",
                metrics=("accuracy", "accuracy@5"),
                workload=f"trainables.workloads.image_files:{build}",
                train_examples=1_231_167,
                full_examples=1_281_167,
                shape={"channels": 3, "pixels": 224, "classes": 1000},
                resident=1200 * MIB,  # places of the images; decoded batches come on top
                folder="imagenet",
                splits="50,000 training images validate, and the published validation images are the test set",
                published="imagenet" if form else "",
            )
            for name, form, build in (
                ("imagenet", "", "build"),
                ("imagenet-resized", "; resized once, in a cache", "build_resized"),
            )
        ),
        *(
            Dataset(
                name=name,
                summary=f"60,000 color images of 32x32 pixels, {classes} classes{form}",
                data="images",
                targets="classes",
                metrics=("accuracy", "accuracy@5"),
                workload=f"trainables.workloads.cifar:{build}",
                train_examples=45_000,
                full_examples=50_000,
                shape={"channels": 3, "pixels": 32, "classes": classes},
                resident=1200 * MIB,  # the images, padded once more, and floats of them once for their mean
                files=files,
                download=download,
                speeds={"vgg-19": Speed(per_example=0.0, per_step=0.0, per_work=171e-12, per_weight=2.5e-9)},
                published=f"cifar-{classes}" if form else "",
            )
            for name, classes, form, build, files, download in (
                ("cifar-10", 10, "", "build", _CIFAR_10, "162 MB"),
                ("cifar-10-python", 10, "; its python version", "build_pickled", _CIFAR_10_PYTHON, "163 MB"),
                ("cifar-100", 100, "", "build_fine", _CIFAR_100, "161 MB"),
                ("cifar-100-python", 100, "; its python version", "build_pickled", _CIFAR_100_PYTHON, "161 MB"),
            )
        ),
        Dataset(
            name="movielens-100k",
            summary="100,000 ratings of 1,682 films by 943 users",
            data="interactions",
            targets="binary",
            metrics=("hr@10", "ndcg@10", "auc"),
            workload="trainables.workloads.movielens:build",
            train_examples=490_570,
            full_examples=495_285,
            shape={"users": 943, "items": 1682},
            resident=120 * MIB,  # an epoch's draws, and candidates
            files=(_MOVIELENS_100K,),
            download="5 MB",
            speeds={"ncf": Speed(0.14e-6, 0.0, 0.35e-3, per_work=33e-12, per_weight=4.1e-9, per_stacked=12e-12)},
        ),
        Dataset(
            name="movielens-1m",
            summary="1,000,209 ratings of 3,706 films by 6,040 users",
            data="interactions",
            targets="binary",
            metrics=("hr@10", "ndcg@10", "auc"),
            workload="trainables.workloads.movielens:build_with_colons",
            train_examples=4_940_645,
            full_examples=4_970_845,
            shape={"users": 6040, "items": 3706},
            resident=420 * MIB,  # the file as text, an epoch's draws, and candidates
            files=(_MOVIELENS_1M,),
            download="6 MB",
            speeds={"ncf": Speed(0.29e-6, 0.0, 0.8e-3, per_work=86e-12, per_weight=20e-9)},
        ),
        Dataset(
            name="movielens-1m-ncf",
            summary="the same, in the split files of NCF's authors",
            data="interactions",
            targets="binary",
            metrics=("hr@10", "ndcg@10", "auc"),
            workload="trainables.workloads.ncf_files:build",
            train_examples=4_940_645,
            full_examples=4_970_845,
            shape={"users": 6040, "items": 3706},
            resident=420 * MIB,
            files=_ncf(
                "ml-1m",
                train="31ba384fd58dac8fbd09d2dfc6616431f3563ab5",
                test="1b79e03c96710c3b0c35deb19155ef74f7965a02",
                negative="c82844fb99d021f94751a6f915a230a1e8b8da92",
            ),
            download="24 MB",
            speeds={"ncf": Speed(0.29e-6, 0.0, 0.8e-3, per_work=86e-12, per_weight=20e-9)},
            splits="test candidates as published, a repeated item counted once",
            published="movielens-1m",
        ),
        Dataset(
            name="pinterest",
            summary="1,500,809 pins of 9,916 images by 55,187 users (pinterest-20)",
            data="interactions",
            targets="binary",
            metrics=("hr@10", "ndcg@10", "auc"),
            workload="trainables.workloads.ncf_files:build",
            train_examples=6_952_175,
            full_examples=7_228_110,
            shape={"users": 55_187, "items": 9916},
            resident=650 * MIB,
            files=_ncf(
                "pinterest-20",
                train="99813f8ed7486c36fa0f405e3f400db5d6fed0be",
                test="87fdbd13bced61c51f2842e2a667e83b9b0084e3",
                negative="b752ccdc14df423b9484771440ff4a73e4a4a304",
            ),
            download="50 MB",
            speeds={"ncf": Speed(0.29e-6, 0.0, 0.8e-3, per_work=142e-12, per_weight=18e-9)},
            splits="test candidates as published; files without times, so a fixed random item of each user validates",
        ),
    )
}
