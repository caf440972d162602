"""A TorchScript pair made here: codes and pixels of the modules themselves, strides, types, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tokenize_shards.base import VideoTokenizer
from tokenize_shards.loading import load_video_tokenizer

torch.set_num_threads(1)


class Encoder(nn.Module):
    """Frame 0 and then every second frame, in cells of 4x4 pixels, to 3 bits: strides 2x4x4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 3, (1, 4, 4), stride=(2, 4, 4))
        self.register_buffer("_levels", torch.tensor([2, 2, 2], dtype=torch.int32))

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.conv(video)
        bits = (latents > 0).int()
        return bits[:, 0] + 2 * bits[:, 1] + 4 * bits[:, 2], latents


class Decoder(nn.Module):
    """The inverse shape."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 3)

    def forward(self, indices: Tensor) -> Tensor:
        assert indices.dtype == torch.int32  # the type the encoder gives, as published decoders may insist on
        frames = self.table(indices).permute(0, 4, 1, 2, 3)
        frames = torch.cat((frames[:, :, :1], frames[:, :, 1:].repeat_interleave(2, dim=2)), dim=2)
        return frames.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)


class Continuous(nn.Module):
    def forward(self, video: Tensor) -> Tensor:
        return video[:, :, ::4, ::8, ::8]


def write_pair(folder: Path, encoder: nn.Module, decoder: nn.Module) -> Path:
    folder.mkdir()
    torch.jit.script(encoder.eval()).save(str(folder / "encoder.jit"))
    torch.jit.script(decoder.eval()).save(str(folder / "decoder.jit"))
    return folder


def test_the_pair_is_what_it_was_made_of(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(), Decoder()
    tokenizer = load_video_tokenizer(write_pair(tmp_path / "pair", encoder, decoder), "cpu")
    assert isinstance(tokenizer, VideoTokenizer)
    assert (tokenizer.name, tokenizer.codebook_size, tokenizer.bit_order) == ("pair", 8, None)
    assert (tokenizer.temporal_stride, tokenizer.spatial_stride) == (2, 4)
    assert tokenizer.grid(5, 16, 24) == (3, 4, 6)
    video = torch.rand(2, 3, 5, 16, 24) * 2 - 1
    indices = tokenizer.encode(video)
    assert indices.dtype == torch.int64
    with torch.no_grad():
        assert torch.equal(indices, encoder(video)[0].long())
        assert torch.equal(tokenizer.decode(indices), decoder(indices.int()).clamp(-1, 1))
    with pytest.raises(ValueError, match="1 \\+ k·2"):
        tokenizer.encode(video[:, :, :4])
    with pytest.raises(ValueError, match="another tokenizer"):
        tokenizer.decode(indices + 8)


def test_half_precision_networks_take_and_give_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = write_pair(tmp_path / "half", Encoder().bfloat16(), Decoder().bfloat16())
    tokenizer = load_video_tokenizer(folder, "cpu")
    assert tokenizer.decode(tokenizer.encode(torch.zeros(1, 3, 1, 8, 8))).dtype == torch.float32


def test_fingerprint_follows_both_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = write_pair(tmp_path / "first", Encoder(), Decoder())
    second = write_pair(tmp_path / "second", Encoder(), Decoder())
    (second / "encoder.jit").write_bytes((first / "encoder.jit").read_bytes())
    assert load_video_tokenizer(first).fingerprint == load_video_tokenizer(first).fingerprint
    assert load_video_tokenizer(first).fingerprint != load_video_tokenizer(second).fingerprint


def test_number_of_codes(tmp_path: Path) -> None:
    encoder = Encoder()
    encoder._levels = torch.zeros(1, 1)  # says nothing any more
    folder = write_pair(tmp_path / "pair", encoder, Decoder())
    with pytest.raises(ValueError, match=r"config\.json with"):
        load_video_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps({"codebook_size": 8, "architectures": ["CosmosTokenizer"]}))
    assert load_video_tokenizer(folder).codebook_size == 8
    (folder / "config.json").unlink()
    assert load_video_tokenizer(folder.rename(tmp_path / "Cosmos-DV2x4x4")).codebook_size == 64_000


def test_files_that_are_no_such_pair(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a continuous tokenizer"):
        load_video_tokenizer(write_pair(tmp_path / "continuous", Continuous(), Decoder()))
    folder = write_pair(tmp_path / "broken", Encoder(), Decoder())
    (folder / "decoder.jit").write_text("no program")
    with pytest.raises(ValueError, match="does not load as TorchScript"):
        load_video_tokenizer(folder)
