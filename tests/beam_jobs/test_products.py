from pathlib import Path
from typing import Any

import pytest

from beam_jobs.products import Products


class Writer:
    """Writes a text and counts how often it did."""

    def __init__(self, text: str):
        self.text, self.times = text, 0

    def __call__(self, path: str) -> dict[str, Any]:
        self.times += 1
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(self.text)
        return {"num": len(self.text)}


@pytest.fixture
def products(tmp_path: Path) -> Products:
    return Products(str(tmp_path), "run.json")


def test_the_same_content_is_written_once_and_the_manifest_stays(products: Products, tmp_path: Path) -> None:
    writer = Writer("one")
    assert products.produce("clips/a.tar", "fp1", writer) == {"num": 3}
    products.commit("done")
    assert products.produce("clips/a.tar", "fp1", writer) == {"num": 3}
    assert writer.times == 1
    assert (tmp_path / "run.json").read_text() == "done"


def test_other_content_takes_the_manifest_away_first(products: Products, tmp_path: Path) -> None:
    products.produce("clips/a.tar", "fp1", Writer("one"))
    products.commit("done")
    products.produce("clips/a.tar", "fp2", Writer("two"))
    assert not (tmp_path / "run.json").exists()
    assert (tmp_path / "clips/a.tar").read_text() == "two"


def test_the_manifest_is_away_while_what_depends_on_it_is_written_anew(products: Products, tmp_path: Path) -> None:
    manifest, seen = tmp_path / "run.json", []
    for text in ("one", "one", "two"):
        products.commit(text, lambda: seen.append(manifest.read_text() if manifest.exists() else None))
    assert seen == [None, "one", None]
    assert manifest.read_text() == "two"


def test_content_that_came_back_is_written_again(products: Products, tmp_path: Path) -> None:
    for text in ("one", "two", "one"):
        products.produce("a.tar", text, Writer(text))
    assert (tmp_path / "a.tar").read_text() == "one"


@pytest.mark.parametrize("harm", ["remove", "shorten"])
def test_a_file_that_was_harmed_is_written_again(products: Products, tmp_path: Path, harm: str) -> None:
    products.produce("a.tar", "fp", Writer("whole"))
    if harm == "remove":
        (tmp_path / "a.tar").unlink()
    else:
        (tmp_path / "a.tar").write_text("wh")
    products.produce("a.tar", "fp", Writer("whole"))
    assert (tmp_path / "a.tar").read_text() == "whole"


def test_a_write_that_breaks_leaves_nothing_that_counts(products: Products) -> None:
    def broken(path: str) -> dict[str, Any]:
        raise RuntimeError("killed")

    products.produce("a.tar", "fp1", Writer("one"))
    with pytest.raises(RuntimeError):
        products.produce("a.tar", "fp2", broken)
    writer = Writer("one")
    products.produce("a.tar", "fp1", writer)
    assert writer.times == 1


def test_files_of_an_earlier_plan_go(products: Products, tmp_path: Path) -> None:
    for name in ("clips/clips-0.tar", "clips/clips-1.tar"):
        products.produce(name, "fp", Writer(name))
    products.commit("done")
    products.keep_only("clips", "clips-*.tar", ["clips/clips-0.tar"])
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["clips-0.tar"]
    assert not (tmp_path / "run.json").exists()


def test_a_manifest_that_says_the_same_is_not_touched(products: Products, tmp_path: Path) -> None:
    products.commit("done")
    before = (tmp_path / "run.json").stat().st_mtime_ns
    products.commit("done")
    assert (tmp_path / "run.json").stat().st_mtime_ns == before
