"""Both jobs put together for Dataflow without an account or a network: `--dry_run=True`."""

from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api.org.apache.beam.model.pipeline.v1.beam_runner_api_pb2 import ParDoPayload

from beam_jobs import curate_pipeline
from beam_jobs.dataflow_options import check_dataflow
from beam_jobs.job import CurateJob
from beam_jobs.run_pipeline import is_dry_run, run
from beam_jobs.runner import beam_options
from curation.settings import CURATE

GOOD = {
    "project": "reel-mill-123", "region": "europe-west4", "temp_location": "gs://reels/tmp", "job_name": "curate-1",
}  # fmt: skip


def flags(**changed: str | None) -> list[str]:
    said = {"runner": "DataflowRunner", **GOOD, **changed}
    return [f"--{name}={value}" for name, value in said.items() if value is not None]


def test_good_options_pass() -> None:
    check_dataflow(beam_options(flags(), 1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"project": None}, "--project is missing", id="no-project"),
        pytest.param({"project": "My Project"}, "--project 'My Project'", id="project"),
        pytest.param({"region": None}, "--region is missing", id="no-region"),
        pytest.param({"region": "Europe"}, "--region 'Europe'", id="region"),
        pytest.param({"temp_location": None}, "--temp_location=gs://BUCKET/tmp", id="no-bucket"),
        pytest.param({"temp_location": "gs://ab/tmp"}, "name of 3 or more", id="short-bucket"),
        pytest.param({"temp_location": "/tmp/x"}, "gs://BUCKET/PATH", id="local-bucket"),
        pytest.param({"job_name": "Curate_1"}, "--job_name 'Curate_1'", id="job-name"),
        pytest.param({"job_name": "a" * 64}, "64 letters; 63 at most", id="long-name"),
    ],
)
def test_wrong_options_are_named(changed: dict[str, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_dataflow(beam_options(flags(**changed), 1))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The curation job with a model stage, as Dataflow would be sent it."""
    pytest.importorskip("google.cloud.dataflow_v1beta3", reason="pip install 'reelmill[gcp]'")
    output = tmp_path_factory.mktemp("dry")
    settings, _ = CURATE.parse([
        "--input", "gs://reels/manifest.csv", "--output", f"file://{output}", "--config", "dataflow",
        "--caption.endpoint", "http://127.0.0.1:9/v1", "--caption.model", "blip2",
    ])  # fmt: skip
    options = beam_options([*settings.engine.as_flags(), *flags(dry_run="True")], 1)
    assert is_dry_run(options)
    pipeline = beam.Pipeline(options=options)
    curate_pipeline.build(pipeline, CurateJob.of(settings), ["gs://reels/parts/0"])
    return run(pipeline).job.proto_pipeline


@pytest.mark.long
def test_only_model_stages_ask_for_a_gpu_and_memory(graph: Any) -> None:
    components = graph.components
    asking = {
        transform.unique_name
        for transform in components.transforms.values()
        if transform.environment_id and components.environments[transform.environment_id].resource_hints
    }
    assert asking
    assert all(name.startswith("Caption/Infer") for name in asking)
    hints = next(each.resource_hints for each in components.environments.values() if each.resource_hints)
    assert hints["beam:resources:accelerator:v1"] == b"type:nvidia-l4;count:1;install-nvidia-driver"
    assert int(hints["beam:resources:min_ram_bytes:v1"]) == 16 * 10**9


@pytest.mark.long
def test_steps_have_names_of_their_own(graph: Any) -> None:
    names = [transform.unique_name for transform in graph.components.transforms.values()]
    assert len(set(names)) == len(names)
    said = {"Sources", "Analyze", "CheapFilters", "Caption", "Filters", "Cut", "Shards", "ClipLedger"}
    assert said <= {name.partition("/")[0] for name in names}


@pytest.mark.long
def test_every_step_can_be_unpacked_by_a_worker(graph: Any) -> None:
    steps = [
        ParDoPayload.FromString(transform.spec.payload).do_fn
        for transform in graph.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn
    ]
    pickled = [step.payload for step in steps if step.urn == python_urns.PICKLED_DOFN_INFO]
    assert len(pickled) > 30
    for payload in pickled:
        pickler.loads(payload)
