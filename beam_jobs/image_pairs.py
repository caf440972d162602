"""Captioned images as inputs of `reelmill tokenize`: files with sidecars, rows of a manifest, WebDataset tars.

An image's id is a hash of its address (`FILE.jpg`, or `SHARD.tar/KEY`), so that it has one even if it cannot be read.
An address that comes again, with another caption, is an image of its own: captions may be several.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.analyze import FetchingJob, SourceMedia
from beam_jobs.curated_clips import read_at
from beam_jobs.isolation import attempt
from beam_jobs.sources import ReadSources, write_parts
from beam_jobs.token_inputs import Item, Media
from beam_jobs.units import Units
from curation.manifest import read_sources
from curation.settings import CurateSettings
from media import storage
from media.images import SUFFIXES
from schemas.identity import ID_LENGTH, fingerprint
from schemas.records import Source, Verdict, failed
from schemas.states import Rejection

_TAR = ".tar"
Place = tuple[int, int]  # first byte and number of bytes in a tar


def image_id(address: str, occurrence: int = 0) -> str:
    """Id of an image by its address, and how often that came before."""
    return fingerprint("image", address, occurrence)[:ID_LENGTH]


@dataclass(frozen=True)
class ImageFile:
    """An image at an address, and the rows that name it; an `Element`."""

    uri: str
    rows: tuple[Source, ...]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def items(self, job: FetchingJob) -> Iterator[Item]:
        """The image with the caption of each row."""
        with SourceMedia(self.uri, job) as media:
            sha256 = attempt("fetch", media.content_sha256)
            for row in self.rows:
                about = {"caption": row.caption, "license": row.license, "extra": json.loads(row.extra)}
                yield _item(image_id(self.uri, row.occurrence), about, sha256, partial(_bytes_of, media))


def _bytes_of(media: SourceMedia) -> Media:
    return media.local().path.read_bytes(), None


@dataclass(frozen=True)
class ImageMember:
    """An image in a tar, and where its parts lie there; an `Element`."""

    tar: str
    key: str
    image: Place | None
    caption: Place | None
    about: Place | None
    count: int = 1

    def items(self, job: FetchingJob) -> Iterator[Item]:
        """The image."""
        found = attempt("fetch", lambda: self._read(job))
        about, data = ({"caption": None, "license": None, "extra": {}}, found) if isinstance(found, Verdict) else found
        sha256 = data if isinstance(data, Verdict) else hashlib.sha256(data).hexdigest()
        yield _item(image_id(f"{self.tar}/{self.key}"), about, sha256, lambda: (data, None))  # type: ignore[arg-type, return-value]

    def _read(self, job: FetchingJob) -> tuple[dict[str, Any], bytes]:
        if self.image is None:
            raise Rejection("no_image", f"{self.key} in {self.tar} has no member of {', '.join(SUFFIXES)}")
        with storage.open_read(job.address(self.tar)) as file:
            about = json.loads(read_at(file, *self.about)) if self.about else {}
            about = about if isinstance(about, dict) else {"caption": str(about)}
            if self.caption:
                about["caption"] = read_at(file, *self.caption).decode("utf-8", errors="replace").strip()
            extra = {name: value for name, value in about.items() if name not in ("caption", "license")}
            known = {"caption": about.get("caption"), "license": about.get("license"), "extra": extra}
            return known, read_at(file, *self.image)


@dataclass(frozen=True)
class BrokenTar:
    """A tar that cannot be listed; an `Element` of one failed item."""

    tar: str
    detail: str
    count: int = 1

    def items(self, job: FetchingJob) -> Iterator[Item]:
        """The failure."""
        about: dict[str, Any] = {"caption": None, "license": None, "extra": {}}
        yield _item(image_id(self.tar), about, failed("fetch", "damaged_tar", self.detail), lambda: (b"", None))


def _item(key: str, about: dict[str, Any], sha256: str | Verdict, opener: Any) -> Item:
    known = None if isinstance(sha256, Verdict) else sha256
    sidecar = {
        "clip_id": key, "source_id": key, "content_sha256": known, "media_sha256": known, "image": True,
        "start_pts": 0, "end_pts": 0, "time_base_num": 1, "time_base_den": 1, "num_frames": 1, **about,
    }  # fmt: skip
    raw = json.dumps(sidecar, sort_keys=True, ensure_ascii=False).encode()
    return Item(key, sidecar, raw, opener, sha256 if isinstance(sha256, Verdict) else None)


def list_images(address: tuple[str, Iterable[Source]], folder: str) -> Iterator[Any]:
    """`Element`s: the images at an address: those of a tar one by one, else the one with all rows that name it."""
    uri, rows = address
    if not uri.endswith(_TAR):
        yield ImageFile(uri, tuple(sorted(rows, key=lambda row: row.occurrence)))
        return
    try:
        yield from _members(uri, storage.absolute(uri, folder))
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        yield BrokenTar(uri, str(error))


def _members(name: str, path: str) -> list[ImageMember]:
    """The samples of a WebDataset tar, by its headers: all of them or an error."""
    places: dict[str, dict[str, Place]] = {}
    with storage.open_read(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            folder, _, last = info.name.rpartition("/")
            stem, _, ending = last.partition(".")
            if info.isfile() and stem:
                key = f"{folder}/{stem}" if folder else stem
                places.setdefault(key, {})[ending.lower()] = (info.offset_data, info.size)
    return [_member(name, key, parts) for key, parts in sorted(places.items())]


def _member(tar: str, key: str, parts: dict[str, Place]) -> ImageMember:
    images = [place for ending, place in sorted(parts.items()) if f".{ending}" in SUFFIXES]
    return ImageMember(tar, key, images[0] if images else None, parts.get("txt"), parts.get("json"))


class ReadImages(beam.PTransform):
    """Part files of rows → images, dealt out evenly."""

    def __init__(self, parts: Sequence[str], folder: str):
        super().__init__()
        self._parts, self._folder = list(parts), folder

    def expand(self, pcoll: PCollection) -> PCollection:
        return (
            pcoll
            | "Rows" >> ReadSources(self._parts)
            | "List" >> beam.FlatMap(list_images, self._folder)
            | "SpreadImages" >> beam.Reshuffle()
        )


@dataclass(frozen=True)
class Images:
    """Captioned images; an `Inputs`.

    Attributes:
        parts: files with the rows.
        folder: in which the command was started.
        num_items: rows; a tar counts as one.
        identity: fingerprint of the rows.
    """

    parts: tuple[str, ...]
    folder: str
    num_items: int
    identity: str

    def read(self) -> beam.PTransform:
        """Pipeline → `Element`s."""
        return ReadImages(self.parts, self.folder)


def images(path: str, limit: int | None, units: Units, folder: str) -> Images | None:
    """The images of a folder, glob or manifest, or the tars among them; None where there are none.

    Args:
        limit: at most so many files, rows or tars.
        units: where the rows are kept for the workers.
        folder: in which the command was started.
    """
    try:
        rows = read_sources(CurateSettings(path, str(units.root), limit=limit))
    except ValueError as error:
        if "has no rows or files" in str(error):
            return None
        raise
    if not any(PurePosixPath(row.uri.partition("?")[0]).suffix.lower() in (*SUFFIXES, _TAR) for row in rows):
        return None
    identity = fingerprint("images", [(row.uri, row.occurrence, row.caption, row.license, row.extra) for row in rows])
    return Images(tuple(write_parts(units, rows)), folder, len(rows), identity)
