"""`reelmill inspect`: what a shard holds, as a table; `--decode` turns samples back into media."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from media import storage
from media.commandline import parse
from media.tar import read_samples
from schemas.shards import DatasetInfo, TokenizerInfo, TokenSample, decode_sample
from tokenize_shards.quality import CodeUse, problems_of
from tokenize_shards.settings import InspectSettings
from tokenize_shards.writer import DATASET_FILE, read_dataset, sample_row

RUN_FILE = "run.json"
_WIDTH = 160  # columns of a table that goes to a file
_EXAMPLES = (
    "reelmill inspect tokens",
    "reelmill inspect tokens/train-00000.tar --samples 20",
    "reelmill inspect tokens --decode decoded",
    "reelmill inspect curated",
)


def main(argv: list[str]) -> int:
    """Prints what is in a shard or folder; status 1 where a sample is out of range or of the wrong shape."""
    description = "What is in a shard or a folder of shards; --decode turns samples back into mp4, wav and a picture."
    settings, _ = parse(InspectSettings, argv, "reelmill inspect", description, _EXAMPLES, positional=("path",))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    kind = kind_of(settings.path)
    if kind == "clips":
        return _inspect_clips(settings, console)
    return _inspect_tokens(settings, console)


def kind_of(path: str) -> str:
    """ "tokens" or "clips": what a folder or a shard holds.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: it is neither.
    """
    if not storage.exists(path):
        raise FileNotFoundError(f"there is no {path}; name a shard (.tar) or a folder of shards")
    if not path.endswith(".tar"):
        for file, kind in ((DATASET_FILE, "tokens"), (RUN_FILE, "clips")):
            if storage.exists(storage.join(path, file)):
                return kind
        raise ValueError(
            f"{path} holds neither {DATASET_FILE} (token shards) nor {RUN_FILE} (a curated run): it is another folder, "
            "or the run that writes it has not finished"
        )
    first = next(iter(read_samples(path)), None)
    if first is None:
        raise ValueError(f"shard {path} is empty")
    members = first[1]
    if "mp4" in members:
        return "clips"
    if any(name.endswith(".npy") for name in members):
        return "tokens"
    raise ValueError(f"shard {path} holds neither clips (.mp4) nor tokens (.npy) but {', '.join(sorted(members))}")


def shard_paths(path: str, pattern: str) -> list[str]:
    """The shard itself, or the shards of a folder in order."""
    return [path] if path.endswith(".tar") else storage.list_files(path, pattern)


def token_samples(paths: Iterable[str]) -> Iterator[tuple[str, TokenSample]]:
    """(name of the shard, sample) of token shards, in order; ValueError for a sample that cannot be read."""
    for path in paths:
        for key, members in read_samples(path):
            try:
                sample = decode_sample(key, members)
            except (ValueError, KeyError) as error:
                raise ValueError(
                    f"sample {key} in {path} is damaged ({error}); run `reelmill tokenize` again"
                ) from None
            yield path.rsplit("/", 1)[-1], sample


def dataset_of(path: str) -> DatasetInfo:
    """`dataset.json` of a folder of token shards, or of the folder that a shard lies in."""
    return read_dataset(path if not path.endswith(".tar") else path.rpartition("/")[0] or ".")


def _inspect_tokens(settings: InspectSettings, console: Console) -> int:
    info = dataset_of(settings.path)
    names = [shard.name for shard in info.shards]
    whole = not settings.path.endswith(".tar")
    paths = [storage.join(settings.path, name) for name in names] if whole else [settings.path]
    _print_dataset(info, console)
    shown, problems = _print_samples(token_samples(paths), info.tokenizers, settings.samples, console)
    for problem in problems[:20]:
        console.print(f"[red]problem[/] {escape(problem)}", soft_wrap=True)
    if settings.decode is not None:
        from tokenize_shards.decode_shards import decode_samples

        console.print(decode_samples(shown, info, settings), soft_wrap=True, markup=False)
    return 1 if problems else 0


def _print_dataset(info: DatasetInfo, console: Console) -> None:
    table = Table("modality", "tokenizer", "fingerprint", "codes", "strides", box=None, pad_edge=False)
    for kind, made in sorted(info.tokenizers.items()):
        codes = f"{made.num_quantizers} × {made.codebook_size}" if made.codebook_size else f"width {made.width}"
        table.add_row(kind, escape(made.name), made.fingerprint[:12], codes, "×".join(map(str, made.strides)) or "–")
    console.print(table)
    splits: dict[str, list[int]] = {}
    for shard in info.shards:
        total = splits.setdefault(shard.split, [0, 0, 0])
        for position, value in enumerate((1, shard.num_samples, shard.num_bytes)):
            total[position] += value
    sizes = ", ".join(f"{height}x{width}" for height, width in info.resolutions)
    rate = info.fps[0] / info.fps[1]
    console.print(f"\nwindows of {info.num_frames} frames at {rate:g} fps, {info.num_frames / rate:g} s; {sizes}")
    for split, (shards, samples, num_bytes) in sorted(splits.items()):
        console.print(f"{split}: {samples:,} samples in {shards} shards, {num_bytes / 1e6:,.1f} MB")


def _print_samples(
    samples: Iterable[tuple[str, TokenSample]], tokenizers: Mapping[str, TokenizerInfo], count: int, console: Console
) -> tuple[list[TokenSample], list[str]]:
    """Prints the first samples and the use of codes among all; returns those first ones, and all problems."""
    shown: list[TokenSample] = []
    problems: list[str] = []
    rows, use = [], CodeUse(tokenizers)
    table = Table("key", "shard", "members", "PSNR dB", "caption", box=None, pad_edge=False)
    for shard, sample in samples:
        use.add(sample)
        problems += problems_of(sample, tokenizers)
        rows.append(sample_row(sample, shard, shard.split("-")[0]))
        if len(shown) < count:
            shown.append(sample)
            psnr = rows[-1].psnr_db
            caption = _short(sample.meta.get("caption"))
            table.add_row(sample.key, shard, _members(sample), f"{psnr:.2f}" if psnr else "", escape(caption))
    console.print()
    console.print(table)
    quality = use.quality(rows, problems)
    more = f"; {len(rows) - len(shown):,} more" if len(rows) > len(shown) else ""
    console.print(
        f"\n{len(rows):,} samples{more}: {quality.video_codes_used:,} visual codes in use, perplexity "
        f"{quality.video_perplexity:,.0f}, {quality.full_bits:.0%} of bits carry ≥ 0.9 bit"
        + (f", round trip {quality.psnr_db:.2f} dB" if quality.psnr_db is not None else "")
        + (f"; motion codes: perplexity {quality.motion_perplexity:,.0f}" if quality.motion_perplexity else "")
        + (f"; structure codes: perplexity {quality.structure_perplexity:,.0f}" if quality.structure_perplexity else "")
    )
    return shown, problems


def _members(sample: TokenSample) -> str:
    return " ".join(f"{name} {'×'.join(map(str, array.shape))} {array.dtype}" for name, array in sample.arrays.items())


def _short(caption: Any) -> str:
    text = " ".join(str(caption).split()) if caption else "–"
    return text if len(text) <= 60 else text[:59] + "…"


def clip_samples(path: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, members) of a clip shard, or of all clip shards of a curated run."""
    for shard in shard_paths(path, "clips/*.tar"):
        yield from read_samples(shard)


