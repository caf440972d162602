"""One settings dataclass per command is its command line, its YAML and its validation."""

import argparse
import difflib
import importlib.util
import re
import shutil
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import jsonargparse
import yaml

Settings = TypeVar("Settings")

REDACTED = "…redacted"
_BOOLEANS = {"true", "false", "yes", "no", "on", "off"}
_SECRET_KEY = re.compile(
    r"(^|[._-])(password|passwd|secret|credentials?|token|api_?key|access_?key|private_?key|auth(orization)?)$"
)
_SIGNATURE = re.compile(r"(^|[-_.])(sig|signature|token|key|credential|policy|expires|password|auth)", re.I)


class _Formatter(jsonargparse.DefaultHelpFormatter):
    """Options in one column, and the lines of the description left as they are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=min(shutil.get_terminal_size((110, 24)).columns, 120))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())


def parse(
    settings_class: type[Settings],
    argv: Sequence[str],
    prog: str,
    description: str,
    epilog_examples: Sequence[str],
    allow_unknown: bool = False,
    positional: Sequence[str] = (),
) -> tuple[Settings, list[str]]:
    """The settings that a command line asks for, and the flags this command does not know.

    `--config` takes a YAML file or the name of a profile in the `configs` folder of the settings' package, or of that
    of a part of them; later files and flags win over earlier ones, key by key. `--plan` alone means `--plan true`.

    Args:
        settings_class: a dataclass; the `Args:` section of its docstring is the help.
        epilog_examples: command lines that work, shown before the options.
        allow_unknown: give flags of other programs (Beam's) back instead of refusing them. Theirs have no dot: a
            dotted one is a misspelling of ours and refused all the same.
        positional: names of string fields that may be given without their flag, in this order.

    Raises:
        ValueError: what was given cannot be; one line with the value, what is allowed and the fix.
        SystemExit: after `--help` and `--print_config`, with status 0.
    """
    parser = _parser(settings_class, prog, description, epilog_examples)
    known, unknown = _split(parser, argv, positional, settings_class)
    if unknown and (not allow_unknown or any("." in flag.partition("=")[0] for flag in unknown)):
        raise ValueError(_unknown_flag(parser, unknown, prog))
    try:
        values = parser.parse_args(known)
        given = {name: value for name, value in vars(parser.instantiate(values)).items() if name != "config"}
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise ValueError(_explain(parser, error, epilog_examples)) from error
    return settings_class(**given), unknown


@dataclass(frozen=True)
class CommandLine:
    """What `parse` needs to know of one command.

    It stands beside the settings, in a module that imports nothing heavy: the front door answers `--help` and wrong
    usage from it, before the command itself is imported.
    """

    settings_class: type
    prog: str
    description: str
    examples: tuple[str, ...]
    allow_unknown: bool = False
    positional: tuple[str, ...] = ()

    def parse(self, argv: Sequence[str]) -> tuple[Any, list[str]]:
        """The settings that a command line asks for, and the flags this command does not know."""
        return parse(
            self.settings_class, argv, self.prog, self.description, self.examples, self.allow_unknown, self.positional
        )


def _packages(settings_class: type) -> list[str]:
    """The package of a settings class, then those of the classes of its fields: each may bring profiles."""
    classes = [settings_class, *(hint for hint in typing.get_type_hints(settings_class).values() if is_dataclass(hint))]
    return list(dict.fromkeys(each.__module__.partition(".")[0] for each in classes))


def _parser(settings_class: type, prog: str, description: str, examples: Sequence[str]) -> jsonargparse.ArgumentParser:
    profiles = ", ".join(sorted(_profiles_for(settings_class)))
    lines = [description, "", "examples:", *(f"  {example}" for example in examples)]
    parser = jsonargparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [--config FILE] [--KEY VALUE …]",
        description="\n".join(lines),
        formatter_class=_Formatter,
        exit_on_error=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        metavar="FILE",
        help="YAML with any of the keys below; may be given again" + (f". Profiles: {profiles}" if profiles else ""),
    )
    parser.add_class_arguments(settings_class)
    for action in parser._actions:
        if "_ActionConfigLoad" in type(action).__name__:
            action.help = argparse.SUPPRESS  # `--filters FILE` works, but says the same as --config
        if "--print_config" in action.option_strings:
            action.help = "prints all settings, as resolved, as YAML and exits; `=skip_default` leaves defaults out"
    return parser


def _profiles(settings_class: type) -> dict[str, Path]:
    """The YAML files that come with the packages of a settings class, by name; its own package's first."""
    found = [importlib.util.find_spec(package) for package in reversed(_packages(settings_class))]
    folders = [folder for spec in found if spec for folder in spec.submodule_search_locations or ()]
    return {path.stem: path for folder in folders for path in Path(folder, "configs").glob("*.yaml")}


def _profiles_for(settings_class: type) -> dict[str, Path]:
    """The profiles whose keys are all of this class: a package may hold those of several commands."""
    names = {field.name for field in fields(settings_class)}
    profiles = _profiles(settings_class)
    return {name: path for name, path in profiles.items() if set(yaml.safe_load(path.read_text()) or {}) <= names}


def _config_path(value: str, settings_class: type) -> str:
    if Path(value).is_file():
        return value
    everything = _profiles(settings_class)
    if value in everything:
        return str(everything[value])
    profiles = _profiles_for(settings_class)
    allowed = f"a YAML file or one of the profiles {', '.join(sorted(profiles))}" if profiles else "a YAML file"
    raise ValueError(f"--config {value}: there is no such file; give {allowed}{suggestion(value, profiles)}")


def _split(
    parser: jsonargparse.ArgumentParser, argv: Sequence[str], positional: Sequence[str], settings_class: type
) -> tuple[list[str], list[str]]:
    """The tokens of this parser as `--flag=value`, and the flags of others as they came."""
    known: list[str] = []
    unknown: list[str] = []
    places = list(positional)
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        flag, equals, value = token.partition("=")
        if not token.startswith("-"):
            if not places:
                place = len(argv) - len(tokens) - 1
                before = argv[place - 1] if place else ""
                if _is_yes_no(parser._option_string_actions.get(before)):
                    raise ValueError(f"{before} {token}: not allowed; it takes true or false")
                raise ValueError(f"unexpected argument {token!r}; {parser.prog} takes flags such as --key value")
            known.append(f"--{places.pop(0)}={token}")
            continue
        action = parser._option_string_actions.get(flag)
        if not equals and action is None:
            unknown += [token, *([tokens.pop(0)] if tokens and not tokens[0].startswith("-") else [])]
        elif action is None:
            unknown.append(token)
        else:
            places = [place for place in places if f"--{place}" != flag]  # given by name: no word stands for it as well
            known.append(_known_flag(action, token, flag, value if equals else None, tokens, settings_class))
    return known, unknown


def _known_flag(
    action: argparse.Action, token: str, flag: str, value: str | None, tokens: list[str], settings_class: type
) -> str:
    """One token for a flag and its value, which is taken from `tokens` where it stands apart."""
    if action.nargs == 0 or "print_config" in flag:
        return token
    if value is None:
        follows = tokens[0] if tokens else None
        if _is_yes_no(action) and (follows is None or follows.lower() not in _BOOLEANS):
            return f"{flag}=true"
        if follows is None or follows.startswith("--"):
            raise ValueError(f"{flag} needs a value: {flag} VALUE ({action.help or 'see --help'})")
        value = tokens.pop(0)
    return f"{flag}={_config_path(value, settings_class) if flag == '--config' else value}"


def _is_yes_no(action: argparse.Action | None) -> bool:
    return getattr(action, "_typehint", None) is bool


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to this one, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _flags(parser: jsonargparse.ArgumentParser) -> list[str]:
    return [flag for flag in parser._option_string_actions if flag.startswith("--") and not flag.endswith("+")]


def _unknown_flag(parser: jsonargparse.ArgumentParser, unknown: Sequence[str], prog: str) -> str:
    flags = [token.partition("=")[0] for token in unknown if token.startswith("-")]
    word = next((flag for flag in flags if "." in flag), flags[0])
    hint = suggestion(word, _flags(parser)) or f"; `{prog} --help` lists what it knows"
    return f"unknown option {word}{hint}"


def _explain(parser: jsonargparse.ArgumentParser, error: Exception, examples: Sequence[str]) -> str:
    """The library's complaint as one line with the value, what is allowed and the fix."""
    text = str(error)
    by_key = {action.dest: action for action in parser._actions}
    if missing := re.search(r"required: ([\w.]+)|\"?([\w.]+)\"? is required", text):
        key = missing[1] or missing[2]
        help_text = (getattr(by_key.get(key), "help", None) or "").rstrip(".")
        example = f". For instance: {examples[0]}" if examples else ""
        return f"--{key} is missing{f' ({help_text})' if help_text else ''}{example}"
    if extra := re.search(r"(?:Group '(?P<group>[^']+)' )?does not accept (?:option|key)s?:? '(?P<key>[^']+)'", text):
        key = f"{extra['group']}.{extra['key']}" if extra["group"] else extra["key"]
        return f"unknown key {key!r}{suggestion(key, by_key)}"
    if wrong := re.search(r'Parser key "(?P<key>[^"]+)"', text):
        values = re.findall(r"(?:Given value:|Got value:) (.*)", text)
        action = by_key.get(wrong["key"])
        if values and action is not None and hasattr(action, "_typehint"):
            return f"--{wrong['key']} {values[-1].strip()}: not allowed; it takes {_type_name(action._typehint)}"
    return " ".join(text.split())


def _type_name(hint: Any) -> str:
    """A type as a person says it: `a number or null`, `one of a, b`."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if hint in names:
        return names[hint]
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(value) for value in inner)
    if typing.get_origin(hint) in (list, tuple):
        return f"a list such as [ITEM, …] of {_type_name(inner[0])}" if inner else "a list such as [ITEM, …]"
    if inner:
        return " or ".join(_type_name(each) for each in inner)
    return getattr(hint, "__name__", str(hint))


def settings_dict(settings: Any) -> dict[str, Any]:
    """The resolved settings as plain JSON values; secrets, passwords in URLs and signed queries are redacted."""
    if not is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"settings are an instance of a dataclass; this is {settings!r}")
    return {field.name: _plain(getattr(settings, field.name), field.name) for field in fields(settings)}


def redact_flags(flags: Iterable[str]) -> list[str]:
    """Command-line tokens with the values of secret flags and of signed URLs redacted."""
    shown: list[str] = []
    secret_before = False
    for token in flags:
        flag, equals, value = token.partition("=") if token.startswith("-") else ("", "", token)
        secret = secret_before if not flag else bool(_SECRET_KEY.search(flag.lstrip("-").lower()))
        shown.append(flag + equals + (REDACTED if secret and value else redact_url(value)))
        secret_before = bool(flag) and secret and not equals
    return shown


def _plain(value: Any, key: str = "") -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return settings_dict(value)
    if isinstance(value, dict):
        return {str(name): _plain(item, str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [_plain(item, key) for item in items]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, (str, PurePath)):
        return REDACTED if value and _SECRET_KEY.search(key.lower()) else redact_url(str(value))
    return value


def redact_url(text: str) -> str:
    """The text; if it is a URL, without its password and without a query that signs it."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{REDACTED}@{host}" if "@" in parts.netloc else parts.netloc
    names = [pair.partition("=")[0] for pair in parts.query.split("&")]
    query = REDACTED if any(_SIGNATURE.search(name) for name in names) else parts.query
    return urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))
