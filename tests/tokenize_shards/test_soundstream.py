"""SoundStream: rates, causality, streams, levels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenize_shards.base import AudioTokenizer
from tokenize_shards.causal import Stream
from tokenize_shards.soundstream import (
    SIZES,
    TINY,
    SoundStream,
    SoundStreamConfig,
    build_decoder,
    build_encoder,
    cosines,
    start_with_unit_gain,
)

torch.set_num_threads(1)  # on tensors this small several threads only wait for each other
SMALL = SoundStreamConfig(channels=4, width=16, codebook_size=64)


@pytest.fixture(scope="module")
def codec() -> SoundStream:
    torch.manual_seed(0)
    return SoundStream(SMALL).eval()


def sound(samples: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 1, samples, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_an_audio_tokenizer(codec: SoundStream) -> None:
    assert isinstance(codec, AudioTokenizer)


@pytest.mark.parametrize("size", SIZES)
def test_the_rate_of_videopoet(size: str) -> None:
    config = SIZES[size]
    assert (config.hop, config.sample_rate_hz, config.num_quantizers, config.codebook_size) == (320, 16000, 4, 1024)


@pytest.mark.parametrize(("samples", "codes"), [(34_000, 106), (320, 1), (639, 1), (82_000, 256)])
def test_codes_are_rounded_down(codec: SoundStream, samples: int, codes: int) -> None:
    assert codec.num_codes(samples) == codes
    found = codec.encode(sound(samples))
    assert found.shape == (1, 4, codes)
    assert codec.decode(found).shape == (1, 1, codes * 320)


@given(keep=st.integers(1, 11), seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_later_samples_change_no_earlier_code(keep: int, seed: int) -> None:
    torch.manual_seed(1)
    codec = SoundStream(SMALL).eval()
    audio = sound(12 * 320, seed)
    changed = torch.cat((audio[:, :, : keep * 320], sound((12 - keep) * 320, seed + 1)), dim=2)
    codes = codec.encode(audio)
    assert torch.equal(codec.encode(changed)[:, :, :keep], codes[:, :, :keep])
    tail = torch.randint(64, (1, 4, 12 - keep), generator=torch.Generator().manual_seed(seed))
    other = torch.cat((codes[:, :, :keep], tail), dim=2)
    torch.testing.assert_close(
        codec.decode(other)[:, :, : keep * 320], codec.decode(codes)[:, :, : keep * 320], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("piece", [320, 960, 1600])
def test_a_stream_of_pieces_gives_what_the_whole_gives(codec: SoundStream, piece: int) -> None:
    audio = sound(20 * 320, 3)
    encoding, decoding = Stream(), Stream()
    codes = [codec.encode(part, encoding) for part in audio.split(piece, dim=2)]
    whole = codec.encode(audio)
    assert torch.equal(torch.cat(codes, dim=2), whole)
    decoded = torch.cat([codec.decode(part, decoding) for part in codes], dim=2)
    torch.testing.assert_close(decoded, codec.decode(whole), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dilations", [(1, 3, 9), (1,)], ids=str)
def test_without_gradients_the_same_is_computed(dilations: tuple[int, ...]) -> None:
    """In blocks, as pictures and as matrix products: for long and short sounds, and for several at once."""
    torch.manual_seed(2)
    codec = SoundStream(SoundStreamConfig(channels=4, width=16, codebook_size=64, dilations=dilations)).eval()
    for part in (codec.encoder, codec.decoder):
        start_with_unit_gain(part)
    for frames, batch in ((30, 2), (2, 1)):
        audio = sound(frames * 320, 5, batch)
        latents = codec.encoder(audio)
        decoded = codec.decoder(latents)
        with torch.no_grad():
            torch.testing.assert_close(codec.encoder(audio), latents, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(codec.decoder(latents), decoded, atol=1e-4, rtol=1e-4)
            assert torch.equal(codec.quantizer.encode(latents), codec.quantizer(latents).indices)


def test_the_batch_does_not_matter(codec: SoundStream) -> None:
    batch = sound(5 * 320, 4, batch=3)
    together = codec.encode(batch)
    assert torch.equal(torch.cat([codec.encode(row[None]) for row in batch]), together)
    assert torch.equal(codec.decode(together)[1:2], codec.decode(together[1:2]))


def test_fewer_levels_can_be_decoded(codec: SoundStream) -> None:
    codes = codec.encode(sound(3200))
    assert codec.decode(codes[:, :2]).shape == (1, 1, 3200)
    with pytest.raises(ValueError, match="5 levels"):
        codec.decode(torch.zeros(1, 5, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("shape", "message"), [((1, 1, 319), "at least 320"), ((1, 2, 640), "B x 1 x T")], ids=["short", "stereo"]
)
def test_sounds_it_cannot_take(codec: SoundStream, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.encode(torch.zeros(shape))


def test_gradient_reaches_the_input_and_one_batch_is_overfit() -> None:
    torch.manual_seed(0)
    codec = SoundStream(SoundStreamConfig(channels=4, width=16, codebook_size=32, num_quantizers=2)).train()
    audio = torch.sin(torch.linspace(0, 300, 1600)).view(1, 1, -1).requires_grad_(True)
    optimizer = torch.optim.Adam(codec.parameters(), lr=3e-3)
    errors = []
    for _ in range(40):
        reconstruction, quantized = codec(audio)
        error = (reconstruction - audio).square().mean()
        optimizer.zero_grad()
        (error + quantized.loss).backward()
        optimizer.step()
        errors.append(error.item())
    assert float(audio.grad.abs().sum()) > 0
    assert errors[-1] < 0.5 * errors[0]


def test_cosines_are_orthonormal() -> None:
    basis = cosines(40)
    torch.testing.assert_close(basis @ basis.T, torch.eye(40), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_untrained_it_is_a_cosine_codec(size: str) -> None:
    """Before the first step, low sounds pass through encoder and decoder almost unharmed."""
    torch.manual_seed(0)
    codec = SoundStream(SIZES[size])
    audio = 0.1 * torch.sin(torch.arange(3200) * (2 * torch.pi * 300 / 16_000)).view(1, 1, -1)
    with torch.no_grad():
        error = codec.decoder(codec.encoder(audio)) - audio
    assert float(error.square().mean()) < 0.02 * float(audio.square().mean())


def test_a_random_start_hands_sound_on() -> None:
    """Differences between sounds are not drowned by offsets, in the latents and in what is decoded."""
    torch.manual_seed(0)
    encoder, decoder = build_encoder(TINY), build_decoder(TINY)
    for codec in (encoder, decoder):
        start_with_unit_gain(codec)
    with torch.no_grad():
        latents = encoder(torch.randn(8, 1, 3200) * 0.1)
        decoded = decoder(latents)
    for signal in (latents, decoded):
        deviation, offset = signal.std(dim=(0, 2)).mean(), signal.mean(dim=(0, 2)).abs().mean()
        assert 0.1 < float(deviation) < 10
        assert float(deviation) > 1.5 * float(offset)
