"""Open-MAGVIT2's checkpoints: exact agreement with the reference, the layout, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tokenize_shards.base import VideoTokenizer
from tokenize_shards.loading import load_video_tokenizer, save_tokenizer
from tokenize_shards.magvit2 import Magvit2, Magvit2Config
from tokenize_shards.open_magvit2 import layer_names, load_open_magvit2

torch.set_num_threads(1)

SMALL = Magvit2Config(
    channels=32,
    multipliers=(1, 2),
    num_res_blocks=2,
    num_decoder_blocks=1,
    num_mid_blocks=3,
    strides=((2, 2),),
    num_bits=6,
    norm_scope="clip",
)


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> tuple[Magvit2, dict[str, Tensor]]:
    """The tokenizer of the golden checkpoint, and what the reference code gave with it."""
    folder = shared_data / "golden"
    tokenizer: Any = load_video_tokenizer(folder / "open_magvit2_tiny.ckpt", "cpu")
    return tokenizer, load_file(folder / "open_magvit2_tiny_expected.safetensors")


def test_the_network_is_read_off_the_shapes(golden: tuple[Magvit2, dict[str, Tensor]]) -> None:
    config = golden[0].config
    assert (config.channels, config.multipliers, config.num_res_blocks) == (32, (1, 2, 2, 4), 1)
    assert (config.strides, config.num_bits, config.bit_order) == (((1, 2), (2, 2), (2, 2)), 18, "little")
    assert sum(parameter.numel() for parameter in golden[0].parameters()) == pytest.approx(9.6e6, rel=0.02)


@pytest.mark.parametrize("frames", [1, 9, 17])
def test_latents_codes_and_pixels_are_the_references(golden: tuple[Magvit2, dict[str, Tensor]], frames: int) -> None:
    tokenizer, expected = golden
    video = expected[f"frames{frames}.video_uint8_CTHW"][None].float() / 127.5 - 1
    indices = expected[f"frames{frames}.indices_thw"][None]
    latents = expected[f"frames{frames}.latent_Cthw"][None]
    with torch.no_grad():
        torch.testing.assert_close(tokenizer.latents(video), latents, atol=1e-4, rtol=0)
        decoded = tokenizer.decoder(tokenizer.quantizer.codes(indices))
    torch.testing.assert_close(decoded[0], expected[f"frames{frames}.decoded_CTHW"], atol=1e-4, rtol=0)
    bits = tokenizer.quantizer.codes(tokenizer.encode(video))
    clear = latents.abs() > 1e-4
    assert torch.equal(bits[clear], tokenizer.quantizer.codes(indices)[clear])


def test_the_published_norm_is_not_causal_and_the_other_is(shared_data: Path) -> None:
    path = shared_data / "golden" / "open_magvit2_tiny.ckpt"
    video = torch.rand(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        pooled, strict = load_open_magvit2(path), load_open_magvit2(path, norm="frame")
        first = pooled.latents(video)[:, :, :1]
        assert not torch.allclose(first, pooled.latents(video[:, :, :1]), atol=1e-3)
        assert torch.equal(strict.latents(video)[:, :, :1], strict.latents(video[:, :, :1]))


def write_checkpoint(
    path: Path, live: Magvit2, average: Magvit2 | None, change: Callable[[dict[str, Any]], object] | None = None
) -> Path:
    """A Lightning checkpoint in Open-MAGVIT2's layout."""
    names, state = list(layer_names(live.config)), {}
    for theirs, ours in names:
        state[theirs] = live.state_dict()[ours]
        if average is not None:
            state["model_ema." + theirs.replace(".", "")] = average.state_dict()[ours]
    state["loss.discriminator.main.weight"] = torch.zeros(2)
    state["model_ema.decay"] = torch.tensor(0.999)
    if change is not None:
        change(state)
    torch.save({"state_dict": state, "epoch": 3, "optimizer_states": [{}]}, path)
    return path


def test_the_moving_average_is_preferred(tmp_path: Path) -> None:
    torch.manual_seed(0)
    live, average = Magvit2(SMALL), Magvit2(SMALL)
    both = load_open_magvit2(write_checkpoint(tmp_path / "both.ckpt", live, average))
    alone = load_open_magvit2(write_checkpoint(tmp_path / "live.ckpt", live, None))
    assert both.config == alone.config == SMALL
    for model, source in ((both, average), (alone, live)):
        for key, value in source.state_dict().items():
            assert torch.equal(model.state_dict()[key], value), key


def test_a_folder_with_the_checkpoint_and_our_export_of_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = write_checkpoint(tmp_path / "video.ckpt", Magvit2(SMALL), None)
    loaded: Any = load_video_tokenizer(tmp_path, "cpu")
    assert isinstance(loaded, VideoTokenizer)
    assert (loaded.name, loaded.codebook_size, loaded.bit_order) == ("video", 64, "little")
    assert (loaded.temporal_stride, loaded.spatial_stride) == (2, 2)
    assert loaded.fingerprint == load_video_tokenizer(path, "cpu").fingerprint != ""
    strict: Any = load_video_tokenizer(f"{path}#frame", "cpu")
    assert (loaded.config.norm_scope, strict.config.norm_scope) == ("clip", "frame")
    assert strict.fingerprint != loaded.fingerprint
    with pytest.raises(ValueError, match="'pixel' is not one of frame, clip"):
        load_video_tokenizer(f"{tmp_path}#pixel")
    save_tokenizer(loaded, tmp_path / "ours")
    video = torch.rand(1, 3, 3, 8, 8) * 2 - 1
    ours = load_video_tokenizer(tmp_path / "ours", "cpu")
    assert torch.equal(ours.encode(video), loaded.encode(video))
    (tmp_path / "second.ckpt").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"several checkpoints \(second\.ckpt, video\.ckpt\)"):
        load_video_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("decoder.conv_in.conv_1.bias"), r"lacks decoder\.conv_in\.conv_1\.bias"),
        (lambda state: state.pop("encoder.conv_in.conv_1.weight"), "lacks 'encoderconv_inconv_1weight'"),
        (lambda state: state.update({"encoder.mid.attn_1.q.weight": torch.zeros(3)}), "does not have"),
        (lambda state: state.update({"encoder.norm_out.weight": torch.zeros(3)}), "size mismatch"),
        (lambda state: state.update({"encoder.conv_in.conv_1.weight": torch.zeros(4, 3, 3, 3)}), "image checkpoint"),
        (lambda state: state.clear(), "holds no encoder"),
    ],
    ids=["missing", "no-stem", "left-over", "shape", "image", "empty"],
)
def test_other_checkpoints_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = write_checkpoint(tmp_path / "x.ckpt", Magvit2(SMALL), None, change)
    with pytest.raises(ValueError, match=message):
        load_video_tokenizer(path, "cpu")


class Payload:
    """An object that would run code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must never run",))


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": Payload()}, tmp_path / "bad.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    for name in ("bad.ckpt", "text.ckpt"):
        with pytest.raises(ValueError, match="does not load as a checkpoint of tensors alone"):
            load_video_tokenizer(tmp_path / name)
    assert "never" not in capsys.readouterr().out
