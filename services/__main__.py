"""The `steward` command."""

import signal

# Before anything that takes time: until a command can stop in its own way, Ctrl-C ends it without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from services.core.errors import OperatorError
from services.runtime.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Live customer health above the CRM.",
)
ingest = typer.Typer(no_args_is_help=True, help="Bring facts in.")
source = typer.Typer(no_args_is_help=True, help="The systems that send facts.")
handoffs = typer.Typer(no_args_is_help=True, help="What became of handoffs.")
topics = typer.Typer(no_args_is_help=True, help="The topics on the broker.")
view = typer.Typer(no_args_is_help=True, help="The view in Redis that answers people.")
app.add_typer(ingest, name="ingest")
app.add_typer(source, name="source")
app.add_typer(handoffs, name="handoffs")
app.add_typer(topics, name="topics")
app.add_typer(view, name="view")

INTERRUPTED = 130  # as shells have it for Ctrl-C
REFUSED = 2  # exit code: what was asked for cannot be done; the sentence says why


Workers = Annotated[
    int, typer.Option(min=1, help="Processes that share the partitions; the next ones serve the next ports.")
]

# Commands import what they need when they are called: `steward check` shall not wait for Faust.


@app.command()
def check() -> None:
    """Say what is wrong with the settings, the policy and the connections, one sentence each."""
    from services.check import findings

    found = 0
    for ok, sentence in findings():
        typer.echo(f"{'ok     ' if ok else 'wrong  '} {sentence}")
        found += not ok
    raise typer.Exit(REFUSED if found else 0)


@app.command()
def clock() -> None:
    """Write the clock; exactly one runs at a time."""
    from services.ingest.clock import write
    from services.runtime import service

    with _sentences("clock") as settings:
        service.run(lambda stopping: write(settings, stopping))


@app.command()
def handoff(workers: Workers = 1) -> None:
    """Run the handoff processor."""
    with _sentences("handoff") as settings:
        _several(settings, "handoff", workers)
        from services.handoff.app import run

        run(settings)


@app.command()
def health(workers: Workers = 1) -> None:
    """Run the health processor: scores, bands and their reasons."""
    with _sentences("health") as settings:
        _several(settings, "health", workers)
        from services.health.app import run

        run(settings)


@app.command()
def identity(workers: Workers = 1) -> None:
    """Run the identity processor: it holds facts of unknown homes until they are mapped."""
    with _sentences("identity") as settings:
        _several(settings, "identity", workers)
        from services.ingest.identity import IdentityProcessor
        from services.runtime.engine import worker

        worker.run(settings, IdentityProcessor())


@app.command("alerting-case")
def alerting_case(workers: Workers = 1) -> None:
    """Decide whom each alert concerns; per account."""
    with _sentences("alerting-case") as settings:
        _several(settings, "alerting-case", workers)
        from services.alerting.app import run_case

        run_case(settings)


@app.command("alerting-desk")
def alerting_desk(workers: Workers = 1) -> None:
    """Deliver alerts to whom they concern; per person."""
    with _sentences("alerting-desk") as settings:
        _several(settings, "alerting-desk", workers)
        from services.alerting.app import run_desk

        run_desk(settings)


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End when every effect was seen; fail naming what is missing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the effects for programs, and nothing else.")] = False,
    log: Annotated[Path | None, typer.Option(help="Where the demo's receiver writes what it gets.")] = None,
    without: Annotated[str, typer.Option(help="Services to withhold, to see that the demo notices.")] = "",
) -> None:
    """Start everything here, import half a year, live two days, and show the alerts as they arrive."""
    from services.demo.app import Wishes, show, withheld
    from services.runtime import service

    with _sentences("demo") as settings:
        wishes = Wishes(once=once, as_json=as_json, log=log, without=withheld(without))
        raise typer.Exit(service.run(lambda stopping: show(settings.policy, wishes, stopping)))


@ingest.command("serve")
def ingest_serve() -> None:
    """Receive events and webhooks over HTTP."""
    from services.ingest.app import run

    with _sentences("ingest") as settings:
        run(settings)


@ingest.command("import")
def ingest_import(
    file: Annotated[Path, typer.Argument(help="A CSV file, plain or .gz.")],
    map_file: Annotated[Path, typer.Option("--map", help="The map file: how a row becomes facts.")],
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many facts; the same command goes on.")
    ] = None,
    rejects: Annotated[Path | None, typer.Option(help="Where rows that were refused are written.")] = None,
) -> None:
    """Send a file of history as one run; stop it any time, the same command goes on."""
    from services.ingest import screen
    from services.ingest.importer import import_file
    from services.runtime import service

    with _sentences("ingest") as settings, screen.progress() as report:
        summary = service.run(
            lambda stopping: import_file(
                settings, file, map_file, stop_after=stop_after, rejects=rejects, report=report, stopping=stopping
            )
        )
    typer.echo(summary.sentence)
    if summary.outcome == "stopped" and stop_after is None:
        raise typer.Exit(INTERRUPTED)


@ingest.command("runs")
def ingest_runs() -> None:
    """Every import and how far it has come."""
    from services.ingest.runs import runs

    with _sentences("ingest") as settings:
        for run in asyncio.run(runs(settings)):
            progress = run.progress
            through = progress.through.isoformat() if progress.through else "nothing yet"
            typer.echo(f"{progress.run}  {run.state}  {progress.sent:,} of {progress.facts:,} facts, through {through}")


