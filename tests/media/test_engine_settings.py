import pytest

from media.commandline import CommandLine
from media.engine_settings import EngineSettings


def test_flags_as_on_a_command_line() -> None:
    settings = EngineSettings({"runner": "SparkRunner", "no_use_public_ips": True, "workers": 3, "x": ["a", "b"]})
    assert settings.as_flags() == ["--runner=SparkRunner", "--no_use_public_ips", "--workers=3", "--x=a", "--x=b"]
    assert settings.hints() == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"flags": {"--runner": "SparkRunner"}}, "write the name alone", id="dashes"),
        pytest.param({"flags": {"dry_run": False}}, "leave it out", id="false"),
        pytest.param({"accelerator": "nvidia-l4"}, "must begin with its type", id="accelerator"),
    ],
)
def test_what_cannot_be(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EngineSettings(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["spark", "flink", "dataflow"])
@pytest.mark.parametrize("command", ["curation.settings:CURATE", "tokenize_shards.settings:TOKENIZE"])
def test_both_jobs_know_the_profiles(name: str, command: str) -> None:
    import importlib

    module, _, attribute = command.partition(":")
    line: CommandLine = getattr(importlib.import_module(module), attribute)
    settings, _ = line.parse(["--input", "in", "--output", "out", "--config", name])
    flags = settings.engine.as_flags()
    assert any(flag.lower() == f"--runner={name}runner" for flag in flags)

    from beam_jobs.runner import beam_options

    beam_options(flags, 1)
