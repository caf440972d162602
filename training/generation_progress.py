"""A line on the terminal while codes are generated: how many, and how many a second."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TextColumn


@contextmanager
def progress(
    console: Console, what: str, unit: str = "tokens", total: int | None = None, rows: int = 1
) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number that each of `rows` clips has; silent where nobody watches."""
    columns = (
        TextColumn("{task.description}"),
        TextColumn("{task.completed} " + unit),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, rate="")

        def update(done: int) -> None:
            elapsed = bar.tasks[0].elapsed or 1e-9
            bar.update(task, completed=done, rate=f"{done * rows / elapsed:,.0f} {unit}/s")

        yield update
