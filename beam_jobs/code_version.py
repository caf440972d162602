"""The version of a stage's code: a hash of the source it runs, so that stale and fresh results never mix."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_OURS = ("schemas", "media", "curation", "tokenize_shards")
_VALUES_ONLY = frozenset(  # the values are hashed apart
    (
        "curation.settings", "curation.settings_filters", "curation.settings_models",
        "media.bounds", "media.commandline", "media.settings",
    )
)  # fmt: skip


def code_version(module: str, *distributions: str) -> str:
    """sha256 over a module's source and that of all our modules it imports, and the versions of libraries.

    A comment changes it as well as a formula does: to do work again is cheaper than to trust what is stale.

    Args:
        module: where the stage's function is, e.g. `curation.analysis`.
        distributions: installed libraries that shape the bytes, e.g. `av`; one that is missing counts as such.
    """
    digest = hashlib.sha256()
    for path in sorted(_sources(module), key=lambda path: path.as_posix().rsplit("/", 2)[-2:]):
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes() + b"\0")
    for name in sorted(distributions):
        digest.update(f"{name}={library_version(name)}\0".encode())
    return digest.hexdigest()


def library_version(name: str) -> str:
    """The installed version of a distribution, or "none"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _sources(module: str) -> set[Path]:
    """The files of a module and of all our modules that it imports, however far away."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name in _VALUES_ONLY or name.split(".")[0] not in _OURS:
            continue
        path = _path_of(name)
        if path is not None:
            found[name] = path
            waiting.extend(_imports(path))
    return set(found.values())


@cache
def _path_of(name: str) -> Path | None:
    """The source file of a dotted name, None for what is not a module (a function within one); nothing is imported."""
    package, *parts = name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], *parts)
    found = (path.with_name(f"{path.name}.py"), path / "__init__.py")
    return next((each for each in found if each.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
