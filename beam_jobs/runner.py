"""Which runner a job goes to, and what the flags say that are Beam's and not ours.

Without `--runner` a job runs on Beam's `FnApiRunner` with one process per core. Beam's own default on one machine is
Prism where it can be downloaded. The 11 edited videos of the development media (6.4 minutes, 131 clips kept and cut) on
2 cores that other work shared, load 9–14:

    runner                     wall        processor time    memory
    FnApiRunner, processes     145–168 s   79–80 s           one decode at a time in each process
    Prism, one process         144 s       72 s              all 11 decodes at once

and on the first 5 of them 91 s, 35 s, and 70 s for the in-memory `FnApiRunner`: two worker processes spend 8 s of
processor time each on imports before they work, which a short run does not win back. The processes are the default
because they need no download, because what the interpreter lock serializes runs on all cores, and because memory does
not grow with the number of inputs; their price is that each gets one static share of a stage's input, for which
`beam_jobs.sources` deals out large files first. A short run whose heavy work is done in processes of its own anyway
(`beam_jobs.child`) stays in one process, which needs no imports, and deals with its inputs side by side
(`beam_jobs.abreast`). All give the same bytes.
"""

import argparse
import contextlib
import io
import logging
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners import runner as beam_runner

from beam_jobs.child import num_cores
from beam_jobs.flink_conf import flink_conf

LOCAL_RUNNER = "beam_jobs.local_runner.LocalRunner"


def beam_options(flags: Sequence[str], num_elements: int, light: bool = False) -> PipelineOptions:
    """Beam's options for a job; without `--runner`, all cores of this machine.

    Args:
        flags: what the command itself does not know, verbatim.
        num_elements: inputs of the job; more local workers than that are not started.
        light: whether local workers do nothing heavy themselves: then they are threads of this process, and without
            any flags there is one.

    Raises:
        ValueError: a flag that Beam does not know either, or a runner it does not have.
    """
    known = _parse(flags)
    _check_runner(known.runner)
    flink_conf(known.flink_conf or [])
    given = {flag.partition("=")[0] for flag in flags}
    chosen = _local_defaults(known, given, num_elements, light)
    if "--default_sdk_harness_log_level" not in given:  # Beam's own default tells of every channel it opens
        chosen.append(f"--default_sdk_harness_log_level={_log_level()}")
    return _Options([*flags, *chosen])


class _Options(PipelineOptions):  # type: ignore[misc]
    """Each view of them is made once: Beam asks for a thousand in a short run, and parses all flags for each."""

    def view_as(self, cls: Any) -> Any:
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


def _log_level() -> str:
    """This process's log level by the name that Java's job servers know as well as Python."""
    name = logging.getLevelName(logging.getLogger().getEffectiveLevel())
    return {"WARNING": "WARN", "CRITICAL": "ERROR"}.get(name, name)


def _local_defaults(known: argparse.Namespace, given: set[str], num_elements: int, light: bool) -> list[str]:
    """Flags that spread a job over this machine's cores, where the user has not chosen otherwise."""
    if known.runner is not None:
        return []
    chosen = [f"--runner={LOCAL_RUNNER}"]
    workers = known.direct_num_workers
    if "--direct_num_workers" not in given:
        workers = 1 if light and not given else max(1, min(num_cores(), num_elements))
        chosen.append(f"--direct_num_workers={workers}")
    if "--direct_running_mode" not in given and workers != 1:
        chosen.append(f"--direct_running_mode={'multi_threading' if light else 'multi_processing'}")
    return chosen


def _parse(flags: Sequence[str]) -> argparse.Namespace:
    """The flags as Beam reads them.

    Raises:
        ValueError: a flag that none of Beam's option classes has, or a value it does not take.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, conflict_handler="resolve")
    for options_class in sorted(set(_subclasses(PipelineOptions)), key=lambda each: each.__name__):
        add = getattr(options_class, "_add_argparse_args", None)
        if add is not None:
            add(_Forgiving(parser))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            known, unknown = parser.parse_known_args(list(flags))
    except SystemExit:
        text = complaint.getvalue().strip().rpartition("error: ")[2]
        raise ValueError(f"Beam does not take these flags: {text}") from None
    if unknown:
        raise ValueError(
            f"unknown option {unknown[0]!r}: neither this command nor Apache Beam has it; `--help` lists ours"
        )
    return known


class _Forgiving:
    """Beam's option classes add to a parser of Beam's own, which also knows value providers."""

    def __init__(self, parser: argparse.ArgumentParser):
        self._parser = parser

    def add_value_provider_argument(self, *args: object, **kwargs: object) -> None:
        self._parser.add_argument(*args, **kwargs)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._parser, name)


def _subclasses(base: type) -> list[type]:
    """Beam's own option classes, and ours."""
    direct: list[type] = list(base.__subclasses__())
    own = [each for each in direct if each.__module__.startswith(("apache_beam.options.", "beam_jobs."))]
    return own + [below for each in own for below in _subclasses(each)]


def _check_runner(name: str | None) -> None:
    paths: list[str] = list(beam_runner._RUNNER_MAP.values())
    known = sorted(path.rsplit(".", 1)[-1] for path in paths)
    spoken = {each.lower() for each in known} | {each.lower().removesuffix("runner") for each in known}
    if name and "." not in name and name.lower() not in spoken:
        raise ValueError(f"--runner {name!r} is not one of Beam's: {', '.join(known)}")
