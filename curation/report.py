"""`report.html`: what a curation run kept, what it did not, and why; one file, without scripts or outside links.

The data-set card, `croissant.json`, is made beside it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from media import storage
from media.commandline import parse

if TYPE_CHECKING:
    from curation.report_records import ReportData
    from schemas.run import RunInfo


@dataclass(frozen=True)
class ReportSettings:
    """Settings of the report.

    Args:
        run: output folder of `reelmill curate`; local or any fsspec filesystem.
    """

    run: str


def main(argv: list[str]) -> int:
    """`reelmill report --run DIR`."""
    settings, _ = parse(
        ReportSettings,
        argv,
        "reelmill report",
        "Builds report.html of a curated run again.",
        ["reelmill report --run curated", "reelmill report --run gs://bucket/curated"],
        positional=("run",),
    )
    print(f"report: {build_report(settings.run)}")
    return 0


def build_report(run_dir: str, run: "RunInfo | None" = None) -> str:
    """Writes `report.html` and `croissant.json` into the folder of a finished run; returns the path of the report.

    Equal runs give equal bytes, `timings.json` aside. Captions, names and details are untrusted: everything is
    escaped, and the page forbids itself scripts and outside content.

    Args:
        run: what `run.json` will say of it, where it is not there yet.

    Raises:
        FileNotFoundError: the folder holds no finished run.
    """
    # Here, and not above: pyarrow and Jinja take longer to import than `--help` may take to answer.
    from curation.card import build_card
    from curation.report_data import read_run

    build_card(run_dir, run)
    path = storage.join(run_dir, "report.html")
    storage.write_bytes_atomic(path, render(read_run(str(run_dir), run)).encode())
    return path


def render(data: "ReportData") -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from curation.histogram import histogram_svg

    environment = Environment(
        loader=PackageLoader("curation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, number=number, size=size)
    histograms = [
        {
            "name": values.score.name,
            "doc": values.score.doc,
            "note": _limits(values.low, values.high),
            "median": float(_median(values)),
            "svg": Markup(histogram_svg(values.kept, values.rejected, values.low, values.high)),  # numbers only
        }
        for values in data.values
    ]
    return environment.get_template("report.html.j2").render(
        data=data, run=data.run, histograms=histograms, settings=list(_sections(data.run.settings))
    )


def _median(values: Any) -> float:
    import numpy as np

    return float(np.median(np.concatenate([values.kept, values.rejected])))


def _limits(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "no limit"
    return " · ".join(f"{name} {limit:g}" for name, limit in (("min", low), ("max", high)) if limit is not None)


def _sections(settings: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(section, [(key, value)]): the plain keys first, then one section for each nested settings class."""
    plain = [(key, _text(value)) for key, value in settings.items() if not isinstance(value, dict)]
    nested = [(key, _flat(value)) for key, value in settings.items() if isinstance(value, dict)]
    return [("run", plain), *nested]


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in settings.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(prefix + key, _text(value))]
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "–"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds as `4.2 s`, `3 min 20 s` or `12.5 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{seconds / 3600:,.1f} h"


def number(value: float) -> str:
    """A count with thousands marked, or a value with four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def size(num_bytes: float) -> str:
    """Bytes as `3.1 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"