def _inspect_clips(settings: InspectSettings, console: Console) -> int:
    table = Table("key", "size", "seconds", "frames", "sound", "kB", "caption", box=None, pad_edge=False)
    count = num_bytes = 0
    seconds = 0.0
    for key, members in clip_samples(settings.path):
        about = json.loads(members["json"])
        duration = about["end_s"] - about["start_s"]
        count, num_bytes, seconds = count + 1, num_bytes + len(members["mp4"]), seconds + duration
        if count <= settings.samples:
            size, sound = f"{about['height']}x{about['width']}", "yes" if about["audio_sample_rate_hz"] else "no"
            kilobytes = f"{len(members['mp4']) / 1e3:,.0f}"
            caption = escape(_short(about["caption"]))
            table.add_row(key, size, f"{duration:.2f}", str(about["num_frames"]), sound, kilobytes, caption)
    console.print(table)
    console.print(f"\n{count:,} clips, {seconds / 60:.1f} min, {num_bytes / 1e6:,.1f} MB of media")
    if settings.decode is not None:
        console.print(_extract(settings.path, settings.decode, settings.samples), soft_wrap=True, markup=False)
    return 0


def _extract(path: str, folder: str, count: int) -> str:
    """Writes the clips' media and keyframes as files; returns a sentence of what lies where."""
    keys = []
    for key, members in islice(clip_samples(path), count):
        keys.append(key)
        for ending in ("mp4", "jpg", "json"):
            if ending in members:
                storage.write_bytes_atomic(storage.join(folder, f"{key}.{ending}"), members[ending])
    return f"{len(keys)} clips → {folder}"
