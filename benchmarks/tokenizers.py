"""Our tokenizers beside magvit2-pytorch, phenaki-pytorch and encodec: seconds to encode and decode, and peak memory.

Equal parameter count (ours is widened until it matches, within a few percent), equal input, equal latent grid, pixels
convolved as the peer does it (no wavelets, no larger patches). Random weights, one thread, one clip, each kind in a
process of its own; seconds are of CPU time, the best of several, and peak memory is what encoding and decoding need
beyond the model. `tiny` is what ships: another, smaller network on the same input, listed for what it is.

The peers come with the extra `bench`; without them only ours is listed.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tokenize_shards import cvivit, magvit2, soundstream
from tokenize_shards.acceleration import autocast, hold_weights
from tokenize_shards.cvivit import CViViT, CViViTConfig
from tokenize_shards.magvit2 import Magvit2, Magvit2Config
from tokenize_shards.settings_parts import Precision
from tokenize_shards.soundstream import SoundStream, SoundStreamConfig

RATE_HZ = 24_000
Codec = tuple[nn.Module, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor]
"""A model, its way to codes, its way back, and the input."""
PEERS = {"magvit2": "magvit2_pytorch", "cvivit": "phenaki_pytorch", "soundstream": "encodec"}
# The example of magvit2-pytorch's README, which has the strides of the paper.
MAGVIT2_LAYERS: tuple[Any, ...] = (
    "residual", "compress_space", ("consecutive_residual", 2), "compress_space", ("consecutive_residual", 2),
    "linear_attend_space", "compress_space", ("consecutive_residual", 2), "attend_space", "compress_time",
    ("consecutive_residual", 2), "compress_time", ("consecutive_residual", 2), "attend_time",
)  # fmt: skip


def num_parameters(model: nn.Module) -> int:
    """How many weights a model has."""
    return sum(parameter.numel() for parameter in model.parameters())


def matched(make: Callable[[int], nn.Module], widths: range, target: int) -> nn.Module:
    """The model whose number of weights is nearest to the target's; the width is found on models without storage."""

    def distance(width: int) -> int:
        with torch.device("meta"):
            return abs(num_parameters(make(width)) - target)

    return make(min(widths, key=distance))


