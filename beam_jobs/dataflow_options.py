"""What Dataflow needs to be told: asked here, so that a mistake is found before anything is sent."""

import importlib.util
import re

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_PROJECT = re.compile(r"[a-z][-a-z0-9:.]{4,61}[a-z0-9]")
_REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_BUCKET = re.compile(r"gs://([a-z0-9][-_.a-z0-9]{1,220}[a-z0-9])(/.*)?")
_LONGEST_NAME = 63


def check_dataflow(options: PipelineOptions) -> None:
    """Raises ValueError where project, region, bucket or job name cannot be, or Google's libraries are not there."""
    cloud = options.view_as(GoogleCloudOptions)
    _check("project", cloud.project, _PROJECT, "the id of a Google Cloud project, such as my-project-123")
    _check("region", cloud.region, _REGION, "a region of Google Cloud, such as europe-west4")
    if not cloud.temp_location and not cloud.staging_location:
        raise ValueError("--temp_location is missing; Dataflow needs a bucket: --temp_location=gs://BUCKET/tmp")
    for name in ("temp_location", "staging_location"):
        place = getattr(cloud, name)
        if place is not None:
            _check(name, place, _BUCKET, "gs://BUCKET/PATH, the bucket's name of 3 or more of a-z, 0-9, -, _ and .")
    if cloud.job_name is not None:
        _check("job_name", cloud.job_name, _NAME, "a-z, 0-9 and -, beginning with a letter, ending with none of -")
        if len(cloud.job_name) > _LONGEST_NAME:
            raise ValueError(
                f"--job_name {cloud.job_name!r} has {len(cloud.job_name)} letters; {_LONGEST_NAME} at most"
            )
    if importlib.util.find_spec("google") is None or importlib.util.find_spec("google.cloud.dataflow_v1beta3") is None:
        raise ValueError("Google's libraries are not installed; pip install 'reelmill[gcp]'")


def _check(flag: str, value: str | None, pattern: re.Pattern[str], what: str) -> None:
    if value is None:
        raise ValueError(f"--{flag} is missing; Dataflow needs {what}")
    if not pattern.fullmatch(value):
        raise ValueError(f"--{flag} {value!r} cannot be; it takes {what}")
