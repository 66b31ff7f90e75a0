"""The columns of the catalogue: what planning, training and comparing must know of each thing, without importing it.

Code is named as "package.module:attribute" and resolved in the process that trains; everything else here is plain
data, so that a plan, a comparison or a dashboard never executes what a plug-in brings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from trainables.catalogue.sizes import Footprint, Speed

Direction = Literal["maximize", "minimize"]
Role = Literal["schedule", "control", "loss", "rule"]
Value = bool | int | float | str
Code = str
"""Where an object is, "package.module:attribute"."""

IMPORTED = "imported:"
"""Beginning of `Dataset.workload` of results of another program; a digest of them follows."""

COLOR = "#a067b1"
"""Of a rule that names no color of its own, and of a method that no row describes."""

MOST_DIGITS = 15
"""Decimals of a metric in a table: no number of a ledger has more."""


def _check_color(color: str) -> None:
    if not re.fullmatch("#[0-9a-fA-F]{6}", color):
        raise ValueError(f"color must be written as '#rrggbb', such as '{COLOR}', got '{color}'")


@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """A number that a grid may vary.

    Args:
        name: key in a search space.
        label: name on an axis; the name itself if "".
        default: value where a grid leaves it out; None if a grid must give it.
        positive: whether 0 makes no sense: a rate of 0 trains nothing, an epsilon of 0 divides by it.
        below_one: whether 1 makes no sense: an average over time never forgets, a smoothed label is gone.
    """

    name: str
    label: str = ""
    default: float | None = None
    positive: bool = False
    below_one: bool = False


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An update rule: what it keeps and how it turns a gradient into a direction.

    Args:
        name, label: key and printed name.
        color: of the methods built on it, as "#rrggbb".
        direction: the function, see `trainables.optimizers.rules.Direction`; "" for a torch class, and where a training
            function makes its own steps, with hyperparameters of its own.
        state: names of its buffers, each as large as the weights.
        hyperparameters: its own, such as momentum.
        trust_ratio: whether a direction is given the norm of its weights (LAMB).
        trust_clip: whether that ratio is at most 1, and left out for tensors of one dimension (LAMB+).
        kernel: its number in kernels.c and gpu_kernels.py; None where plain operations make every step.
        optimizer: the torch optimizer class that makes the steps instead of `direction`, with `hyperparameters` as
            arguments, one trial at a time; "" for none.
        code: digest of the source files of that class where they travel with the trials; "" where it is installed.
    """

    name: str
    label: str
    direction: Code
    state: tuple[str, ...]
    hyperparameters: tuple[Hyperparameter, ...] = ()
    color: str = COLOR
    trust_ratio: bool = False
    trust_clip: bool = False
    kernel: int | None = None
    optimizer: Code = ""
    code: str = ""

    def __post_init__(self) -> None:
        """Refuses a color that no figure could draw."""
        _check_color(self.color)