@ingest.command("abandon")
def ingest_abandon(run: str) -> None:
    """Give an open import up: what it opened waits for it no longer."""
    from services.ingest.runs import abandon

    with _sentences("ingest") as settings:
        typer.echo(asyncio.run(abandon(settings, run)))


@topics.command("apply")
def topics_apply() -> None:
    """Create the topics that are missing."""
    from schemas.topics import BUILT
    from services.runtime import kafka

    with _sentences("topics") as settings:
        wanted = {topic.name: topic.config for topic in BUILT}
        created = asyncio.run(kafka.ensure_topics(settings, wanted))
        typer.echo(f"{len(created)} created, {len(BUILT) - len(created)} were there")


@source.command("register")
def source_register(
    name: str,
    rank: Annotated[int, typer.Option(help="Orders facts of the same instant; fixed by the first registration.")] = 100,
    role: Annotated[
        str | None, typer.Option(help="What it is to the company; the 'system of record' may create accounts.")
    ] = None,
    heartbeat: Annotated[int | None, typer.Option(help="Seconds between two of its heartbeats, if any.")] = None,
    grace: Annotated[int, typer.Option(help="How late its facts may be, in seconds.")] = 60,
) -> None:
    """Let a source send facts."""
    from services.ingest.sources import register

    with _sentences("ingest") as settings:
        typer.echo(asyncio.run(register(settings, name, rank, role, heartbeat=heartbeat, grace=grace)))


@source.command("list")
def source_list() -> None:
    """The registered sources."""
    from services.ingest.sources import described, registered

    with _sentences("ingest") as settings:
        for registration in asyncio.run(registered(settings)).values():
            typer.echo(described(registration))


@source.command("unknown")
def source_unknown() -> None:
    """What sources sent that no map knows, how often and when."""
    from services.ingest.sources import strangers

    with _sentences("ingest") as settings:
        for stranger in asyncio.run(strangers(settings)):
            typer.echo(str(stranger))


@handoffs.command("report")
def handoffs_report(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Openings, acceptances and breaches per leg, counted from the topics."""
    from services.handoff import report

    with _sentences("handoff") as settings:
        table = asyncio.run(report.read(settings))
        typer.echo(json.dumps(report.as_json(table), indent=2) if as_json else report.as_text(table))


@view.command("serve")
def view_serve() -> None:
    """Keep the view up to date; `attention`, `account` and `explain` ask it."""
    from services.board.app import serve
    from services.runtime import service

    with _sentences("view") as settings:
        service.run(lambda stopping: serve(settings, stopping))


@view.command("rebuild")
def view_rebuild() -> None:
    """Build the view anew from the topics while the present one answers, then switch."""
    from services.board.app import rebuild
    from services.runtime import service

    with _sentences("view") as settings:
        said = service.run(lambda stopping: rebuild(settings, stopping))
    if said is None:
        typer.echo("stopped: the view that answered goes on answering, and nothing is left of the new one", err=True)
        raise typer.Exit(INTERRUPTED)
    typer.echo(said)


Zone = Annotated[str, typer.Option(help="Time zone of what is shown, and of the day that `due today` means.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def attention(
    owner: Annotated[str | None, typer.Option(help="Only what waits for this person; `nobody` is one, too.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many accounts; absent: all.")] = None,
    zone: Zone = "UTC",
    as_json: AsJson = False,
) -> None:
    """The accounts that need somebody now: why, whose step is next, by when."""
    from services.board.app import ask_attention

    with _sentences("attention") as settings:
        typer.echo(asyncio.run(ask_attention(settings, owner=owner, zone=zone, limit=limit, as_json=as_json)))


@app.command()
def account(
    id: Annotated[str, typer.Argument(help="As `steward attention` shows it.")],
    zone: Zone = "UTC",
    as_json: AsJson = False,
) -> None:
    """One account: its health, its handoffs and their clocks, its alerts, its last facts."""
    from services.board.app import ask_account

    with _sentences("account") as settings:
        typer.echo(asyncio.run(ask_account(settings, id, zone=zone, as_json=as_json)))


@app.command()
def explain(
    id: Annotated[str, typer.Argument(help="As `steward attention` shows it.")],
    zone: Zone = "UTC",
    as_json: AsJson = False,
) -> None:
    """Why an account has its score: each signal's points, caps, what is missing, what is to come."""
    from services.board.app import ask_explain

    with _sentences("explain") as settings:
        typer.echo(asyncio.run(ask_explain(settings, id, zone=zone, as_json=as_json)))


@contextmanager
def _sentences(name: str) -> Iterator[Settings]:
    """Settings and log for a command; what it cannot do ends as one sentence and exit code 2."""
    from services.runtime import log, settings

    try:
        loaded = settings.load()
        log.configure(name, loaded.log_level)
        for variable in settings.unknown():
            log.get().warning("this variable is no setting of Steward; `steward check` lists them", variable=variable)
        yield loaded
    except OperatorError as error:
        _refuse(str(error))


def _several(settings: Settings, command: str, workers: int) -> None:
    """Where several are wanted, be their parent and never come back: it needs nothing of what they load."""
    if workers > 1:
        from services.runtime import workers as several

        raise typer.Exit(several.run(settings, workers, [command]))


def _refuse(sentence: str) -> NoReturn:
    typer.echo(f"steward: {sentence}", err=True)
    raise typer.Exit(REFUSED)


def main() -> None:
    """Entry point of the `steward` script."""
    app()


if __name__ == "__main__":
    sys.exit(app())
