"""The pictures of the report: some of every outcome, and those nearest to each limit."""

import base64
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from curation.ledger_rows import Row
from curation.report_ledger import limit_order
from curation.report_records import Borderline, Outcome, Picture
from media import storage
from media.tar import read_samples
from schemas.scores import SCORES

MAX_KEPT, MAX_PER_REASON = 50, 10


@dataclass(frozen=True)
class Gallery:
    """The pictures that were found."""

    by_outcome: dict[Outcome, tuple[Picture, ...]]  # up to `MAX_PER_REASON` (`MAX_KEPT` of what was kept)
    by_id: dict[str, Picture]  # of the clips asked for


def preview_ids(run_dir: str) -> list[str]:
    """Ids of the clips of which there is a preview."""
    return [clip_id for clip_id, _ in _previews(run_dir)]


def read_pictures(run_dir: str, rows: Mapping[str, Row], wanted: Collection[str]) -> Gallery:
    """Pictures from the previews of a run, in a fixed order.

    Args:
        rows: rows of the ledger by clip id; previews of other clips are passed over.
        wanted: ids of clips whose pictures are taken whatever their outcome.
    """
    by_id: dict[str, Picture] = {}
    found: dict[Outcome, list[tuple[tuple[str, float], Picture]]] = defaultdict(list)
    for clip_id, jpeg in _previews(run_dir):
        row = rows.get(clip_id)
        if row is None:
            continue
        outcome = (row["state"], row["stage"], row["reason"])
        room = len(found[outcome]) < (MAX_KEPT if row["state"] == "kept" else MAX_PER_REASON)
        if room or clip_id in wanted:
            picture = _picture(row, jpeg)
            if clip_id in wanted:
                by_id[clip_id] = picture
            if room:
                found[outcome].append(((row["uri"], row["start_s"]), picture))
    ordered = {key: sorted(group, key=lambda item: item[0]) for key, group in found.items()}
    return Gallery({key: tuple(picture for _, picture in group) for key, group in ordered.items()}, by_id)


def borderline(
    nearest: Mapping[tuple[str, str], list[tuple[float, str]]], gallery: Gallery, limits: Mapping[str, Any]
) -> list[Borderline]:
    """The clips on either side of each limit, as far as there are pictures of them.

    Args:
        nearest: by (`kept` or `filtered`, name of the limit): (rank, clip id), the nearest first.
    """
    found = []
    for name in limit_order(limits):
        passed, missed = (
            tuple(
                _near(gallery.by_id[clip_id], name)
                for _, clip_id in nearest.get((state, name), ())
                if clip_id in gallery.by_id
            )
            for state in ("kept", "filtered")
        )
        if passed or missed:
            limit = limits[name] if isinstance(limits[name], (int, float)) else None
            found.append(Borderline(name, limit, passed, missed))
    return found


def _near(picture: Picture, name: str) -> Picture:
    """The picture with the one score that matters beside this limit."""
    value = dict(picture.scores).get(name[4:])
    return replace(picture, note=f"{name[4:]} {value:.4g}" if value is not None else "")


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
