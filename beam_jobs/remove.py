"""`reelmill remove`: takes clips or inputs out of a run and its token data sets, and keeps tombstones of them."""

from collections.abc import Sequence

from curation.run_settings import REMOVE


def main(argv: Sequence[str]) -> int:
    """Runs `reelmill remove` and returns its exit status.

    Raises:
        ValueError, FileNotFoundError: wrong usage; nothing was touched.
        RuntimeError: the run's sums do not add up.
    """
    settings, _ = REMOVE.parse(gather_tokens(argv))
    from beam_jobs.removal import remove  # pyarrow takes longer to import than `--help` may take to answer

    removed = remove(settings)
    gone = "would be gone" if settings.dry_run else "gone"
    print(
        f"{gone}: {removed.clips} clips, {removed.sources} whole inputs, {removed.samples} token samples · "
        f"{removed.new} new tombstones, {removed.shards} clip shards written anew, {removed.units} units deleted "
        f"→ {settings.run}"
    )
    return 0


def gather_tokens(argv: Sequence[str]) -> list[str]:
    """The command line with every `--tokens DIR` in one flag, since a list is one value."""
    rest: list[str] = []
    folders: list[str] = []
    left = list(argv)
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        if flag == "--tokens" and (equals or left):
            folders += _listed(value if equals else left.pop(0))
        else:
            rest.append(word)
    quoted = ", ".join("'" + folder.replace("'", "''") + "'" for folder in folders)
    return [*rest, *([f"--tokens=[{quoted}]"] if folders else [])]


def _listed(text: str) -> list[str]:
    """`a` or `[a, b]` as a list."""
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    return [part.strip().strip("'\"") for part in text[1:-1].split(",") if part.strip()]
