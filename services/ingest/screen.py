"""How an import looks on a terminal: a progress bar for people, a line now and then for logs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from services.ingest.importer import Step
from services.runtime import clock

LINE_SECONDS = 5.0


@contextmanager
def progress(console: Console | None = None) -> Iterator[Callable[[Step], None]]:
    """A function that shows each step of an import while the block runs."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.fields[stage]:>8}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task("", total=1.0, stage="reading")

        def show(step: Step) -> None:
            bar.update(task, completed=step.part, description=step.sentence, stage=step.stage)

        yield show


def _lines() -> Callable[[Step], None]:
    said = [0.0]

    def show(step: Step) -> None:
        if step.part >= 1 or clock.elapsed() - said[0] > LINE_SECONDS:
            said[0] = clock.elapsed()
            sys.stderr.write(f"{step.stage}: {step.sentence}\n")

    return show
