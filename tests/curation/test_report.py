"""The report: true sums, one file without scripts, equal bytes for equal runs."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from curation.histogram import NUM_BINS, histogram_svg
from curation.report import build_report, duration, main, size
from curation.report_data import read_run
from curation.report_ledger import CLIP_COLUMNS, MAX_NEAR, ClipSums
from media.parquet import read_parquet
from tests.curation.synthetic_run import HOSTILE, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("curated"))
    build_report(str(folder))
    return folder


class _Page(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")], "an event handler came through"


def test_sums_hold_and_are_shown(run: Path) -> None:
    data = read_run(str(run))
    assert data.num_sources == 32 == sum(data.sources.values())
    assert data.num_clips == 180 == sum(data.clips.values()) == sum(row.count for row in data.outcomes)
    assert data.clip_funnel[0].count == 180
    assert data.clip_funnel[-1].count == data.clips["kept"]
    assert abs(data.seconds["candidates"] - sum(row.seconds for row in data.outcomes)) < 1e-6
    text = (run / "report.html").read_text()
    assert f"{data.clips['kept']} kept" in text
    assert "not run: no caption.model" in text


def test_funnel_never_grows(run: Path) -> None:
    counts = [bar.count for bar in read_run(str(run)).clip_funnel]
    assert counts == sorted(counts, reverse=True)


def test_untrusted_text_stays_text(run: Path) -> None:
    text = (run / "report.html").read_text()
    page = _Page(text)
    assert "script" not in page.tags
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(&#34;caption&#34;)&lt;/script&gt;" in text


def test_the_page_is_one_file(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert text.startswith("<!doctype html>")
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in _Page(text).addresses)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert "://" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)


def test_every_reason_has_examples(run: Path) -> None:
    for row in read_run(str(run)).outcomes:
        assert row.pictures, row.reason


def test_limits_stand_in_the_histogram_of_their_score(run: Path) -> None:
    values = {item.score.name: item for item in read_run(str(run)).values}
    assert (values["motion"].low, values["motion"].high) == (0.4, None)
    assert values["watermark"].high == 0.7
    assert "clip_score" in read_run(str(run)).unmeasured


def test_equal_runs_give_equal_bytes(run: Path, tmp_path: Path) -> None:
    again = write_run(tmp_path)
    build_report(str(again))
    assert (again / "report.html").read_bytes() == (run / "report.html").read_bytes()


def test_a_run_without_clips(tmp_path: Path) -> None:
    folder = write_run(tmp_path, count=0)
    shutil.rmtree(folder / "previews")
    (folder / "timings.json").unlink()
    text = Path(build_report(str(folder))).read_text()
    assert "Nothing was kept" in text
    assert "There are no candidate clips" in text


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no finished run: there is no run\.json"):
        main(["--run", str(tmp_path)])


def test_main_says_where_the_report_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == f"report: {run}/report.html"


@pytest.mark.parametrize(
    ("kept", "rejected", "low", "high"),
    [
        pytest.param([1.0, 2.0, 3.0], [0.5], 0.8, None, id="both"),
        pytest.param([1.0], [], None, None, id="one value"),
        pytest.param([], [0.0, 0.0], None, 1.0, id="nothing kept"),
        pytest.param([-3.0, 4.0], [1e9], -5.0, 5.0, id="an outlier"),
    ],
)
def test_histogram_counts_every_clip(kept: list[float], rejected: list[float], low: float, high: float) -> None:
    svg = histogram_svg(np.array(kept), np.array(rejected), low, high)
    assert 1 <= svg.count("<rect") <= 2 * NUM_BINS
    assert svg.count('line class="limit"') == (low is not None) + (high is not None)
    assert "nan" not in svg and "inf" not in svg


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.24, "4.2 s"), (200, "3 min 20 s"), (45_000, "12.5 h")], ids=["short", "minutes", "hours"]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(12, "12 B"), (3_100_000, "3.1 MB"), (2e15, "2,000.0 TB")])
def test_sizes_read_well(count: float, text: str) -> None:
    assert size(count) == text


def test_borderline_clips_are_those_nearest_to_a_limit(run: Path) -> None:
    data = read_run(str(run))
    found = {item.name: item for item in data.borderline}
    assert set(found) == {"min_motion", "max_watermark"}
    rows = read_parquet(str(run / "ledger" / "clips-*.parquet")).to_pylist()
    for name, sign in (("min_motion", 1), ("max_watermark", -1)):
        score = name[4:]
        passed = sorted(sign * row[f"score_{score}"] for row in rows if row["state"] == "kept")
        missed = sorted((sign * row["score"] for row in rows if row["reason"] == name), reverse=True)
        shown = found[name]
        assert [sign * dict(picture.scores)[score] for picture in shown.passed] == passed[:MAX_NEAR]
        assert [sign * dict(picture.scores)[score] for picture in shown.missed] == missed[:MAX_NEAR]
        assert shown.limit == {"min_motion": 0.4, "max_watermark": 0.7}[name]
    assert "Borderline clips" in (run / "report.html").read_text()


def test_opens_in_a_browser(run: Path, tmp_path: Path) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(names)} is on the PATH; the page was parsed, not rendered")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    command = [browser, *flags, f"--user-data-dir={tmp_path}", "--dump-dom", f"file://{run}/report.html"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    assert shown.count("<figure") == (run / "report.html").read_text().count("<figure")
    assert "<script" not in shown and '<img src="x"' not in shown
    assert '&lt;script&gt;alert("caption")&lt;/script&gt;' in shown
    assert shown.count("<svg") == (run / "report.html").read_text().count("<svg") >= 5


def test_however_the_ledger_is_read_the_sums_are_the_same(run: Path) -> None:
    limits = {"min_motion": 0.4, "max_watermark": 0.7}
    whole = read_parquet(str(run / "ledger" / "clips-*.parquet"), columns=CLIP_COLUMNS)
    wanted = whole["clip_id"].to_pylist()[::7]

    def sums(size: int, total: int = 180) -> ClipSums:
        groups = [whole.slice(start, size) for start in range(0, whole.num_rows, size)]
        return ClipSums(groups, total, limits, wanted)

    one, many = sums(180), sums(7)
    assert many.counts == one.counts and many.nearest == one.nearest and many.rows == one.rows
    assert many.failures.groups() == one.failures.groups()
    assert many.seconds == pytest.approx(one.seconds)
    assert [len(item.kept) + len(item.rejected) for item in many.values()[0]] == [180] * len(one.values()[0])
    sampled = sums(7, total=2_500_000)
    assert sampled.every == 3 and sampled.counts == one.counts
    assert {len(item.kept) + len(item.rejected) for item in sampled.values()[0]} == {60}
