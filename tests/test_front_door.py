"""`reelmill NAME …`: help at once, errors in one line, the exit status that DESIGN promises."""

import subprocess
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pytest

import reelmill
from media.commandline import parse, redact_flags, settings_dict


@dataclass(frozen=True)
class Limits:
    """Limits.

    Args:
        min_motion: grey levels per frame.
    """

    min_motion: float | None = None

    def __post_init__(self) -> None:
        if self.min_motion is not None and self.min_motion < 0:
            raise ValueError(f"filters.min_motion {self.min_motion} is below 0; use 0 or more, or null")


@dataclass(frozen=True)
class Example:
    """Settings of the example.

    Args:
        input: what to read.
        detector: how shots are found.
    """

    input: str
    output: str = "out"
    detector: Literal["adaptive", "content"] = "adaptive"
    plan: bool = False
    sizes: tuple[tuple[int, int], ...] = ((64, 64),)
    names: list[str] = field(default_factory=list)
    filters: Limits = field(default_factory=Limits)
    api_token: str | None = None
    fps: Fraction | None = None


def _parse(*argv: str, allow_unknown: bool = False, positional: tuple[str, ...] = ()) -> tuple[Example, list[str]]:
    return parse(
        Example, argv, "reelmill example", "Does it.", ["reelmill example --input a"], allow_unknown, positional
    )


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        pytest.param(["--filters.min_motion", "0.2"], "filters", Limits(0.2), id="dotted"),
        pytest.param(["--filters.min_motion=null"], "filters", Limits(None), id="null"),
        pytest.param(["--plan"], "plan", True, id="a flag alone is true"),
        pytest.param(["--plan", "false"], "plan", False, id="a flag with a value"),
        pytest.param(["--sizes", "[[1, 2], [3, 4]]"], "sizes", ((1, 2), (3, 4)), id="list of pairs"),
        pytest.param(["--names", "[a, b]"], "names", ["a", "b"], id="list"),
        pytest.param(["--output", "-"], "output", "-", id="a value that begins with a dash"),
        pytest.param(["--output", "007"], "output", "007", id="text that looks like a number stays text"),
        pytest.param(["--detector", "content"], "detector", "content", id="choice"),
    ],
)
def test_flags(argv: list[str], key: str, value: Any) -> None:
    assert getattr(_parse("--input", "videos", *argv)[0], key) == value


def test_later_files_and_flags_win_key_by_key(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("input: a\nplan: true\nfilters: {min_motion: 1}\n")
    second.write_text("input: b\nfilters: {}\n")
    settings, _ = _parse("--config", str(first), "--config", str(second), "--output", "c")
    assert settings == Example("b", "c", plan=True, filters=Limits(1.0))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param([], "--input is missing (what to read). For instance: reelmill example --input a", id="required"),
        pytest.param(["--input"], "--input needs a value", id="no value"),
        pytest.param(["--input", "a", "--filters.min_moton", "1"], "mean '--filters.min_motion'", id="misspelt"),
        pytest.param(["--input", "a", "--filters.min_motion", "x"], "x: not allowed; it takes a number", id="type"),
        pytest.param(["--input", "a", "--filters.min_motion", "-1"], "use 0 or more", id="own check"),
        pytest.param(["--input", "a", "--detector", "magic"], "it takes one of adaptive, content", id="choice"),
        pytest.param(["--input", "a", "b"], "unexpected argument 'b'", id="stray"),
        pytest.param(["--input", "a", "--config", "nowhere"], "--config nowhere: there is no such file", id="no file"),
        pytest.param(["--input", "a", "--runner=X"], "unknown option --runner", id="unknown"),
    ],
)  # fmt: skip
def test_errors_name_the_value_and_the_fix(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError) as error:
        _parse(*argv)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_misspelt_keys_in_a_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("input: a\nfilters: {min_moton: 1}\n")
    with pytest.raises(ValueError, match=r"unknown key 'filters.min_moton'; did you mean 'filters.min_motion'"):
        _parse("--config", str(file))


