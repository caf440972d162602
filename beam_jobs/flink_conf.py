"""Flink's own settings from flags: in a file for the job server, which hands them on with every job.

Beam gives Flink's batch jobs no restart strategy, and a job without one ends when a Python worker dies. Flink reads its
settings from the folder in `FLINK_CONF_DIR`, and no flag of a job server has them one by one.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

FOLDER = "FLINK_CONF_DIR"
_LINE = re.compile(r"([a-z0-9][a-z0-9.-]*): (\S[^\n]*)")


class FlinkConfOptions(PipelineOptions):
    """Settings of Flink that Beam has no flag for."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument("--flink_conf", action="append", help="a setting of Flink, `KEY: VALUE`; repeated")


def flink_conf(given: Sequence[str]) -> dict[str, str]:
    """Flink's settings by key; of two for one key the later counts.

    Raises:
        ValueError: one that is not `KEY: VALUE`.
    """
    settings = {}
    for line in given:
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"--flink_conf {line!r} is not KEY: VALUE, as in 'restart-strategy.type: fixed-delay'")
        settings[found[1]] = found[2]
    return settings


@contextmanager
def flink_conf_folder(options: PipelineOptions) -> Iterator[None]:
    """`FLINK_CONF_DIR` has the settings of the flags while the context lasts, for the Java that is started in it.

    A folder that the variable already names stays and counts alone: it is the user's.
    """
    settings = flink_conf(options.view_as(FlinkConfOptions).flink_conf or [])
    if not settings or os.environ.get(FOLDER):
        yield
        return
    with TemporaryDirectory(prefix="reelmill-flink-") as folder:
        lines = [f"{key}: {value}\n" for key, value in settings.items()]
        Path(folder, "flink-conf.yaml").write_text("".join(lines))
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]
