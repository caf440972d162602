"""The package as it is installed: names of its own, whole package data, a lock without addresses."""

import importlib
import importlib.metadata
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_LOCKED = ("demo", "dev", "gcp", "s3")  # extras that requirements.lock has
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]
MODULES = sorted(
    f"{package}.{module.name}" for package in PACKAGES for module in pkgutil.iter_modules([str(ROOT / package)])
)


@pytest.mark.parametrize("name", [*PACKAGES, "reelmill"])
def test_no_dependency_brings_a_package_of_our_name(name: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(name, ["reelmill"]))
    assert owners == {"reelmill"}


def test_every_folder_with_modules_is_listed() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert found == set(PACKAGES)


def test_no_module_has_a_name_of_the_standard_library_or_says_nothing() -> None:
    import sys

    names = {module.rpartition(".")[2] for module in MODULES}
    assert not names & sys.stdlib_module_names
    assert not names & {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    importlib.import_module(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_files_are_empty_of_imports(package: str) -> None:
    text = (ROOT / package / "__init__.py").read_text()
    assert not re.search(r"^\s*(import|from)\s", text, re.MULTILINE)


def test_data_files_are_package_data() -> None:
    """Whatever lies beside the modules and is not Python would be missing from a wheel if no pattern names it."""
    data = PROJECT["tool"]["setuptools"]["package-data"]
    listed = {path for package, patterns in data.items() for each in patterns for path in (ROOT / package).glob(each)}
    files = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and not path.name.startswith(".")
    }
    assert sorted(str(path.relative_to(ROOT)) for path in files - listed) == []


def test_lock_is_exact_hashed_and_free_of_addresses() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_lock_names_every_direct_dependency() -> None:
    locked = {_name(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(each for name in _LOCKED for each in extras[name])]
    assert {_name(requirement) for requirement in wanted} - locked == set()


def test_direct_dependencies_are_installed_in_an_allowed_version() -> None:
    from packaging.requirements import Requirement

    for text in PROJECT["project"]["dependencies"]:
        requirement = Requirement(text)
        installed = importlib.metadata.version(requirement.name)
        assert requirement.specifier.contains(installed, prereleases=True), f"{text} but {installed} is installed"


def test_one_opencv_only() -> None:
    owners = importlib.metadata.packages_distributions().get("cv2", [])
    assert set(owners) == {"opencv-python-headless"}


def test_make_lists_its_targets() -> None:
    text = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "check", "bench", "lock"):
        assert re.search(rf"^{target}:.*## \S", text, re.MULTILINE), target


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""
