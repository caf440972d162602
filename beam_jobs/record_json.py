"""Records as JSON and back, by their dataclass: what the units hold instead of pickles."""

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

Record = TypeVar("Record")


def to_json(record: Any) -> bytes:
    """Canonical bytes of a record of plain fields, records, tuples and mappings; `bytes` fields are left out.

    What is long (pictures, media) is a unit of its own.
    """
    return json.dumps(plain(record), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def from_json(record_type: type[Record], data: bytes) -> Record:
    """Inverse of `to_json`; fields that are left out get their default.

    Raises:
        ValueError: the bytes are not such a record.
    """
    try:
        return from_plain(record_type, json.loads(data))
    except UnicodeDecodeError as error:
        raise ValueError(f"not a {record_type.__name__}: {error!r} in {data[:80]!r}") from error


def from_plain(record_type: type[Record], value: Any) -> Record:
    """Inverse of `plain`.

    Raises:
        ValueError: the value is not such a record.
    """
    try:
        return typing.cast(Record, _build(record_type, value))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a {record_type.__name__}: {error!r} in {str(value)[:80]!r}") from error


def plain(value: Any) -> Any:
    """A record as what JSON has; `bytes` fields are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        items = ((entry.name, getattr(value, entry.name)) for entry in fields(value))
        return {name: plain(item) for name, item in items if not isinstance(item, bytes)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "item"):  # a numpy scalar
        return value.item()
    raise TypeError(f"a {type(value).__name__} has no JSON form: {value!r}")


def _member(kinds: tuple[Any, ...], value: Any) -> Any:
    """Which type of a union the value is of: its own where that is among them, else the first."""
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    return type(value) if type(value) in kinds else kinds[0]


def _build(hint: Any, value: Any) -> Any:
    """The value that `hint` describes, from its JSON form."""
    if value is None or hint is Any or typing.get_origin(hint) is typing.Literal:
        return value
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _build(_member(inner, value), value)
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_build(kind, item) for kind, item in zip(kinds, value, strict=True))
    if origin is list:
        return [_build(inner[0], item) for item in value]
    if origin is not None and issubclass(origin, Mapping):
        return {name: _build(inner[1], item) for name, item in value.items()}
    if is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        known = {name: _build(hints[name], item) for name, item in value.items() if name in hints}
        return typing.cast(Any, hint)(**known)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    return float(value) if hint is float else value
