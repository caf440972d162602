"""What goes to workers: the source distribution that Beam stages, and the images."""

import re
import shutil
import tarfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
IMAGES = sorted((ROOT / "deploy").glob("*.Dockerfile"), key=lambda path: path.name)


@pytest.mark.long
def test_beams_setup_file_gives_a_whole_source_distribution(tmp_path: Path) -> None:
    from apache_beam.runners.portability.stager import Stager

    tree, staged = tmp_path / "tree", tmp_path / "staged"
    staged.mkdir()
    for package in SETUPTOOLS["packages"]:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "reelmill.py"):
        shutil.copy(ROOT / name, tree / name)
    with tarfile.open(Stager._build_setup_package(str(tree / "setup.py"), str(staged))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    modules = {f"{package}/{path.name}" for package in SETUPTOOLS["packages"] for path in (tree / package).glob("*.py")}
    data = {
        path.relative_to(tree).as_posix()
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in (tree / package).glob(pattern)
    }
    assert any(name.endswith(".safetensors") for name in data)
    assert (modules | data) - names == set()


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_images_have_the_locked_beam_and_all_packages(image: Path) -> None:
    text = image.read_text()
    assert re.search(r"^ARG BEAM_VERSION=(\S+)$", text, re.MULTILINE)[1] == version("apache-beam")  # type: ignore[index]
    python = re.search(r"^ARG PYTHON_VERSION=(\S+)$", text, re.MULTILINE)[1]  # type: ignore[index]
    assert PROJECT["project"]["requires-python"] == f">={python}"
    assert re.search(r'^ENTRYPOINT \["/opt/apache/beam/boot"\]$', text, re.MULTILINE)
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for name in line.split()}
    assert set(SETUPTOOLS["packages"]) <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_docker_sees_what_the_images_copy() -> None:
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for image in IMAGES:
        copied = {
            name
            for line in re.findall(r"^COPY (?!--from)(.*) \S+$", image.read_text(), re.MULTILINE)
            for name in line.split()
        }
        assert copied <= shown


def test_there_is_an_image_for_each_role() -> None:
    assert [image.stem for image in IMAGES] == ["curate", "tokenize"]


def test_the_job_servers_beam_is_the_documented_one() -> None:
    pom = (ROOT / "deploy" / "job-server" / "pom.xml").read_text()
    beam = re.search(r"<beam.version>(.*)</beam.version>", pom)[1]  # type: ignore[index]
    guide = (ROOT / "docs" / "running-at-scale.md").read_text()
    assert beam in guide
    assert version("apache-beam") in guide
