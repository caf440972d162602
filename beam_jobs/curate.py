"""`reelmill curate`: raw video in; clip shards, a ledger of everything, and a report out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from beam_jobs.child import CHILDREN, num_cores
from beam_jobs.imports import lasting
from beam_jobs.job import CurateJob, model_devices, versions
from beam_jobs.run_lock import only_run
from beam_jobs.unchanged import key_of, unchanged
from curation.manifest import read_sources
from curation.settings import CURATE, CurateSettings
from schemas.records import Source

_FEW = 100  # inputs; below it the imports of worker processes, some 4 s for each, take longer than they save


def main(argv: Sequence[str]) -> int:
    """Runs `reelmill curate` and returns its exit status: 0 done, 1 the run failed.

    Raises:
        ValueError, FileNotFoundError: wrong usage.
        RuntimeError: the job broke.
    """
    settings, flags = CURATE.parse(argv)
    return curate(settings, flags)


def curate(settings: CurateSettings, flags: Sequence[str]) -> int:
    """A run of these settings, on what Beam makes of the flags; returns the exit status.

    Raises:
        ValueError, FileNotFoundError: the input, a model or a flag is wrong.
        RuntimeError: the job broke.
    """
    sources, excluded = read_sources(settings), read_excluded(settings)
    flags = [*settings.engine.as_flags(), *flags]
    options = _options(flags, settings, sources) if flags else None
    job = CurateJob.of(settings)
    if settings.plan:
        from beam_jobs.plan import print_plan

        print_plan(job, sources)
        return 0
    with only_run(job.settings.output):
        key = key_of(
            (job.fingerprints, job.shown, job.removals.rows, job.folder, versions(settings)), (*sources, *excluded)
        )
        finished = unchanged(job.settings.output, "run.json", key)
        if finished is not None:
            print(
                f"nothing to do: all is finished and in its place\n{finished.summary} → {settings.output}", flush=True
            )
            return finished.status
        if options is None and _few(settings, sources):
            CHILDREN.own_all(min(num_cores(), len(sources)))  # their imports take seconds as well, beside Beam's
        with lasting():
            from beam_jobs.curate_run import run_whole  # Beam takes seconds to import: only where it runs

        return run_whole(job, options or _options(flags, settings, sources), sources, excluded, key)


def _options(flags: Sequence[str], settings: CurateSettings, sources: Sequence[Source]) -> Any:
    """Beam's options, on an engine that is there and sees the input and the output."""
    from beam_jobs.engines import check_engine, first_local
    from beam_jobs.runner import beam_options

    options = beam_options(flags, len(sources), light=_few(settings, sources))
    places = {"input": first_local(source.uri for source in sources), "output": settings.output}
    check_engine(options, places, model_devices(settings))
    return options


def _few(settings: CurateSettings, sources: Sequence[Source]) -> bool:
    """Whether the local workers stay in this process."""
    return len(sources) <= _FEW and not _has_models(settings)


def _has_models(settings: CurateSettings) -> bool:
    """Whether the workers themselves compute; all else that is heavy is done in processes of its own."""
    return bool(model_devices(settings)) or settings.nsfw.enabled


def read_excluded(settings: CurateSettings) -> list[Source]:
    """The inputs of the evaluation set; none where none is named.

    Raises:
        ValueError, FileNotFoundError: it is not there or cannot be read.
    """
    return read_sources(replace(settings, input=settings.exclude, limit=None)) if settings.exclude else []
