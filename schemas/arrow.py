"""Arrow schemas, derived from the records: the dataclass is the schema."""

import types
import typing
from dataclasses import fields
from enum import StrEnum
from typing import Any

import pyarrow as pa

from schemas import SCHEMA_VERSION
from schemas.records import ClipRow, SourceRow
from schemas.removals import RemovedRow
from schemas.scores import SCORES
from schemas.shards import SampleRow, TokenizedRow

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary()}


def _field(name: str, hint: Any) -> pa.Field:
    """An Arrow field; `X | None` makes it nullable."""
    nullable = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        hint, nullable = inner[0], True
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        hint = str
    return pa.field(name, _ARROW[hint], nullable=nullable)


def schema_of(record: type, extra: tuple[pa.Field, ...] = ()) -> pa.Schema:
    """The Arrow schema of a dataclass of plain fields, with the schema version in its metadata."""
    hints = typing.get_type_hints(record)
    columns = [_field(f.name, hints[f.name]) for f in fields(record)]
    metadata = {"reelmill.record": record.__name__, "reelmill.schema_version": str(SCHEMA_VERSION)}
    return pa.schema([*columns, *extra], metadata=metadata)


SOURCES_SCHEMA = schema_of(SourceRow)
CLIPS_SCHEMA = schema_of(
    ClipRow,
    tuple(pa.field(f"score_{s.name}", pa.float64(), metadata={"doc": s.doc, "stage": s.stage}) for s in SCORES),
)
REMOVED_SCHEMA = schema_of(RemovedRow)
SAMPLES_SCHEMA = schema_of(SampleRow)
TOKENIZED_SCHEMA = schema_of(TokenizedRow)
