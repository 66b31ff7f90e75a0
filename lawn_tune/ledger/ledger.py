"""The ledger: the only memory of the service. Our tables first, then the Optuna studies that people look at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, inspect

from lawn_tune.cells import Cell, CellName, Packing, Phase
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import leases, packs, reads, roster, trials
from lawn_tune.ledger.curves import Curve
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.leases import Lease
from lawn_tune.ledger.owners import Owner
from lawn_tune.ledger.packs import PackRow
from lawn_tune.ledger.patience import Patience, patient
from lawn_tune.ledger.schema import open_schema
from lawn_tune.results import Outcome, TrialRow
from trainables.examples import Outcomes
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import Trial

if TYPE_CHECKING:
    from lawn_tune.ledger.mirror import Mirror

_logger = logging.getLogger(__name__)


class Ledger:
    """Keeps cells, packs, trials, curves and leases in one database; also a `results.ResultSource`.

    - Every write is one transaction: after any crash it happened or did not. Results reach our tables and the Optuna
      studies together; if a study cannot be written, our tables alone, and `reconcile` adds what it lacks.
    - Every write may be repeated without effect, so a driver whose ledger has `patience` repeats what an outage cut
      short, without knowing whether it had happened.
    - A driver that lost its lease writes nothing more: where a pack or an owner is given, the lease is checked
      in the transaction of the write itself.
    - A finished trial (complete or diverged) never changes again; a second report of it is ignored.
    - Writes that belong to a cell are made by the driver that leases it. `lease`, `renew`, `release` and all reads may
      come from any thread; everything else from one.

    Every method raises LedgerError when the database fails. Its text never holds a password.

    Args:
        database: where it lives.
        patience: how to wait for a database that cannot be reached; None, as for readers, does not wait.
    """

    def __init__(self, database: Database, patience: Patience | None = None) -> None:
        self._database, self.patience = database, patience
        self._opened_mirror: Mirror | None = None
        self._launched: dict[CellName, Cell] = {}

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes every connection; may be called twice."""
        try:
            if self._opened_mirror is not None:
                self._opened_mirror.close()
        finally:
            self._database.close()

    # --- planning --------------------------------------------------------------------------------------------------

    @patient
    def register(self, cells: Sequence[Cell]) -> None:
        """Stores the cells of a launch: their definitions, their order and their search trials.

        Trials that another space has trained already belong to these cells from now on as well.
        """
        with self._database.writing() as connection:
            roster.register(connection, cells)
            studied = inspect(connection).has_table("studies")
        self._launched |= {cell.name: cell for cell in cells}
        if studied:
            self._mirror.repair(cells)

    @patient
    def assign(self, cell: CellName, phase: Phase, added: Sequence[Trial]) -> None:
        """Records that trials belong to a cell, whether they will be trained here or were trained for another space.

        `register` does this for search trials, `record_packs` for those it is given.
        """
        defined = self._cell(cell)
        with self._database.writing() as connection:
            roster.assign(connection, defined, phase, added)

    @patient
    def packings(self, cells: Sequence[Cell]) -> Mapping[CellName, Packing]:
        """Returns how large the packs of cells are, for those whose plan is the one that this was recorded for."""
        with self._database.reading() as connection:
            return roster.packings(connection, cells)

    @patient
    def record_packings(self, cells: Sequence[Cell], replacing: bool = False) -> Mapping[CellName, Packing]:
        """Records how large the packs of registered cells are, and returns what is recorded then.

        Args:
            cells: with their packing.
            replacing: False to keep what another launch recorded for the same plan.
        """
        with self._database.writing() as connection:
            return roster.pack(connection, cells, replacing)

    @patient
    def record_packs(self, cell: CellName, phase: Phase, packed: Sequence[Sequence[Trial]]) -> tuple[PackRow, ...]:
        """Records packs and returns all of the cell's phase in recorded order.

        A trial that is in a recorded pack (not a split one) stays in it; what is left of its new pack is recorded.
        """
        defined = self._cell(cell)
        with self._database.writing() as connection:
            roster.assign(connection, defined, phase, [trial for pack in packed for trial in pack])
            packs.add(connection, cell, phase, [[trial.key for trial in pack] for pack in packed])
            return packs.read(connection, cell, phase)

    @patient
    def packs(self, cell: CellName, phase: Phase) -> tuple[PackRow, ...]:
        """Returns the recorded packs of a cell's phase, split ones included, in recorded order."""
        with self._database.reading() as connection:
            return packs.read(connection, cell, phase)

    @patient
    def split_pack(self, pack: PackRow, parts: int = 2) -> tuple[PackRow, ...]:
        """Puts smaller packs in the place of one that cannot be trained at once.

        Args:
            parts: how many, at most one a trial.

        Raises:
            ValueError: the pack holds one trial only.
        """
        if len(pack.keys) < 2:
            raise ValueError(f"pack {pack.id} holds one trial and cannot be split")
        with self._database.writing() as connection:
            leases.check(connection, pack.cell, pack.holder)
            trials.forget_progress(connection, pack)
            trials.take_back(connection, pack.cell, pack.id)
            return packs.split(connection, pack, parts)

    # --- leases ----------------------------------------------------------------------------------------------------

    def lease(self, cell: CellName, owner: Owner, seconds: float) -> bool:
        """Leases a registered cell for `seconds`; True if it was free, expired, ours, or its owner is provably dead.

        Like `renew` it never waits for a database: a driver that waited must not take what its holder could not renew
        meanwhile.
        """
        self._cell(cell)
        with self._database.writing() as connection:
            return leases.take(connection, cell, owner, seconds)

    def renew(self, owner: Owner, seconds: float) -> frozenset[CellName]:
        """Extends every lease of `owner` to `seconds` from now and returns the cells it still holds; never waits.

        A driver must stop its work on a cell that is not among them: another one has begun the same packs.
        """
        with self._database.writing() as connection:
            return leases.renew(connection, owner, seconds)

    @patient
    def release(self, cell: CellName, owner: Owner) -> None:
        """Gives a lease back; nothing happens if it is another's by now."""
        with self._database.writing() as connection:
            leases.release(connection, cell, owner)

    @patient
    def leases(self) -> Mapping[CellName, Lease]:
        """Returns who works on what, for `status`."""
        with self._database.reading() as connection:
            return leases.held(connection)

    # --- training --------------------------------------------------------------------------------------------------

    @patient
    def begin(self, pack: PackRow, members: Sequence[Trial], owner: Owner | None = None) -> PackRow:
        """Counts one more attempt at a pack and marks its unfinished trials as running; returns the pack as it is now.

        Args:
            pack: the pack as read, or as begun before.
            members: its trials.
            owner: who leases its cell; what is written of the returned pack is refused once another does. None writes
                without a lease.

        Raises:
            ValueError: members are not the trials of the pack.
            LeaseLost: the cell is not the owner's.
        """
        if tuple(trial.key for trial in members) != pack.keys:
            raise ValueError(f"pack {pack.id} holds {pack.keys}, got {[trial.key for trial in members]}")
        pack = replace(pack, holder=owner.token if owner else "")
        with self._database.writing() as connection:
            leases.check(connection, pack.cell, pack.holder)
            now = packs.get(connection, pack)
            counted = now.state == "running" and now.attempts == pack.attempts + 1  # by this call, before an outage
            begun = replace(now, state="running", attempts=now.attempts + (not counted))
            packs.change(connection, pack, state=begun.state, attempts=begun.attempts)
            trials.start(connection, begun)
            return begun

    @patient
    def progress(self, pack: PackRow, records: Sequence[EpochRecord]) -> None:
        """Stores epochs of a running pack; a record repeated after a resume replaces that epoch and all after it.

        Raises:
            LeaseLost: the cell is no longer that of the driver that began the pack; so do `finish`, `fail` and
                `split_pack`.
        """
        if not records:
            return
        with self._database.writing() as connection:
            if packs.is_running(connection, pack):
                trials.follow(connection, pack, records)

    @patient
    def finish(self, pack: PackRow, outcomes: Sequence[TrialOutcome], provenance: Mapping[str, Any]) -> None:
        """Stores the outcomes of a pack's trials with their curves and examples, then shows them in the study.

        Args:
            pack: the pack as `begin` returned it.
            outcomes: one a trial; those of trials that are finished already are ignored.
            provenance: plain JSON values; "started" and "ended" are added where missing.

        Raises:
            ValueError: an outcome is of no trial of the pack.
        """
        unknown = [outcome.key for outcome in outcomes if outcome.key not in pack.keys]
        if unknown:
            raise ValueError(f"pack {pack.id} holds {pack.keys}, got an outcome of {unknown}")

        def write(connection: Connection) -> None:
            leases.check(connection, pack.cell, pack.holder)
            trials.finish(connection, pack, outcomes, provenance)
            if trials.all_finished(connection, pack.keys):
                packs.change(connection, pack, state="finished")
                trials.forget_progress(connection, pack)

        self._write_and_show(pack, write)

    @patient
    def fail(self, pack: PackRow, error: str) -> None:
        """Marks the unfinished trials of a pack as failed, to be tried again by a later launch.

        Args:
            pack: the pack as `begin` returned it.
            error: for people; characters that no database stores are replaced.
        """
        readable = _storable(error)

        def write(connection: Connection) -> None:
            leases.check(connection, pack.cell, pack.holder)
            trials.fail(connection, pack, readable)
            if not trials.all_finished(connection, pack.keys):
                packs.change(connection, pack, state="failed", error=readable)

        self._write_and_show(pack, write)

    @patient
    def reconcile(self, cell: CellName, owner: Owner | None = None) -> None:
        """Repairs what a dead driver left: its running trials wait again, and the studies get what they lack.

        Called at the start of work on a cell, under its lease. A start that died with its driver does not count as
        an attempt; what its trials had learned stays readable until they start again.

        Raises:
            LeaseLost: the cell is not the owner's, where one is given.
        """
        defined = self._cell(cell)
        with self._database.writing() as connection:
            leases.check(connection, cell, owner.token if owner else "")
            trials.take_back(connection, cell)
            packs.take_back(connection, cell)
        self._mirror.sync(defined, "search")
        self._mirror.sync(defined, "confirm")

    # --- reading ---------------------------------------------------------------------------------------------------

    @patient
    def outcomes(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Returns key → outcome for the keys that were started, whatever space they were trained for."""
        with self._database.reading() as connection:
            return reads.outcomes(connection, keys)

    @patient
    def spaces(self) -> tuple[str, ...]:
        """See `ResultSource.spaces`."""
        with self._database.reading() as connection:
            return roster.spaces(connection)

    @patient
    def latest(self) -> str:
        """See `ResultSource.latest`."""
        with self._database.reading() as connection:
            return reads.latest(connection)

    @patient
    def cells(self, space: str) -> tuple[Cell, ...]:
        """See `ResultSource.cells`."""
        with self._database.reading() as connection:
            return reads.cells_of(connection, space)

    @patient
    def trials(self, space: str) -> tuple[TrialRow, ...]:
        """See `ResultSource.trials`."""
        with self._database.reading() as connection:
            return reads.trial_rows(connection, space)

    @patient
    def curves(self, keys: Sequence[str]) -> dict[str, Curve]:
        """See `ResultSource.curves`."""
        with self._database.reading() as connection:
            return reads.curves_of(connection, keys)

    @patient
    def examples(self, keys: Sequence[str]) -> dict[str, Outcomes]:
        """See `ResultSource.examples`."""
        with self._database.reading() as connection:
            return reads.examples_of(connection, keys)

    @patient
    def version(self, space: str) -> str:
        """See `ResultSource.version`."""
        with self._database.reading() as connection:
            return reads.version(connection, space)

    def _write_and_show(self, pack: PackRow, write: Callable[[Connection], None]) -> None:
        """Writes how trials ended, and their study, in one transaction; a study that fails costs no result."""
        cell, shown = self._cell(pack.cell), False
        try:
            if self._mirror.ready():
                with self._database.writing() as connection:
                    write(connection)
                    shown = self._mirror.add(connection, cell, pack.phase, pack.keys)
                if shown:
                    return
        except LedgerError:
            pass
        with self._database.writing() as connection:
            write(connection)
        self._mirror.sync(cell, pack.phase)

    @property
    def _mirror(self) -> Mirror:
        if self._opened_mirror is None:
            from lawn_tune.ledger.mirror import Mirror  # brings Optuna, which readers do without

            self._opened_mirror = Mirror(self._database, self.patience.say if self.patience else _logger.warning)
        return self._opened_mirror

    def _cell(self, name: CellName) -> Cell:
        """Returns a cell as this driver launched it; another may have launched it differently since."""
        if name not in self._launched:
            with self._database.reading() as connection:
                self._launched[name] = roster.definition(connection, name)
        return self._launched[name]


def open_ledger(url: str, create: bool = True, patience: Patience | None = None) -> Ledger:
    """Opens the ledger at a database URL and brings its tables up to date.

    Args:
        url: `sqlite:///path` or `postgresql://user@host/database`.
        create: create a ledger where there is none; False for readers.
        patience: how the opened ledger waits for its database; opening itself does not.

    Raises:
        UsageError: the URL names nothing that can hold a ledger.
        LedgerError: there is no ledger, it is newer than this version, or the database cannot be used.
    """
    database = Database(url)
    try:
        open_schema(database, create)
    except LedgerError:
        database.close()
        raise
    return Ledger(database, patience)


def _storable(text: str) -> str:
    """Replaces NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