def test_a_file_that_would_build_objects_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text(f"input: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(ValueError):
        _parse("--config", str(file))
    assert not (tmp_path / "made").exists()


def test_flags_of_beam_come_back_verbatim() -> None:
    settings, unknown = _parse(
        "--runner=SparkRunner", "--workers", "4", "--input", "a", "--streaming", allow_unknown=True
    )
    assert settings.input == "a"
    assert unknown == ["--runner=SparkRunner", "--workers", "4", "--streaming"]


def test_a_dotted_misspelling_is_never_given_to_beam() -> None:
    with pytest.raises(ValueError, match="did you mean"):
        _parse("--input", "a", "--filters.min_moton", "1", allow_unknown=True)


def test_positional() -> None:
    assert _parse("a", "--plan", "b", positional=("input", "output"))[0] == Example("a", "b", plan=True)


def test_a_word_does_not_stand_for_what_was_given_by_name() -> None:
    with pytest.raises(ValueError, match="--plan maybe: not allowed; it takes true or false"):
        _parse("--input", "a", "--plan", "maybe", positional=("input",))


def test_print_config_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        _parse("--input", "a", "--filters.min_motion", "2", "--print_config")
    assert done.value.code == 0
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    assert _parse("--config", str(file))[0] == Example("a", filters=Limits(2.0))


def test_settings_are_plain_and_without_secrets() -> None:
    settings = Example("https://me:pw@host/a.mp4?X-Amz-Signature=abc", api_token="t", fps=Fraction(24000, 1001))
    plain = settings_dict(settings)
    assert plain["input"] == "https://…redacted@host/a.mp4?…redacted"
    assert plain["api_token"] == "…redacted"
    assert plain["fps"] == "24000/1001"
    assert plain["sizes"] == [[64, 64]]
    assert plain["filters"] == {"min_motion": None}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--token=abc"], ["--token=…redacted"]),
        (["--s3_secret", "abc"], ["--s3_secret", "…redacted"]),
        (["--max_tokens=5", "--runner", "X"], ["--max_tokens=5", "--runner", "X"]),
        (["--url=https://h/x?sig=1"], ["--url=https://h/x?…redacted"]),
        (["https://h/watch?v=abc"], ["https://h/watch?v=abc"]),
    ],
    ids=["joined", "apart", "harmless", "signed", "query without signature"],
)
def test_flags_are_redacted(given: list[str], shown: list[str]) -> None:
    assert redact_flags(given) == shown


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        pytest.param(["--help"], 0, "reelmill curate --input videos/", id="help"),
        pytest.param([], 2, "examples:", id="nothing"),
        pytest.param(["train", "--help"], 0, "reelmill train lm", id="help of a group"),
        pytest.param(["--version"], 0, "reelmill 0.", id="version"),
        pytest.param(["curat"], 2, "did you mean 'curate'?", id="misspelt command"),
        pytest.param(["train", "magic"], 2, "'magic' was given", id="misspelt trainer"),
        pytest.param(["report", "--run", "nowhere"], 2, "nowhere holds no finished run", id="missing run"),
        pytest.param(["report"], 2, "--run is missing", id="missing flag"),
    ],
)
def test_front_door(argv: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reelmill.main(argv) == status
    captured = capsys.readouterr()
    assert says in captured.out + captured.err
    assert "Traceback" not in captured.err


def test_no_command_is_listed_twice() -> None:
    names = [command.name for group in reelmill.GROUPS.values() for command in group]
    assert sorted(names) == sorted(reelmill.COMMANDS)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("ValueError('a\\nb')", 2),
        ("FileNotFoundError('gone')", 2),
        ("RuntimeError('failed')", 1),
        ("OSError(28, 'No space left on device', 'x.tar')", 1),
        ("KeyError('k')", 1),
        ("KeyboardInterrupt()", 130),
    ],
    ids=["usage", "missing file", "run failed", "full disk", "a bug", "stopped"],
)
def test_exit_status(
    error: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing_command.py").write_text(f"def main(argv):\n    raise {error}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(reelmill.COMMANDS, "fail", reelmill.Command("fail", "failing_command:main", ""))
    sys.modules.pop("failing_command", None)
    assert reelmill.main(["fail"]) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert 1 <= len(lines) <= 2


def test_debug_shows_the_traceback() -> None:
    environment = {"REELMILL_DEBUG": "1", "PATH": ""}
    command = [sys.executable, "-m", "reelmill", "report", "--run", "nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert "Traceback" in result.stderr and "FileNotFoundError" in result.stderr


@pytest.mark.parametrize("name", sorted(reelmill.COMMANDS))
def test_help_opens_with_examples_and_imports_nothing_heavy(name: str) -> None:
    script = (
        "import sys, reelmill\n"
        f"try: reelmill.main({[*name.split(), '--help']!r})\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'apache_beam', 'transformers', 'cv2', 'av', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert f"reelmill {name} " in result.stdout
    assert result.stdout.index("examples:") < result.stdout.index("options:")
