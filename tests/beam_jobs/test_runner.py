import pytest

from beam_jobs.runner import beam_options, num_cores


def chosen(*flags: str, inputs: int = 100) -> dict[str, object]:
    return beam_options(flags, inputs).get_all_options(drop_default=True)


def test_without_a_runner_all_cores_of_this_machine_work() -> None:
    options = chosen()
    assert str(options["runner"]).endswith("LocalRunner")
    if num_cores() > 1:
        assert options["direct_num_workers"] == num_cores()
        assert options["direct_running_mode"] == "multi_processing"


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        ([], None),
        (["--direct_num_workers=3"], "multi_threading"),
        (["--direct_num_workers=3", "--direct_running_mode=multi_processing"], "multi_processing"),
    ],
    ids=["one worker", "threads", "processes"],
)
def test_light_workers_stay_in_this_process_where_no_flag_says_otherwise(flags: list[str], mode: str | None) -> None:
    light = beam_options(flags, 100, light=True).get_all_options(drop_default=True)
    assert light.get("direct_running_mode") == mode
    assert light.get("direct_num_workers", 1) == (3 if flags else 1)


def test_no_more_workers_than_inputs() -> None:
    assert "direct_running_mode" not in chosen(inputs=1)


@pytest.mark.parametrize(
    ("flags", "want"),
    [
        pytest.param(["--direct_num_workers=3"], {"direct_num_workers": 3}, id="workers"),
        pytest.param(
            ["--direct_num_workers", "1", "--direct_running_mode", "in_memory"],
            {"runner": "beam_jobs.local_runner.LocalRunner"},
            id="one-worker",
        ),
        pytest.param(["--runner=DirectRunner"], {"runner": "DirectRunner"}, id="another-runner"),
        pytest.param(
            ["--runner=SparkRunner", "--spark_master_url=local[2]"],
            {"runner": "SparkRunner", "spark_master_url": "local[2]"},
            id="flags-verbatim",
        ),
    ],
)
def test_what_is_said_counts(flags: list[str], want: dict[str, object]) -> None:
    options = chosen(*flags)
    assert {name: options.get(name) for name in want} == want


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--spark_mster_url=x"], "--spark_mster_url=x.*neither", id="unknown-flag"),
        pytest.param(["--runner=FlonkRunner"], "FlonkRunner.*FlinkRunner", id="unknown-runner"),
        pytest.param(["--direct_num_workers=many"], "many", id="wrong-value"),
    ],
)
def test_what_beam_does_not_know_is_an_error(flags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beam_options(flags, 1)