@dataclass(frozen=True, kw_only=True)
class Control:
    """What keeps weights small.

    Args:
        name, label: key and printed name.
        side: what its methods are called together where they are compared; the label if "".
        hook: a `trainables.optimizers.controls.Control`, or a class of one whose arguments are `hyperparameters`.
        hyperparameters: that a method with this control has; not `switch`.
        tensors: which tensors it holds, a value of `constrain`; "" for those that the space's `constrain` names.
        switch: hyperparameter that says how many epochs are trained before the control begins; None if it acts from
            the start.
    """

    name: str
    label: str
    hook: Code
    side: str = ""
    hyperparameters: tuple[Hyperparameter, ...] = ()
    tensors: str = ""
    switch: Hyperparameter | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """What `[optimizers.<name>]` of a space names: a rule, a control, and parameters of the loss.

    Args:
        name, label: key and printed name.
        rule, control: what it is made of; None for no control.
        loss: parameters of the loss that it sets; those of `ANY_LOSS` work with every loss.
        defaults: hyperparameter → value that replaces its row's default.
        baseline: name of the method it is compared with; "" if it is a baseline itself.
        color: as "#rrggbb"; that of its rule if "".
        formula, source, choice: its step in one line, where it comes from, and what of it is our choice, for
            docs/methods.md.
        face: the torch optimizer that makes its steps, as Python over `params` (or the `hidden` of them and `others`),
            `lr`, hyperparameters and `free_steps`, the steps before the control begins; "" for none.
    """

    name: str
    label: str
    rule: Rule
    control: Control | None = None
    loss: tuple[Hyperparameter, ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)
    baseline: str = ""
    color: str = ""
    formula: str = ""
    source: str = ""
    choice: str = ""
    face: str = ""

    def __post_init__(self) -> None:
        """Refuses a color that no figure could draw."""
        if self.color:
            _check_color(self.color)

    @property
    def shown_color(self) -> str:
        """Color in figures."""
        return self.color or self.rule.color

    @property
    def switch(self) -> str | None:
        """Name of the hyperparameter that says how many epochs are free of the control."""
        return self.control.switch.name if self.control and self.control.switch else None

    def roles(self) -> Iterator[tuple[Role, Hyperparameter]]:
        """Yields every hyperparameter with its role, in the order in which they are listed."""
        control = self.control.hyperparameters if self.control else ()
        switch = self.control.switch if self.control else None
        parts: tuple[tuple[Role, tuple[Hyperparameter, ...]], ...] = (
            ("schedule", SCHEDULE if self.rule.direction or self.rule.optimizer else ()),
            ("control", control if switch is None else (switch, *control)),
            ("loss", self.loss),
            ("rule", self.rule.hyperparameters),
        )
        for role, rows in parts:
            yield from ((role, row) for row in rows)

    @cached_property
    def hyperparameters(self) -> Mapping[str, float | None]:
        """Name → default, None for one that a grid must give."""
        return {row.name: self.defaults.get(row.name, row.default) for _, row in self.roles()}

    @property
    def required(self) -> tuple[str, ...]:
        """Hyperparameters without a default."""
        return tuple(name for name, default in self.hyperparameters.items() if default is None)

    def names(self, role: Role) -> tuple[str, ...]:
        """Returns the hyperparameters of one role."""
        return tuple(row.name for kind, row in self.roles() if kind == role)

    def complete(self, given: Mapping[str, float]) -> dict[str, float]:
        """Returns all hyperparameters of a point, defaults included.

        Raises:
            ValueError: one is unknown or missing.
        """
        known = self.hyperparameters
        values = {**known, **given}
        if len(values) > len(known):
            unknown = [name for name in given if name not in known]
            raise ValueError(f"{self.name} has {', '.join(known)}, got {', '.join(unknown)}")
        if missing := [name for name, value in values.items() if value is None]:
            raise ValueError(f"{self.name} requires {', '.join(missing)}")
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of single examples.

    Args:
        name, label: key and printed name.
        targets: kind of targets it takes, such as "classes" or "binary"; several are joined by "|".
        function: outputs [B, ...], targets [B] and its parameters by name (numbers without dimensions) → [B].
        parameters: that a method may set.
        values: parameters that this row sets, the same for all trials of a space.
    """

    name: str
    label: str
    targets: str
    function: Code
    parameters: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    def fits(self, dataset: Dataset) -> bool:
        """Whether it takes the targets of a data set."""
        return dataset.targets in self.targets.split("|")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of merit on a split: its direction, its unit, and how many digits a table shows."""

    name: str
    label: str
    direction: Direction
    unit: str = ""
    digits: int = 2

    def __post_init__(self) -> None:
        """Refuses a number of digits that no table could show."""
        if not 0 <= self.digits <= MOST_DIGITS:
            raise ValueError(f"digits must be a whole number from 0 to {MOST_DIGITS}, got {self.digits}")

    @property
    def margin(self) -> float | None:
        """Difference below which methods count as equivalent where a space says nothing: half a point (our choice)."""
        return 0.5 if self.unit == "%" else None


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Something without training that a data set's methods are shown next to; its workload measures it."""

    name: str
    label: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a model: its default, whose type is its type, and the values allowed, if they are few."""

    name: str
    default: Value
    choices: tuple[Value, ...] = ()


Shape = Mapping[str, int]
"""What a model must know of a data set: channels, pixels and classes of images; users and items of interactions."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model.

    Args:
        name, label: key and printed name.
        data: kind of data set it fits, such as "images".
        build: a function of the shape and the options, by keyword, that returns a fresh `nn.Module` on the CPU.
        options: keys of `[model]` besides `name`.
        footprint: its size, or how that follows from the options and the shape; None where it is not known.
        largest_pack: most trials that one worker should train at once; 1 where a single one fills a device, so that
            stacked ones would only take their memory.
    """

    name: str
    label: str
    data: str
    build: Code
    options: tuple[Option, ...] = ()
    footprint: Footprint | Callable[[Mapping[str, Value], Shape], Footprint] | None = None
    largest_pack: int = 16

    def __post_init__(self) -> None:
        """Refuses packs of nothing."""
        if self.largest_pack < 1:
            raise ValueError(
                f"largest_pack of model {self.name} must be a whole number from 1, got {self.largest_pack}"
            )


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of a data set.

    Args:
        path: place in the data folder.
        url: a .zip or .tar.gz with the member `path`, or the file itself, plain or as .gz; "" where it has none.
        sha256: of the content; with `any_order` of its lines sorted and each ended by a newline.
        checksum: instead of `sha256`, where its publisher names another: "md5:...", "sha1:...", or "git:..." for its id
            in a repository.
        any_order: True if the order of lines carries no meaning.
        archive_hash: "md5:..." of the archive where its publisher names one.
    """

    path: str
    url: str
    sha256: str = ""
    checksum: str = ""
    any_order: bool = False
    archive_hash: str | None = None

    def __post_init__(self) -> None:
        """Refuses a file that nothing could verify."""
        if bool(self.sha256) == bool(self.checksum):
            raise ValueError(f"file {self.path} requires either sha256 or checksum")
        if self.checksum and not self.checksum.startswith(("md5:", "sha1:", "git:")):
            raise ValueError(f"checksum of {self.path} must begin with md5:, sha1: or git:, got '{self.checksum}'")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set with the workload that trains on it.

    Args:
        name: key.
        summary: what it holds, for people.
        data: kind of data, which a model must fit.
        targets: kind of targets, which a loss must fit.
        metrics: what its workload reports on validation and test, the paper's one first.
        workload: a function (task, data_dir, device) → `trainables.workloads.base.Workload`.
        code: digest of the source files of a user's workload, which brings data, model and loss, or of a training
            function, which `workload` then names and which takes a `functions.trial.FunctionTrial`; "" for others.
        train_examples: examples in one epoch on train, sampled negatives included.
        full_examples: the same on train + validation.
        shape: what models must know of it.
        resident: bytes of the examples in memory, with what is made of them when they are read and each epoch.
        files: what has to be on disk.
        download: size of what is downloaded, for people; "" if nothing is.
        package: installed package that carries it instead; "" if it needs none.
        sha256: of what is read from the package or the folder; "" if it has files or is generated, or is not known.
        folder: place in the data folder of images in class folders, see `trainables.image_folders`; "" for other data.
        speeds: model → speed measured on `MACHINE`.
        splits: how it is split, for people, where that must be known to read its results.
        published: its name among the paper's published values, if it has another there.
    """

    name: str
    summary: str
    data: str
    targets: str
    metrics: tuple[str, ...]
    workload: Code
    train_examples: int
    full_examples: int
    shape: Shape = field(default_factory=dict)
    resident: int = 0
    files: tuple[DataFile, ...] = ()
    download: str = ""
    package: str = ""
    sha256: str = ""
    folder: str = ""
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    splits: str = ""
    published: str = ""
    code: str = ""

    @property
    def imported(self) -> bool:
        """True for results of another program, which nothing here can train."""
        return self.workload.startswith(IMPORTED)

    @property
    def bundled(self) -> bool:
        """True when nothing has to be fetched."""
        return not self.files and not self.folder

    @property
    def decoded(self) -> int:
        """Bytes of an image of a folder once it is decoded; 0 for other data, which is held as it is trained on."""
        return self.shape["channels"] * self.shape["pixels"] ** 2 if self.folder else 0

    @property
    def digest(self) -> str:
        """sha256 of its content, or of the checksums of its files in their order; "" if generated."""
        checksums = [file.sha256 or file.checksum for file in self.files] or [self.sha256]
        alone = len(checksums) == 1 and ":" not in checksums[0]
        return checksums[0] if alone else hashlib.sha256("".join(checksums).encode()).hexdigest()


SCHEDULE: tuple[Hyperparameter, ...] = (
    Hyperparameter(name="peak_lr", label="peak learning rate", positive=True),
    Hyperparameter(name="warmup_epochs", label="warm-up epochs"),
)
"""What every method has: the loop turns them into learning rates."""

FLOOD = "flood_level"
"""Parameter of the loss that acts on the mean of the whole batch: abs(L - b) + b."""

LOGIT_FACTOR = "logit_factor"
"""Parameter of the loss that multiplies a model's outputs once its control has begun: α of Figure 1."""

ANY_LOSS = (FLOOD, LOGIT_FACTOR)
"""Parameters that work with every loss."""
