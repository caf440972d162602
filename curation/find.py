"""Which source or clip of a run a person means: by id, by its beginning, by path, URL or file name."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.ledger_rows import CLIPS, SOURCES, Row, row_groups, rows_of, rows_with_prefix
from schemas.identity import ID_LENGTH

CANDIDATES = 5  # ids named where a prefix is not unique


def find(run_dir: str, wanted: str) -> tuple[str, list[Row]]:
    """(`clips` or `sources`, the rows of one id) that an id, its beginning, a path, a URL or a file's name means.

    Raises:
        ValueError: nothing has that name, or several have.
    """
    if not wanted.strip():
        raise ValueError("the id is empty; give that of a source or clip, or an input's path or URL")
    hits = _by_id(run_dir, wanted) if _like_id(wanted) else {}
    hits = hits or _by_uri(run_dir, wanted)
    if len(hits) == 1:
        (kind, _), rows = next(iter(hits.items()))
        return kind, rows
    if hits:
        some = [_said(kind, rows[0]) for (kind, _), rows in list(hits.items())[:CANDIDATES]]
        raise ValueError(f"{wanted!r} is not unique: {'; '.join(some)}{' …' if len(hits) > CANDIDATES else ''}")
    near = nearest_ids(run_dir, wanted)
    hint = f"; did you mean {', '.join(near)}?" if near else "; report.html and ledger/*.parquet list what there is"
    raise ValueError(f"the run in {run_dir} has no source or clip {wanted!r}{hint}")


def _like_id(text: str) -> bool:
    return len(text) <= ID_LENGTH and not set(text) - set("0123456789abcdef")


def _by_id(run_dir: str, prefix: str) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for kind, column in ((CLIPS, "clip_id"), (SOURCES, "source_id")):
        for row in rows_with_prefix(run_dir, kind, prefix, 200):
            found.setdefault((kind, row[column]), []).append(row)
    return found


def _by_uri(run_dir: str, wanted: str) -> dict[tuple[str, str], list[Row]]:
    """Sources with that URI, else with a URI that ends in it as whole path components."""
    whole: dict[tuple[str, str], list[Row]] = {}
    ending: dict[tuple[str, str], list[Row]] = {}
    tail = "/" + wanted.removeprefix("./").lstrip("/")
    for table in row_groups(run_dir, SOURCES, ["source_id", "uri"]):
        uris = table["uri"]
        hits = pc.or_(pc.equal(uris, wanted), pc.ends_with(uris, tail))
        for row in table.filter(hits).to_pylist():
            same = row["uri"] == wanted or row["uri"] == f"file://{wanted}"
            (whole if same else ending).setdefault((SOURCES, row["source_id"]), []).append(row)
    chosen = whole or ending
    ids = [source_id for _, source_id in chosen]
    full: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(run_dir, SOURCES, "source_id", ids):
        full.setdefault((SOURCES, row["source_id"]), []).append(row)
    return full


def _said(kind: str, row: Row) -> str:
    return f"{kind.removesuffix('s')} {row['clip_id' if kind == CLIPS else 'source_id']} ({row['uri']})"


def nearest_ids(run_dir: str, wanted: str) -> list[str]:
    """Up to three ids that share the most digits, place by place, with what was asked for: at least six in ten."""
    if not wanted or set(wanted) - set("0123456789abcdef"):
        return []
    target = np.frombuffer(wanted[:ID_LENGTH].encode(), dtype=np.uint8)
    best: list[tuple[int, str, str]] = []
    for kind, column in ((CLIPS, "clip_id"), (SOURCES, "source_id")):
        for table in row_groups(run_dir, kind, [column]):
            ids = pc.unique(table[column])
            digits = _digits(ids)[:, : len(target)]
            same = (digits == target).sum(axis=1)
            for index in np.argsort(-same, kind="stable")[:3]:
                best.append((-int(same[index]), kind.removesuffix("s"), ids[int(index)].as_py()))
        best = sorted(set(best))[:3]
    return [f"{kind} {name}" for negative, kind, name in best if -negative >= max(4, 0.6 * len(target))]


def _digits(ids: pa.Array) -> np.ndarray:
    """(ids, ID_LENGTH) uint8: the characters of ids."""
    fixed = np.array(ids.to_pylist(), dtype=f"S{ID_LENGTH}")
    return fixed.view(np.uint8).reshape(len(fixed), ID_LENGTH)
