"""Settings → executor: the only table of executors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from lawn_tune.errors import UsageError
from lawn_tune.executors.base import Executor
from lawn_tune.executors.machine import machine_cpus, machine_gpus, unlisted_gpus
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.slots import Slots, report_seconds, slots_of
from lawn_tune.executors.surroundings import ensure_home, prepare_local_ray
from lawn_tune.settings import Settings
from trainables import image_folders


def planned_workers(settings: Settings, slots: Slots) -> int | None:
    """Returns how many jobs run at once; None for a cluster, which is asked for them and for its GPUs."""
    if _kind(settings) == "inline":
        return 1
    return None if settings.ray_address else slots.count


def on_gpus(settings: Settings) -> bool:
    """Returns whether a launch trains on GPUs; a cluster is taken to have some until it is joined."""
    if settings.gpus is None:
        return settings.ray_address is not None or settings.gpus_per_trial > 1 or machine_gpus() > 0
    return settings.gpus > 0


def build_executor(
    settings: Settings,
    slots: Slots,
    connected: Callable[[int, bool], None] = lambda count, on_gpu: None,
    code: Mapping[str, bytes] | None = None,
) -> Executor:
    """Returns the executor that the settings ask for.

    Args:
        settings: of the launch.
        slots: how this machine is divided among jobs; a cluster is asked for its own.
        connected: called with the number of jobs at once and whether they have GPUs, before the first is asked for.
        code: sources of training functions and optimizer classes, see `WorkerSettings`.

    Raises:
        UsageError: Ray is asked for and not installed or cannot start here.
    """
    worker = WorkerSettings(
        data_dir=str(settings.data_dir.resolve()),
        checkpoint_dir=checkpoint_place(settings),
        checkpoint_seconds=settings.checkpoint_seconds,
        checkpoint_steps=settings.checkpoint_steps,
        fetch_data=settings.fetch_data,
        threads=slots.cpus,
        report_seconds=report_seconds(slots.count),
        use_gpu=slots.gpus > 0,
        ranks=settings.gpus_per_trial,
        flattening=settings.flattening,
        progress_seconds=60 * settings.progress_timeout,
        code=dict(code or {}),
    )
    return _inline(worker) if _kind(settings) == "inline" else _ray(worker, slots, settings, connected)


def _kind(settings: Settings) -> str:
    if settings.executor == "auto":
        return "ray" if find_spec("ray") else "inline"
    return settings.executor


def checkpoint_place(settings: Settings) -> str:
    """Returns where packs keep their checkpoints: an absolute folder, or a URL."""
    return settings.checkpoints or str(settings.work_dir.resolve() / "checkpoints")


def machine_slots(settings: Settings) -> Slots:
    """Returns how this machine is divided among jobs.

    Raises:
        UsageError: more GPUs are asked for than this machine has, or a trial is to have more than there are to use.
    """
    here, per_trial = machine_gpus(), settings.gpus_per_trial
    gpus = here if settings.gpus is None else settings.gpus
    needed = per_trial * (settings.workers or 1)
    if settings.ray_address is None and per_trial > 1 and gpus < needed:
        whose = "this machine has" if settings.gpus is None else "--gpus gives"
        jobs = f"{settings.workers} packs at once need {needed} GPUs" if settings.workers else "a pack needs as many"
        text = f"--gpus-per-trial {per_trial}: {jobs}, and {whose} {gpus}"
        raise UsageError(text, "Lower --gpus-per-trial or --workers; with --ray-address, a cluster's GPUs count.")
    if settings.ray_address is None and gpus > here and not unlisted_gpus():
        text = f"--gpus: this machine has {here} NVIDIA GPUs, got {gpus}"
        raise UsageError(text, "Leave --gpus out to use what is there; with --ray-address, a cluster's GPUs count.")
    return slots_of(settings.workers, machine_cpus(), gpus, per_trial)


def _inline(worker: WorkerSettings) -> Executor:
    from lawn_tune.executors.inline import InlineExecutor  # brings torch

    return InlineExecutor(worker)


def _ray(worker: WorkerSettings, slots: Slots, asked: Settings, connected: Callable[[int, bool], None]) -> Executor:
    if not find_spec("ray"):
        raise UsageError(
            "the executor is 'ray', but Ray is not installed", "pip install 'lawn-tune[ray]', or use inline."
        )
    if asked.ray_address is None:
        prepare_local_ray()
    ensure_home()
    image_folders.forget()  # checked here, and trained on by others
    from lawn_tune.executors.ray_tune import RayTuneExecutor  # brings Ray

    return RayTuneExecutor(
        settings=worker,
        slots=slots,
        work_dir=asked.work_dir,
        address=asked.ray_address,
        most_jobs=asked.workers,
        most_gpus=asked.gpus,
        connected=connected,
    )
