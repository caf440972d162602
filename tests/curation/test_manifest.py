"""Manifests: every form, renamed columns, sidecars, repeats, and each mistake with its message."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.manifest import read_sources
from curation.settings import CurateSettings, ManifestSettings


def read(path, *, limit=None, **manifest):
    return read_sources(CurateSettings(str(path), "out", limit=limit, manifest=ManifestSettings(**manifest)))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_gives_paths_captions_bounds_and_further_columns(tmp_path):
    manifest = write(
        tmp_path / "m.csv", "path,caption,license,start_s,end_s,topic\na.mp4,A dog,CC0,1.5,4,pets\n/b/c.mp4,,,,,\n"
    )
    first, second = read(manifest)
    assert first.uri == str(tmp_path / "a.mp4")
    assert (first.caption, first.license, first.start_s, first.end_s) == ("A dog", "CC0", 1.5, 4.0)
    assert json.loads(first.extra) == {"topic": "pets"}
    assert (second.uri, second.caption, second.start_s) == ("/b/c.mp4", None, None)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_forms_agree(tmp_path, form):
    rows = [{"path": "a.mp4", "caption": "one"}, {"path": "b.mp4", "caption": "two, with a comma"}]
    path = tmp_path / f"m.{form}"
    if form == "csv":
        write(path, 'path,caption\na.mp4,one\nb.mp4,"two, with a comma"\n')
    elif form == "jsonl":
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert [(Path(source.uri).name, source.caption) for source in read(path)] == [
        ("a.mp4", "one"),
        ("b.mp4", "two, with a comma"),
    ]


def test_columns_can_be_renamed(tmp_path):
    manifest = write(tmp_path / "m.csv", "file,text\na.mp4,hello\n")
    (source,) = read(manifest, path_column="file", caption_column="text")
    assert (Path(source.uri).name, source.caption) == ("a.mp4", "hello")


def test_the_url_column_is_used_where_there_is_no_path(tmp_path):
    manifest = write(tmp_path / "m.csv", "path,url\n,https://example.org/a.mp4\nb.mp4,https://example.org/b.mp4\n")
    assert [source.uri for source in read(manifest)] == ["https://example.org/a.mp4", str(tmp_path / "b.mp4")]


def test_repeated_rows_are_counted(tmp_path):
    manifest = write(tmp_path / "m.csv", "path,start_s\na.mp4,\na.mp4,\na.mp4,2\na.mp4,\n")
    sources = read(manifest)
    assert [source.occurrence for source in sources] == [0, 1, 0, 2]
    assert len({source.source_id for source in sources}) == 2


def test_a_folder_gives_every_file_but_manifests_sidecars_and_hidden_ones(tmp_path):
    for name in ("b.mp4", "a.webm", "sub/c.mov", "odd.bin", "b.txt", "m.csv", ".hidden.mp4", ".cache/d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, "words")
    sources = read(tmp_path)
    assert [str(Path(source.uri).relative_to(tmp_path)) for source in sources] == [
        "a.webm", "b.mp4", "odd.bin", "sub/c.mov",
    ]  # fmt: skip
    assert sources[1].caption == "words"
    assert [Path(source.uri).name for source in read(tmp_path, limit=2)] == ["a.webm", "b.mp4"]


def test_a_glob_and_a_single_file(tmp_path):
    for name in ("b.mp4", "a.mp4", "c.webm"):
        write(tmp_path / name, "x")
    assert [Path(source.uri).name for source in read(tmp_path / "*.mp4")] == ["a.mp4", "b.mp4"]
    assert [Path(source.uri).name for source in read(tmp_path / "c.webm")] == ["c.webm"]


def test_a_relative_input_gives_the_id_of_what_was_typed_and_a_path_that_opens_anywhere(tmp_path, monkeypatch):
    write(tmp_path / "a.mp4", "x")
    monkeypatch.chdir(tmp_path)
    (by_glob,), (by_file,) = read("*.mp4"), read("a.mp4")
    assert by_glob == by_file
    assert by_glob.uri == str(tmp_path / "a.mp4")


def test_sidecars_fill_what_the_manifest_leaves_open(tmp_path):
    write(tmp_path / "a.json", json.dumps({"caption": "from json", "license": "CC0", "camera": 3}))
    write(tmp_path / "b.txt", "from text\n")
    manifest = write(tmp_path / "m.csv", "path,caption\na.mp4,\nb.mp4,\n")
    first, second = read(manifest)
    assert (first.caption, first.license, json.loads(first.extra)) == ("from json", "CC0", {"camera": 3})
    assert second.caption == "from text"


def test_panda70m_gives_one_source_per_span(tmp_path):
    manifest = write(
        tmp_path / "panda.csv",
        "videoID,url,timestamp,caption,matching_score\n"
        "abc,https://example.org/v,\"[['0:00:01.500', '0:01:09.000'], ['1:00:00.000', '1:00:02.250']]\","
        '"[\'A dog runs.\', ""It\'s a cat.""]","[0.4, 0.5]"\n',
    )
    first, second = read(manifest)
    assert (first.start_s, first.end_s, first.caption) == (1.5, 69.0, "A dog runs.")
    assert (second.start_s, second.end_s, second.caption) == (3600.0, 3602.25, "It's a cat.")
    assert first.uri == second.uri == "https://example.org/v"
    assert json.loads(first.extra)["videoID"] == "abc"


def test_webvid(tmp_path):
    manifest = write(
        tmp_path / "w.csv",
        "videoid,contentUrl,duration,page_dir,name\n7,https://example.org/7.mp4,PT00H00M10S,001_050,Waves at dusk\n",
    )
    (source,) = read(manifest)
    assert (source.uri, source.caption, source.end_s) == ("https://example.org/7.mp4", "Waves at dusk", None)
    assert json.loads(source.extra) == {"duration": "PT00H00M10S", "page_dir": "001_050", "videoid": "7"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "file,caption\na.mp4,x\n", r"neither a column 'path' nor 'url'; its columns are 'file', 'caption'"),
        ("m.csv", "path,start_s\na.mp4,soon\n", r"row 2: start_s 'soon' is not a number"),
        ("m.csv", "path,start_s\na.mp4,-1\n", r"row 2: start_s '-1'"),
        ("m.csv", "path,start_s,end_s\na.mp4,4,2\n", r"end_s 2 is not after start_s 4"),
        ("m.csv", "path,url\n,\n", r"row 2 has no path and no url"),
        ("m.csv", "path\n", r"no rows"),
        ("m.jsonl", "{'path': 1}\n", r"row 1 is not JSON"),
        ("m.jsonl", "[1]\n", r"row 1 is a list"),
        ("m.parquet", "no parquet", r"is not Parquet"),
        ("p.csv", "url,timestamp,caption\nu,[1],['a']\n", r"Panda-70M form"),
    ],
    ids=["column", "word", "negative", "order", "empty", "no-rows", "json", "list", "parquet", "panda"],
)
def test_mistakes_are_named(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / name, text))


@pytest.mark.parametrize("name", ["missing.csv", "missing/", "*.mp4"])
def test_what_is_not_there_is_not_found(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read(f"{tmp_path}/{name}")
