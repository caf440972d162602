"""`reelmill explain`: the whole history of one source or clip."""

from typing import TYPE_CHECKING

from curation.run_settings import EXPLAIN

if TYPE_CHECKING:
    from curation.history import History


def main(argv: list[str]) -> int:
    """`reelmill explain --run DIR ID`.

    Raises:
        ValueError, FileNotFoundError: there is no such run, source or clip.
    """
    settings, _ = EXPLAIN.parse(argv)
    # Here, and not above: pyarrow takes longer to import than `--help` may take to answer.
    import json

    from curation.history import history

    found = history(settings.run, settings.id, settings.tokens)
    if settings.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        print(text(found))
    return 0


def text(found: "History") -> str:
    """The history for a person: one paragraph for each section."""
    lines = [f"{found.kind} {found.id}"]
    for name, facts in found.sections:
        width = max(len(what) for what, _ in facts)
        lines += ["", name, *(f"  {what:<{width}}  {_plain(value)}" for what, value in facts)]
    return "\n".join(lines)


def _plain(value: str) -> str:
    """The value without control characters: captions and names are untrusted, terminals obey them."""
    return "".join(letter if letter.isprintable() else " " for letter in value)
