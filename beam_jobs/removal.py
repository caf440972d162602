"""A takedown from what is named to what is gone: tombstones, then the run, then its token data sets, then the units."""

from contextlib import ExitStack
from dataclasses import dataclass

from beam_jobs.purge import purge_run
from beam_jobs.run_lock import only_run
from beam_jobs.takedown import Barred, barred_by, manifest_text, take_down
from beam_jobs.tombstones import Tombstones
from curation.removals import Removals, read_removals, write_removals
from curation.run_settings import RemoveSettings
from schemas.run import RunInfo


@dataclass(frozen=True)
class Removed:
    """What a takedown came to, or (dry) would come to."""

    new: int  # tombstones that were not there before
    sources: int
    clips: int
    shards: int  # of clips
    samples: int  # of token data sets
    units: int


def remove(settings: RemoveSettings) -> Removed:
    """Does what the settings ask for. Stopped at any moment and called again, it ends as if it had not been stopped.

    Raises:
        ValueError, FileNotFoundError: there is no such run, data set, source or clip; nothing was touched.
        RuntimeError: the run's sums do not add up afterwards, or another run is working in one of the folders.
    """
    _manifest(settings.run, "run.json", "reelmill curate")  # before a lock is put where no run is
    for folder in settings.tokens:
        _manifest(folder, "dataset.json", "reelmill tokenize")
    with ExitStack() as locks:
        for folder in dict.fromkeys((settings.run, *settings.tokens)):
            locks.enter_context(only_run(folder))
        return _remove(settings)


def _remove(settings: RemoveSettings) -> Removed:
    text = _manifest(settings.run, "run.json", "reelmill curate")
    run, known = RunInfo.from_json(text), read_removals(settings.run)
    found = Tombstones(settings.run, run, settings.reason, settings.copies).of(settings.target, known)
    new = {(row.kind, row.removed_id): row for row in reversed(found)}  # what was asked for wins over what it brought
    removals = Removals((*known.rows, *new.values()))
    if settings.dry_run:
        barred = barred_by(settings.run, removals)
        return _told(len(new), barred, _count_samples(settings, barred, removals), 0)
    write_removals(settings.run, removals.rows)
    barred = take_down(settings.run, removals)
    samples = _take_samples(settings, barred, removals)
    units = purge_run(settings.run, removals, barred.clip_ids, run.fingerprints)
    return _told(len(new), barred, samples, units)


def _told(new: int, barred: Barred, samples: int, units: int) -> Removed:
    return Removed(new, len(barred.sources), len(barred.clips), len(barred.shards), samples, units)


def _manifest(folder: str, name: str, command: str) -> str:
    """What a finished run or data set says of itself.

    Raises:
        FileNotFoundError: it is not finished, and no takedown has stopped there either.
    """
    text = manifest_text(folder, name)
    if text is None:
        raise FileNotFoundError(
            f"no {name} in {folder}: it is no folder that `{command}` has finished; let it finish first"
        )
    return text


def _count_samples(settings: RemoveSettings, barred: Barred, removals: Removals) -> int:
    if not settings.tokens:
        return 0
    from beam_jobs.token_takedown import count_samples  # torch is imported only where there are tokens

    return sum(count_samples(folder, barred.clip_ids, removals) for folder in settings.tokens)


def _take_samples(settings: RemoveSettings, barred: Barred, removals: Removals) -> int:
    if not settings.tokens:
        return 0
    from beam_jobs.token_takedown import take_down_tokens

    return sum(take_down_tokens(folder, barred.clip_ids, removals, settings.run) for folder in settings.tokens)
