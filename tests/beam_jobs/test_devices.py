"""Jobs for GPUs, submitted from a machine that may have none: the device belongs to the workers."""

import socket
from pathlib import Path

import pytest
import torch

from beam_jobs.engines import check_engine
from beam_jobs.job import CurateJob, model_devices
from beam_jobs.model_stages import on_gpu
from beam_jobs.runner import beam_options
from beam_jobs.tokenize_pipeline import Prepared, prepare
from curation.devices import device_kind, pick_device
from curation.settings import CURATE
from tokenize_shards.encode_clip import ClipTokenizer
from tokenize_shards.settings import TOKENIZE

HERE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.curation.tiny_models import save_open_clip

    return f"local-dir:{save_open_clip(tmp_path_factory.mktemp('models') / 'clip')}"


def job_of(clip_model: str, folder: Path, *flags: str) -> CurateJob:
    given = ["--input", "in.csv", "--output", str(folder / "run"), "--clip_score.model", clip_model, *flags]
    return CurateJob.of(CURATE.parse(given)[0])


@pytest.mark.parametrize(
    ("flags", "device"),
    [
        pytest.param([], HERE, id="auto"),
        pytest.param(["--clip_score.device", "cpu"], "cpu", id="cpu"),
        pytest.param(["--clip_score.device", "cuda"], "cuda", id="cuda"),
        pytest.param(["--clip_score.device", "cuda:1"], "cuda:1", id="one-of-many"),
        pytest.param(["--engine.accelerator", "type:nvidia-l4;count:1"], "cuda", id="auto-where-gpus-are-asked-for"),
        pytest.param(["--engine.accelerator", "type:x", "--clip_score.device", "cpu"], "cpu", id="cpu-all-the-same"),
    ],
)
def test_all_workers_of_a_job_take_one_kind_of_device(
    clip_model: str, tmp_path: Path, flags: list[str], device: str
) -> None:
    assert job_of(clip_model, tmp_path, *flags).settings.clip_score.device == device


def test_results_of_each_kind_of_device_are_kept_apart(clip_model: str, tmp_path: Path) -> None:
    names = ("auto", HERE, "cuda", "cuda:1", "cpu")
    found = {
        name: job_of(clip_model, tmp_path, "--clip_score.device", name).fingerprints["embedding"] for name in names
    }
    assert found["cuda"] == found["cuda:1"] != found["cpu"]
    assert found["auto"] == found[HERE]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_worker_without_the_gpu_says_so(clip_model: str, tmp_path: Path) -> None:
    from curation.clip_score import ClipPictures

    job = job_of(clip_model, tmp_path, "--clip_score.device", "cuda")
    with pytest.raises(ValueError, match="device cuda is asked for, but there is no CUDA device here"):
        ClipPictures(job.settings.clip_score)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_what_is_to_run_here_is_refused_before_any_work(clip_model: str, tmp_path: Path) -> None:
    job = job_of(clip_model, tmp_path, "--clip_score.device", "cuda")
    devices = model_devices(job.settings)
    assert devices == ["cuda"]
    for flags in ([], ["--runner=DirectRunner"], ["--runner=PrismRunner"]):
        with pytest.raises(ValueError, match="no CUDA device here"):
            check_engine(beam_options(flags, 1), {}, devices)
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        flags = ["--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{cluster.getsockname()[1]}"]
        check_engine(beam_options(flags, 1), {}, devices)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_tokens_for_gpus_are_prepared_without_one(curated: Path, model_flags: list[str], tmp_path: Path) -> None:
    def prepared(device: str) -> Prepared:
        flags = ["--input", str(curated), "--output", str(tmp_path / "set"), *model_flags, "--device", device]
        return prepare(TOKENIZE.parse(flags)[0])

    cpu, gpu, second = (prepared(device) for device in ("cpu", "cuda", "cuda:1"))
    assert gpu.job.tokenizers == cpu.job.tokenizers
    assert gpu.job.fingerprint == second.job.fingerprint != cpu.job.fingerprint
    assert gpu.job.settings.device == "cuda" and gpu.empty_caption is not None
    with pytest.raises(ValueError, match="device cuda is asked for, but there is no CUDA device here"):
        ClipTokenizer(gpu.job.settings)


def test_names_of_devices() -> None:
    assert [device_kind(name) for name in ("cpu", "cuda", "cuda:3", "auto")] == ["cpu", "cuda", "cuda", HERE]
    assert pick_device("cpu") == "cpu" and pick_device("auto") == HERE
    assert on_gpu("cuda:1") and not on_gpu("cpu")
    for pick in (device_kind, pick_device):
        with pytest.raises(ValueError, match="device 'gpu' is none; use auto, cpu, cuda or cuda:N"):
            pick("gpu")
