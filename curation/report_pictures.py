"""The pictures of the report: some of every outcome, and those nearest to each limit."""

import base64
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.report_records import Borderline, Outcome, Picture
from media import storage
from media.tar import read_samples
from schemas.scores import SCORES

MAX_KEPT, MAX_PER_REASON, MAX_NEAR = 50, 10, 6

Nearest = Mapping[tuple[str, str], Sequence[int]]
"""By (`kept` or `filtered`, name of the limit): rows of the ledger, the nearest first."""


@dataclass(frozen=True)
class Gallery:
    """The pictures that were found."""

    by_outcome: dict[Outcome, tuple[Picture, ...]]  # up to `MAX_PER_REASON` (`MAX_KEPT` of what was kept)
    by_row: dict[int, Picture]  # of the rows asked for


def read_pictures(run_dir: str, clips: pa.Table, keys: Sequence[Outcome], rows: Iterable[int]) -> Gallery:
    """Pictures from the previews of a run, in a fixed order.

    Args:
        clips: its ledger.
        keys: the outcome of each row.
        rows: those whose pictures are wanted whatever their outcome.
    """
    wanted, by_row = frozenset(rows), {}
    found: dict[Outcome, list[tuple[tuple[str, float], Picture]]] = defaultdict(list)
    ids = clips["clip_id"].combine_chunks()
    previews = _previews(run_dir)
    while batch := list(islice(previews, 256)):
        places = pc.index_in(pa.array([key for key, _ in batch]), value_set=ids).to_pylist()
        for (_, jpeg), row in zip(batch, places, strict=True):
            if row is None:
                continue
            room = len(found[keys[row]]) < (MAX_KEPT if keys[row][0] == "kept" else MAX_PER_REASON)
            if not room and row not in wanted:
                continue
            clip = clips.slice(row, 1).to_pylist()[0]
            picture = _picture(clip, jpeg)
            if row in wanted:
                by_row[row] = picture
            if room:
                found[keys[row]].append(((clip["uri"], clip["start_s"]), picture))
    ordered = {key: sorted(group, key=lambda item: item[0]) for key, group in found.items()}
    return Gallery({key: tuple(picture for _, picture in group) for key, group in ordered.items()}, by_row)


def nearest_rows(clips: pa.Table, limits: Mapping[str, Any]) -> Nearest:
    """The clips nearest to each limit that is on: kept ones, and those that it stopped.

    Args:
        limits: by name (`min_motion`), a number or None.
    """
    states = np.array(clips["state"].to_pylist())
    reasons = np.array(clips["reason"].to_pylist())
    found: dict[tuple[str, str], Sequence[int]] = {}
    for name in limit_order(limits):
        values = clips[f"score_{name[4:]}"].to_numpy(zero_copy_only=False).astype(np.float64)
        upward = 1.0 if name.startswith("min_") else -1.0
        for state, mask, rank in (
            ("kept", states == "kept", upward * values),
            ("filtered", (states == "filtered") & (reasons == name), -upward * values),
        ):
            rows = np.flatnonzero(mask & np.isfinite(values))
            found[state, name] = rows[np.argsort(rank[rows], kind="stable")[:MAX_NEAR]].tolist()
    return found


def limit_order(limits: Mapping[str, Any]) -> list[str]:
    """Names of the limits that are on, in the order in which clips meet them."""
    names = (f"{side}_{score.name}" for score in SCORES for side in ("min", "max"))
    return [name for name in names if limits.get(name) is not None]


def borderline(nearest: Nearest, gallery: Gallery, limits: Mapping[str, Any]) -> list[Borderline]:
    """The clips on either side of each limit, as far as there are pictures of them."""
    found = []
    for name in limit_order(limits):
        sides = [
            tuple(_near(gallery.by_row[row], name) for row in nearest.get((state, name), ()) if row in gallery.by_row)
            for state in ("kept", "filtered")
        ]
        if any(sides):
            limit = limits[name] if isinstance(limits[name], (int, float)) else None
            found.append(Borderline(name, limit, *sides))
    return found


def _near(picture: Picture, name: str) -> Picture:
    """The picture with the one score that matters beside this limit."""
    value = dict(picture.scores).get(name[4:])
    return Picture(picture.image, picture.title, f"{name[4:]} {value:.4g}" if value is not None else "",
                   picture.caption, picture.facts, picture.scores)  # fmt: skip


def _previews(run_dir: str) -> Iterator[tuple[str, bytes]]:
    """(clip id, JPEG) of every preview, in the order of the files."""
    for path in storage.list_files(storage.join(run_dir, "previews"), "*.tar"):
        for key, members in read_samples(path):
            jpeg = members.get("jpg") or members.get("jpeg")
            if jpeg:
                yield key.rpartition("/")[2], jpeg


def _picture(row: Mapping[str, Any], jpeg: bytes) -> Picture:
    name = str(row["uri"]).rstrip("/").rpartition("/")[2].partition("?")[0]
    scores = [(score.name, row[f"score_{score.name}"]) for score in SCORES if row[f"score_{score.name}"] is not None]
    note = f"{row['end_s'] - row['start_s']:.1f} s"
    if row["score"] is not None and row["threshold"] is not None:
        note = f"{row['score']:.3g} against {row['threshold']:.3g}"
    elif row["duplicate_of"]:
        note = f"of {row['duplicate_of'][:8]}"
    elif row["detail"]:
        note = row["detail"]
    return Picture(
        image="data:image/jpeg;base64," + base64.b64encode(jpeg).decode(),
        title=f"{name} {row['start_s']:.2f}–{row['end_s']:.2f} s",
        note=note,
        caption=row["caption"] or "",
        facts=", ".join([f"id {row['clip_id']}", *(f"{name} {value:.4g}" for name, value in scores)]),
        scores=tuple(scores),
    )
