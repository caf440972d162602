"""FVD, FAD, CLIPSIM and inception score: the formulas against scipy, the networks against their own models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from reelmill import main as reelmill
from training.features import AudioNetwork, ClipNetwork, VideoNetwork, resampled
from training.metrics import clip_similarity, frechet_distance, inception_score

CPU = torch.device("cpu")


@pytest.mark.parametrize("width", [2, 8])
def test_frechet_distance_equals_the_formula_with_a_matrix_root(width: int) -> None:
    rng = np.random.default_rng(width)
    first = rng.normal(size=(60, width)) @ rng.normal(size=(width, width))
    second = rng.normal(size=(50, width)) @ rng.normal(size=(width, width)) + 1
    means, (one, two) = first.mean(0) - second.mean(0), (np.cov(each, rowvar=False) for each in (first, second))
    slow = means @ means + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert frechet_distance(first, second) == pytest.approx(slow)


def test_fewer_samples_than_features_still_give_a_distance() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 20))
    assert 0 < frechet_distance(first, second) < np.inf


def test_inception_score_equals_that_of_entropies() -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(7), size=30)
    slow = np.exp(np.mean([stats.entropy(row, rows.mean(axis=0)) for row in rows]))
    assert inception_score(rows) == pytest.approx(slow)


@pytest.mark.parametrize(
    ("rows", "score"), [(np.eye(4), 4.0), (np.full((5, 4), 0.25), 1.0)], ids=["one class each", "all alike"]
)
def test_inception_score_at_its_ends(rows: np.ndarray, score: float) -> None:
    assert inception_score(rows) == pytest.approx(score)


def test_inception_score_wants_probabilities() -> None:
    with pytest.raises(ValueError, match="do not sum to 1"):
        inception_score(np.ones((3, 4)))


class Pooled(nn.Module):
    """Mean colour, or mean loudness, as features."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2) if x.dim() > 2 else torch.stack([x.mean(1), x.std(1)], dim=1)


class I3dLike(nn.Module):
    """Takes the options of the I3D that is passed around; without them it gives something else."""

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        return x.flatten(2).mean(2) if return_features and not rescale and not resize else torch.zeros(1, 400)


def script(module: nn.Module, path: Path) -> str:
    torch.jit.script(module).save(str(path))
    return str(path)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny networks of random weights."""
    root = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    script(Pooled(), root / "pooled.pt")
    script(I3dLike(), root / "i3d.pt")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    video = VideoMAEConfig(**sizes, image_size=32, patch_size=16, num_frames=4, num_labels=5)
    VideoMAEForVideoClassification(video).save_pretrained(root / "videomae")
    side = {"height": 32, "width": 32}
    VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=side).save_pretrained(root / "videomae")
    layers = {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4), "num_feat_extract_layers": 2}
    sound = Wav2Vec2Config(**sizes, **layers, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    Wav2Vec2Model(sound).save_pretrained(root / "wav2vec")
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(root / "wav2vec")
    save_clip(root / "clip", sizes)
    return root


def save_clip(folder: Path, sizes: dict[str, int]) -> None:
    words = {word: index for index, word in enumerate(["[UNK]", "[EOS]", "a", "red", "ball", "blue"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="[EOS]", pad_token="[EOS]", unk_token="[UNK]", model_max_length=16
    )
    text = {**sizes, "vocab_size": 6, "max_position_embeddings": 16, "eos_token_id": 1, "bos_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 16}, projection_dim=6)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, fast).save_pretrained(folder)


def clip(seed: int, frames: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(frames, 40, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", ["pooled.pt", "i3d.pt"])
def test_torchscript_sees_frames_between_minus_one_and_one(name: str, networks: Path) -> None:
    network = VideoNetwork(str(networks / name), CPU, frame_size=16)
    white = network(np.full((5, 40, 40, 3), 255, np.uint8))
    np.testing.assert_allclose(white, [1, 1, 1], atol=1e-6)
    assert set(network.about) == {"network", "fingerprint"}


def test_video_model_sees_frames_spread_over_the_clip(networks: Path) -> None:
    network = VideoNetwork(str(networks / "videomae"), CPU)
    frames = clip(0, frames=7)
    np.testing.assert_array_equal(network(frames), network(frames[[0, 2, 4, 6]]))
    assert network(frames).shape == (8,)
    classes = VideoNetwork(str(networks / "videomae"), CPU, classify=True)(frames)
    assert classes.shape == (5,) and classes.sum() == pytest.approx(1)


def test_audio_networks_average_over_time(networks: Path) -> None:
    sound = np.sin(np.arange(1600) / 9).astype(np.float32)
    script_row = AudioNetwork(str(networks / "pooled.pt"), CPU)(sound, 16000)
    np.testing.assert_allclose(script_row, [sound.mean(), sound.std(ddof=1)], atol=1e-5)
    assert AudioNetwork(str(networks / "wav2vec"), CPU)(sound, 16000).shape == (8,)


def test_resampling_keeps_a_tone() -> None:
    tone = [np.sin(2 * np.pi * 200 * np.arange(rate // 4) / rate) for rate in (16000, 8000)]
    np.testing.assert_allclose(resampled(tone[0], 2000), tone[1], atol=1e-9)
    np.testing.assert_allclose(resampled(tone[1], 4000), tone[0], atol=1e-9)


def test_clip_similarity_is_what_clip_itself_says(networks: Path) -> None:
    network, frames = ClipNetwork(str(networks / "clip"), CPU), clip(1)
    ours = clip_similarity(network.frames(frames), network.text("a red ball"))
    inputs = network.processor(text=["a red ball"], images=list(frames), return_tensors="pt")
    with torch.no_grad():
        logits = network.model(**inputs).logits_per_image / network.model.logit_scale.exp()
    assert ours == pytest.approx(float(logits.mean()), abs=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda root: VideoNetwork(str(root / "none.pt"), CPU), FileNotFoundError, "no feature network"),
        (lambda root: VideoNetwork(str(root / "nothing"), CPU), FileNotFoundError, "no model"),
        (lambda root: VideoNetwork(str(root / "text.pt"), CPU), ValueError, "does not load"),
        (lambda root: ClipNetwork(str(root / "pooled.pt"), CPU), ValueError, "wants a CLIP model"),
    ],
    ids=["no file", "no folder", "no script", "no CLIP"],
)
def test_what_is_no_network_is_named(make, error, message, networks: Path) -> None:
    (networks / "text.pt").write_text("no network")
    with pytest.raises(error, match=message):
        make(networks)


def test_figures_of_sets_say_how_they_were_made(networks: Path, one_step_lm: Path, token_data, tmp_path: Path) -> None:
    arguments = [
        "--split",
        "train",
        "--generate",
        "0",
        "--device",
        "cpu",
        "--tasks",
        "[t2v]",
        "--features.samples",
        "2",
    ]
    features = {"video": "i3d.pt", "audio": "pooled.pt", "clip": "clip", "classifier": "videomae"}
    for name, file in features.items():
        arguments += [f"--features.{name}", str(networks / file)]
    output = tmp_path / "figures.json"
    command = ["evaluate", "--model", str(one_step_lm), "--data", str(token_data.folder), "--output", str(output)]
    assert reelmill([*command, *arguments]) == 0
    sets = json.loads(output.read_text())["sets"]
    assert set(sets) == {"fvd", "fad", "clipsim", "inception_score"}
    for figure in sets.values():
        assert np.isfinite(figure["value"])
        assert {"network", "fingerprint", "n", "frames", "fps", "real", "sampling"} <= figure.keys()
        assert (figure["n"], figure["frames"], figure["fps"]) == (2, 17, "8")
