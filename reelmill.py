"""The front door: `reelmill NAME …` runs one command, imported only when it is called."""

import difflib
import importlib
import logging
import os
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A name, where its `main(argv) -> status` is, and what it does in one line.

    `line` is its `media.commandline.CommandLine`, for commands whose own module takes long to import.
    """

    name: str
    target: str
    summary: str
    line: str = ""


GROUPS: dict[str, tuple[Command, ...]] = {
    "begin": (
        Command("demo", "beam_jobs.demo:main", "all of it on two small real videos, on the CPU, without a network"),
        Command("doctor", "beam_jobs.doctor:main", "what is installed and reachable, and what to do about it"),
    ),
    "data": (
        Command(
            "curate",
            "beam_jobs.curate:main",
            "raw video to scored single-shot clips, a ledger and a report",
            "curation.settings:CURATE",
        ),
        Command(
            "retune",
            "beam_jobs.retune:main",
            "what other limits would keep, from the stored scores; --apply makes it so",
            "curation.run_settings:RETUNE",
        ),
        Command("explain", "curation.explain:main", "the whole history of one source or clip"),
        Command("report", "curation.report:main", "builds report.html of a curated run again"),
        Command(
            "tokenize",
            "beam_jobs.tokenize_job:main",
            "curated clips to token shards",
            "tokenize_shards.settings:TOKENIZE",
        ),
        Command("size", "beam_jobs.sizing:main", "what a cluster needs for your video, from the timings of a run"),
        Command("remove", "beam_jobs.remove:main", "takes clips or inputs out of a run and its token shards for good"),
        Command("inspect", "tokenize_shards.inspect_shards:main", "what is in a shard; decodes it back to mp4"),
    ),
    "models": (
        Command("train video-tokenizer", "training.video_tokenizer:main", "a MAGVIT-v2 tokenizer from clips"),
        Command("train audio-tokenizer", "training.audio_tokenizer:main", "a SoundStream tokenizer from clips"),
        Command("train motion-tokenizer", "training.motion_tokenizer:main", "Video-LaVIT's motion codes from clips"),
        Command(
            "train lm", "training.lm_train:main", "the language model from token shards", "training.settings:TRAIN_LM"
        ),
        Command(
            "train super-resolution",
            "training.super_resolution_train:main",
            "the upscaler of tokens",
            "training.settings:TRAIN_SUPER_RESOLUTION",
        ),
        Command(
            "train maskgit",
            "training.maskgit_train:main",
            "the masked transformer of stories, from token shards",
            "training.settings:TRAIN_MASKGIT",
        ),
        Command(
            "generate",
            "training.generate:main",
            "video with sound from text, an image, video or audio",
            "training.generate_settings:GENERATE",
        ),
        Command(
            "evaluate",
            "training.evaluate:main",
            "figures of a language model on held-out clips, beside baselines",
            "training.evaluate_settings:EVALUATE",
        ),
    ),
}

COMMANDS = {command.name: command for group in GROUPS.values() for command in group}

OK, RUN_FAILED, WRONG_USAGE = 0, 1, 2


def help_text() -> str:
    """The list of commands, by group."""
    lines = [
        "Reelmill: raw video in, pre-tokenized shards and trained video models out.",
        "",
        "examples:",
        "  reelmill demo --output demo-output",
        "  reelmill curate --input videos/ --output curated",
        "  reelmill tokenize --input curated --output tokens",
        "  reelmill train lm --data tokens --output lm",
        '  reelmill generate --model lm --task t2v --prompt "a red car" --output car.mp4',
    ]
    width = max(len(name) for name in COMMANDS)
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {command.name:<{width}}  {command.summary}" for command in commands)]
    lines += [
        "",
        "`reelmill COMMAND --help` shows its options; all of them can stand in a YAML file (--config FILE), and",
        "`--print_config` prints that file. Exit status: 0 done, 1 the run failed, 2 wrong usage.",
        "REELMILL_DEBUG=1 shows tracebacks, REELMILL_LOG=INFO more of what happens.",
    ]
    return "\n".join(lines)


def find_command(argv: list[str]) -> tuple[Command, list[str]]:
    """The command that the first one or two words name, and what follows them.

    Raises:
        ValueError: no command has that name.
    """
    for words in (2, 1):
        command = COMMANDS.get(" ".join(argv[:words]))
        if command and len(argv) >= words:
            return command, argv[words:]
    name = argv[0]
    below = [command.removeprefix(f"{name} ") for command in COMMANDS if command.startswith(f"{name} ")]
    if below:
        given = argv[1] if len(argv) > 1 else "nothing"
        raise ValueError(f"reelmill {name} wants one of {', '.join(below)}; {given!r} was given")
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
    raise ValueError(f"unknown command {name!r}; {hint}")


def main(argv: list[str] | None = None) -> int:
    """Runs the command that `argv` names and returns its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text())
        return OK if argv else WRONG_USAGE
    if argv[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"reelmill {version('reelmill')}")
        return OK
    if len(argv) == 2 and argv[1] in ("-h", "--help") and argv[0] not in COMMANDS:
        below = [command for command in COMMANDS.values() if command.name.startswith(f"{argv[0]} ")]
        if below:
            print("\n".join(f"reelmill {command.name:<24} {command.summary}" for command in below))
            return OK
    logging.basicConfig(
        level=os.environ.get("REELMILL_LOG", "WARNING").upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    # Beam without the extras of Google's cloud warns about BigQuery, which no job of ours uses.
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    if os.environ.get("REELMILL_DEBUG") != "1":
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs the whole traceback of what it then raises
    return _run(argv)


def _run(argv: list[str]) -> int:
    try:
        command, rest = find_command(argv)
        if command.line:
            _load(command.line).parse(rest)  # answers --help and wrong usage at once
        return int(_load(command.target)(rest) or OK)
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `reelmill … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if os.environ.get("REELMILL_DEBUG") == "1":
            raise
        usage = isinstance(error, (ValueError, FileNotFoundError))
        print(f"error: {_one_line(error)}", file=sys.stderr)
        if not usage:
            print("REELMILL_DEBUG=1 shows where this happened", file=sys.stderr)
        return WRONG_USAGE if usage else RUN_FAILED


def _load(target: str) -> Any:
    """The object that `module:name` names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _one_line(error: Exception) -> str:
    """The message without line breaks; the type's name where the type is all there is to say."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    plain = isinstance(error, (ValueError, FileNotFoundError, RuntimeError)) and text
    return text if plain else f"{type(error).__name__}: {text}".rstrip(": ")


if __name__ == "__main__":
    sys.exit(main())
