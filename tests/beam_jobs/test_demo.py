"""The demo: its command lines are true ones, its page is safe, and all of it runs."""

import importlib
import json
from itertools import chain
from pathlib import Path

import pytest

import reelmill
from beam_jobs.demo import DemoSettings, index_page, main, stages, write_videos
from curation.manifest import read_sources
from curation.settings import CurateSettings
from media.commandline import CommandLine


def test_videos_and_manifest(tmp_path: Path) -> None:
    manifest = write_videos(tmp_path)
    sources = read_sources(CurateSettings(input=str(manifest), output=str(tmp_path / "out")))
    assert [Path(source.uri).name for source in sources] == ["bigbuckbunny.mp4", "bikes.mp4"]
    assert all(source.caption and Path(source.uri).stat().st_size > 100_000 for source in sources)


@pytest.mark.parametrize("stage", chain.from_iterable(stages(DemoSettings())), ids=lambda stage: stage.name)
def test_command_lines_are_understood(stage) -> None:
    command, argv = reelmill.find_command(list(stage.argv))
    if command.line:
        module, _, name = command.line.partition(":")
        line: CommandLine = getattr(importlib.import_module(module), name)
        assert line.parse(argv)[1] == []


def test_the_page_escapes_the_prompt(tmp_path: Path) -> None:
    assert "<script>" not in index_page(DemoSettings(prompt="<script>alert(1)</script>"), tmp_path)


@pytest.mark.long
def test_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path)]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "6/6  generate" in out
    run = json.loads((tmp_path / "curated" / "run.json").read_text())
    assert run["counts"]["sources.done"] == 2
    assert run["stages"]["caption"].startswith("not run")
    assert list((tmp_path / "curated" / "clips").glob("*.tar"))
    assert json.loads((tmp_path / "tokens" / "dataset.json").read_text())["shards"]
    for name in ("curated/report.html", "index.html", "generated.mp4", "lm", "super-resolution"):
        assert (tmp_path / name).exists(), name
    import av

    with av.open(str(tmp_path / "generated.mp4")) as video:
        frames = sum(1 for _ in video.decode(video=0))
        assert (frames, video.streams.video[0].height, bool(video.streams.audio)) == (17, 128, True)