def video(num_frames: int, size: int) -> Tensor:
    """Random pixels, 1 3 T size size in [-1, 1]."""
    return torch.rand(1, 3, num_frames, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def magvit2_peer(num_frames: int, size: int, target: int) -> Codec:
    """magvit2-pytorch."""
    from magvit2_pytorch import VideoTokenizer

    model = VideoTokenizer(
        image_size=size, init_dim=64, max_dim=512, codebook_size=2**18, layers=MAGVIT2_LAYERS, use_gan=False,
        perceptual_loss_weight=0.0,
    )  # fmt: skip
    return model, model.tokenize, model.decode_from_code_indices, video(num_frames, size)


def magvit2_ours(num_frames: int, size: int, target: int) -> Codec:
    """Full 3x3x3 convolutions over pixels, laid out as the peer: twice as wide at each stride in space, one block at
    full size, most blocks at the latent grid, a 1x1 convolution before depth to space."""
    shape = Magvit2Config(
        multipliers=(1, 2, 4, 8), num_res_blocks=1, num_mid_blocks=6, upsample_kernel=(1, 1), norm_groups=8
    )
    made: Any = matched(lambda width: Magvit2(replace(shape, channels=width)), range(16, 136, 8), target)
    return made, made.encode, made.decode, video(num_frames, size)


def magvit2_tiny(num_frames: int, size: int, target: int) -> Codec:
    """What ships, on Haar patches."""
    model = Magvit2(magvit2.TINY)
    return model, model.encode, model.decode, video(num_frames, size)


def cvivit_peer(num_frames: int, size: int, target: int) -> Codec:
    """phenaki-pytorch."""
    from phenaki_pytorch import CViViT as Peer

    model = Peer(
        dim=512, codebook_size=8192, image_size=size, patch_size=8, temporal_patch_size=2, spatial_depth=4,
        temporal_depth=4, use_vgg_and_gan=False,
    )  # fmt: skip
    encode = lambda pixels: model(pixels, return_only_codebook_ids=True)  # noqa: E731
    decode = lambda codes: model.decode_from_codebook_indices(codes.flatten(1))  # noqa: E731  # it takes a row of codes
    return model, encode, decode, video(num_frames, size)


def cvivit_ours(num_frames: int, size: int, target: int) -> Codec:
    """The paper's size, widened to the peer's."""
    make: Any = lambda width: CViViT(CViViTConfig(width=width, quantizer="lfq"))  # noqa: E731
    model: Any = matched(make, range(256, 769, 64), target)
    return model, model.encode, model.decode, video(num_frames, size)


def cvivit_tiny(num_frames: int, size: int, target: int) -> Codec:
    """The size for CPUs."""
    model = CViViT(cvivit.TINY)
    return model, model.encode, model.decode, video(num_frames, size)


def sound(num_frames: int) -> Tensor:
    """Noise as long as so many frames at 8 fps, in whole codes: 1 1 T."""
    return torch.rand(1, 1, num_frames * RATE_HZ // 8 // 320 * 320, generator=torch.Generator().manual_seed(0)) * 2 - 1


def soundstream_peer(num_frames: int, size: int, target: int) -> Codec:
    """encodec at 24 kHz and 6 kbit/s: 8 levels at 75 Hz."""
    from encodec import EncodecModel

    model = EncodecModel.encodec_model_24khz(pretrained=False)
    model.set_target_bandwidth(6.0)
    encode = lambda samples: model.encode(samples)[0][0]  # noqa: E731
    return model, encode, lambda codes: model.decode([(codes, None)]), sound(num_frames)


def soundstream_ours(num_frames: int, size: int, target: int) -> Codec:
    """The paper's network at the peer's rate with one residual unit a stage, as the peer has, and its widths; what the
    peer has in a recurrent layer at the rate of the codes, ours has in wider latents."""
    shape = SoundStreamConfig(channels=32, num_quantizers=8, sample_rate_hz=RATE_HZ, dilations=(1,))

    def make(width: int) -> SoundStream:
        with torch.device("cpu"):  # its starting weights are computed
            return SoundStream(replace(shape, width=width))

    model: Any = matched(make, range(512, 2049, 128), target)
    return model, model.encode, model.decode, sound(num_frames)


def soundstream_tiny(num_frames: int, size: int, target: int) -> Codec:
    """What ships, at 16 kHz."""
    model = SoundStream(soundstream.TINY)
    return model, model.encode, model.decode, sound(num_frames)[:, :, : num_frames * 2000 // 320 * 320]


def measure(codec: Codec, repeats: int, precision: Precision) -> dict[str, Any]:
    """CPU seconds of encoding and decoding, peak bytes beyond the model, weights, and the shape of the codes."""
    model, encode, decode, given = codec
    model.eval()
    parameters = num_parameters(model)
    if isinstance(model, Magvit2 | CViViT | SoundStream):
        hold_weights(model, precision)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds: dict[str, list[float]] = {"encode_s": [], "decode_s": []}
    with torch.inference_mode(), autocast(torch.device("cpu"), precision):
        for _ in range(repeats):
            start = time.process_time()
            codes = encode(given)
            middle = time.process_time()
            decode(codes)
            seconds["encode_s"].append(middle - start)
            seconds["decode_s"].append(time.process_time() - middle)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    best = {name: min(values) for name, values in seconds.items()}
    return {**best, "bytes": peak - before, "parameters": parameters, "codes": list(codes.shape)}


def in_a_process(kind: str, options: argparse.Namespace, target: int = 0) -> dict[str, Any]:
    """The figures of one kind, from a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.tokenizers", "--kind", kind, "--target", str(target)]
    for name in ("frames", "size", "repeats", "precision"):
        command += [f"--{name}", str(getattr(options, name))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{kind}: {result.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(result.stdout.splitlines()[-1]))


def show(name: str, row: dict[str, Any]) -> None:
    """A line of the table."""
    grid = "×".join(map(str, row["codes"][1:]))
    print(
        f"| {name} | {row['parameters'] / 1e6:.1f} | {grid} | {row['encode_s']:.2f} | {row['decode_s']:.2f} "
        f"| {row['bytes'] / 1e6:,.0f} |"
    )


def compare(kind: str, options: argparse.Namespace) -> str:
    """Prints the rows of one kind of tokenizer; returns the sentence with the ratios."""
    peer = None
    if importlib.util.find_spec(PEERS[kind]) is not None:
        peer = in_a_process(f"{kind}_peer", options)
        show(PEERS[kind], peer)
    ours = in_a_process(f"{kind}_ours", options, peer["parameters"] if peer else 50_000_000)
    show(f"{kind}, ours", ours)
    show(f"{kind}, tiny", in_a_process(f"{kind}_tiny", options))
    if peer is None:
        return f"{PEERS[kind]} is not installed: pip install 'reelmill[bench]'"
    ratios = {name: peer[name] / ours[name] for name in ("encode_s", "decode_s")}
    memory = ours["bytes"] / max(peer["bytes"], 1)
    return (
        f"{kind} beside {PEERS[kind]}: encodes {ratios['encode_s']:.2f}×, decodes {ratios['decode_s']:.2f}× as fast, "
        f"with {memory:.2f}× its memory"
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=17, help="frames of the clip, 1 + a multiple of 4")
    parser.add_argument("--size", type=int, default=128, help="side of its pictures in pixels")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of both sides")
    parser.add_argument("--only", choices=tuple(PEERS), action="append", help="kinds to compare; by default all")
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--target", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Prints the table."""
    options = parse(arguments or [])
    size = f"{options.frames}×{options.size}×{options.size}"
    print(f"One clip of {size}, and as much sound; one thread, {options.precision}.\n")
    print("| | million weights | codes | encode s | decode s | memory MB |\n|---|---|---|---|---|---|")
    sentences = [compare(kind, options) for kind in options.only or PEERS]
    print("\n" + "\n".join(sentences))


if __name__ == "__main__":
    if "--kind" in sys.argv:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        torch.manual_seed(0)
        given = parse(sys.argv[1:])
        made = globals()[given.kind](given.frames, given.size, given.target)
        print(json.dumps(measure(made, given.repeats, given.precision)))
    else:
        main(sys.argv[1:])
