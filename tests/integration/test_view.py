"""The view as it is shipped: real processes, a real Redis, and the questions asked of it."""

import asyncio
import json
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import alerts, codec, handoffs, ownership
from schemas.envelope import Event
from schemas.topics import HANDOFFS
from services.board.app import ask_account, ask_attention
from services.core.errors import OperatorError
from services.runtime import kafka, redis
from services.runtime.embedded.redis import start_redis
from services.runtime.embedded.server import Server
from services.runtime.redis import Command
from services.runtime.settings import Settings
from tests.board import assigned, called, cap, lacking, scored, valued, went, won
from tests.board import signal as measured
from tests.builders import START
from tests.pipeline import PARTITIONS, Pipeline, Process, running, wait_until

POLICY = """
version: 1
owner: A test
calendar: always
calendars:
  always: {zone: UTC, week: {mon-sun: [["00:00", "24:00"]]}}
handoffs:
  quick: {legs: {accept: {hours: 0.0005}}}
  slow: {legs: {accept: {hours: 400}}}
"""
MANY = 20_000


@pytest.fixture
def pipeline(noida: Server, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    chosen = {"steward_policy": str(policy), "steward_grace_seconds": "0", "steward_redis": redis_url}
    with running(noida.bootstrap, prefix, tmp_path, **chosen) as pipeline:
        yield pipeline


def view(pipeline: Pipeline) -> Process:
    process = pipeline.start("view", "serve")
    wait_until(lambda: process.said("serving"), "the view serves", 60, process)
    return process


def publish(pipeline: Pipeline, topic: str, *events: Event) -> None:
    pipeline.publish(topic, [(event.partitionkey, codec.encode(event), None) for event in events])


def opened(handoff: str, account: str, kind: str = "slow", owner: str | None = "ada") -> Event:
    data = ownership.Opening(handoff=handoff, kind=kind, owner=owner, sender="bob")
    return ownership.HandoffOpened(**_envelope(f"opened:{handoff}", account), data=data)


def accepted(handoff: str, account: str) -> Event:
    data = ownership.Acceptance(handoff=handoff, owner="eve")
    return ownership.HandoffAccepted(**_envelope(f"accepted:{handoff}", account), data=data)


def delivered(account: str) -> list[Event]:
    alert = alerts.Alert(
        alert="alert-1",
        transition="transition-1",
        stage="breached",
        handoff="deal-1",
        kind="quick",
        leg="accept",
        owner="ada",
        recipients=("ada",),
        reason="accountable",
        policy=1,
    )
    delivery = alerts.Delivery(
        alert="alert-1",
        notice="notice-1",
        delivery="delivery-1",
        recipient="ada",
        endpoint="webhook",
        attempt=2,
        status=204,
        reason="taken",
    )
    return [
        alerts.AlertRaised(**_envelope("raised-1", account), data=alert),
        alerts.AlertDelivered(**_envelope("delivered-1", account), data=delivery),
    ]


def _envelope(id: str, account: str) -> dict[str, Any]:
    return {"id": id, "source": "crm", "subject": account, "partitionkey": account, "time": datetime.now(UTC)}


def story(pipeline: Pipeline) -> None:
    """One account late, one with time, one with nothing open any more."""
    publish(pipeline, "crm.accounts", called("Acme GmbH", account="acme"), called("Bolt Inc.", account="bolt"))
    publish(pipeline, "crm.renewals", won("1", "1200", account="acme"), valued("1", "1500.50", time=1, account="acme"))
    publish(pipeline, "crm.ownership", opened("deal-1", "acme", "quick"), opened("deal-2", "acme"))
    publish(pipeline, "crm.ownership", opened("deal-3", "bolt", owner=None), opened("deal-4", "done"))
    publish(pipeline, "crm.ownership", accepted("deal-4", "done"))
    groups = ["breached", "others"]
    wait_until(lambda: [row["group"] for row in rows(pipeline)] == groups, "the list is there", 60)


def settings(pipeline: Pipeline) -> Settings:
    where = pipeline.settings["STEWARD_REDIS"]
    return Settings(kafka=pipeline.bootstrap, prefix=pipeline.prefix, partitions=PARTITIONS, redis=where)


def attention(pipeline: Pipeline, owner: str | None = None) -> dict[str, Any]:
    """As `steward attention --json` answers, without the second that a command takes to start."""
    asked = ask_attention(settings(pipeline), owner=owner, zone="UTC", limit=None, as_json=True)
    answer: dict[str, Any] = json.loads(asyncio.run(asked))
    return answer


def rows(pipeline: Pipeline) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = attention(pipeline)["rows"]
    except OperatorError:
        return []
    return found


def account(pipeline: Pipeline, id: str) -> dict[str, Any]:
    asked = ask_account(settings(pipeline), id, zone="UTC", as_json=True)
    answer: dict[str, Any] = json.loads(asyncio.run(asked))
    return answer


def answers(pipeline: Pipeline) -> list[Any]:
    """Everything the view says but how fresh it is, and how long it has been late."""
    found: list[Any] = [attention(pipeline), *(account(pipeline, id) for id in ("acme", "bolt", "done"))]
    for answer in found:
        answer.pop("freshness")
    for row in found[0]["rows"]:
        row.pop("why")
    return found


def refused(pipeline: Pipeline, *command: str) -> str:
    ended = pipeline.run(*command)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    assert "Traceback" not in ended.stderr
    return ended.stderr


def asked(url: str, *command: str | int) -> Any:
    """The reply to one command to Redis."""

    async def ask() -> Any:
        async with redis.connected(url) as store:
            commands: list[Command] = [command]
            return (await store.ask(commands))[0]

    return asyncio.run(ask())


def test_the_list_and_the_account_say_what_the_facts_mean(pipeline: Pipeline) -> None:
    assert "there is no view in Redis; start `steward view serve`" in refused(pipeline, "attention")
    pipeline.settings["STEWARD_HTTP_PORT"] = "0"
    serving = view(pipeline)
    del pipeline.settings["STEWARD_HTTP_PORT"]
    assert "no mark of the clock has reached the view" in refused(pipeline, "attention")
    pipeline.serve()
    wait_until(lambda: pipeline.run("attention").returncode == 0, "the clock has reached the view", 30)
    assert "nothing was ever published" in pipeline.done("attention")
    story(pipeline)
    publish(pipeline, "cs.alerts", *delivered("acme"))

    answer = attention(pipeline)
    first, second = answer["rows"]
    assert answer["counts"] == {"breached": 1, "urgent": 0, "due_today": 0, "others": 1}
    assert answer["freshness"]["behind_seconds"] < 60
    assert (first["account"], first["name"], first["owner"], first["more"]) == ("acme", "Acme GmbH", "ada", 1)
    assert first["why"].startswith("Quick handoff deal-1 to ada is ")
    assert first["arr"] == [{"currency": "EUR", "amount": "1500.50"}]
    assert (second["account"], second["owner"], second["arr"]) == ("bolt", "nobody", [])
    assert [row["account"] for row in attention(pipeline, "nobody")["rows"]] == ["bolt"]
    assert [row["account"] for row in json.loads(pipeline.done("attention", "--json"))["rows"]] == ["acme", "bolt"]
    assert "Nothing waits for eve; 2 other accounts" in pipeline.done("attention", "--owner", "eve")
    assert "1 breached, 0 urgent, 0 due today, 1 other" in pipeline.done("attention")

    told = wait_until(lambda: [one for one in [account(pipeline, "acme")] if one["alerts"]], "the alert is there", 30)[
        0
    ]
    late = next(handoff for handoff in told["handoffs"] if handoff["handoff"] == "deal-1")
    assert [stage["stage"] for stage in late["clocks"][0]["reached"]][-1] in {"breached", "passed_125", "passed_200"}
    assert told["alerts"][0]["deliveries"][0]["attempts"] == 2
    assert {fact["id"] for fact in told["facts"]} >= {"opened:deal-1", "opened:deal-2"}
    assert "Acme GmbH (acme)" in pipeline.done("account", "acme")
    assert json.loads(pipeline.done("account", "acme", "--json"))["arr"] == first["arr"]
    assert [handoff["state"] for handoff in account(pipeline, "done")["handoffs"]] == ["accepted"]
    assert "did you mean acme (Acme GmbH)?" in refused(pipeline, "account", "acmee")
    assert "did you mean bolt (Bolt Inc.)?" in refused(pipeline, "account", "bolt inc")
    assert "there is no account 'nobody-knows'" in refused(pipeline, "account", "nobody-knows")
    assert "there is no time zone 'Nowhere'" in refused(pipeline, "attention", "--zone", "Nowhere")

    port = serving.said("metrics served")[0]["port"]
    metrics = _get(port, "/metrics")[1]
    assert 'steward_view_records_total{topic="cs.handoffs"}' in metrics
    assert "steward_view_age_seconds" in metrics
    assert _get(port, "/ready") == (200, '{"ready": true, "missing": null}\n')
    assert serving.stop() == 0


def test_health_is_listed_and_explained(pipeline: Pipeline) -> None:
    pipeline.serve()
    serving = view(pipeline)
    publish(pipeline, "crm.accounts", called("Acme GmbH", account="acme"), called("Bolt Inc.", account="bolt"))
    wait_until(lambda: pipeline.run("explain", "acme").returncode == 0, "the account is there", 30, serving)
    assert "acme has no score, and no other account has one: start `steward health`" in _explained(pipeline)

    publish(pipeline, "crm.ownership", assigned("ada", account="acme"))
    held = cap(evidence=())
    sum_of = [measured("activity", 4_000, 0.9), measured("two_way_contact", -1_250), lacking()]
    publish(pipeline, "cs.health", scored("red", sum_of, [held], account="acme"), scored("green", account="bolt"))
    recent = (datetime.now(UTC) - START).total_seconds() / 60 - 60  # the list is asked now
    publish(pipeline, "cs.health-changes", went("green", "red", recent, account="acme"))
    wait_until(lambda: rows(pipeline), "the list is there", 30, serving)
    [row] = wait_until(lambda: [one for one in rows(pipeline) if len(one["reasons"]) == 2], "both are there", 30)
    assert (row["account"], row["group"], row["owner"]) == ("acme", "urgent", "ada")
    assert row["reasons"] == ["FELL", "SEV1_OPEN"]
    assert row["health"] == {
        "band": "red",
        "colour": "red",
        "provisional": False,
        "score": 60_000,
        "over_7_days": None,
    }
    assert "0 breached, 1 urgent, 0 due today, 0 others" in pipeline.done("attention", "--owner", "ada")

    text = _explained(pipeline)
    for words in ("Acme GmbH (acme)", "■ R Red 60.0", "raw score 62.750", "effect of caps -2.750 score 60.000"):
        assert words in text
    answer = json.loads(pipeline.done("explain", "acme", "--json"))
    assert (answer["health"]["raw"], answer["health"]["cap_effect"], answer["owner"]) == (62_750, -2_750, "ada")
    assert "Health ■ R Red 60.0" in pipeline.done("account", "acme")
    assert "there is no account 'nobody-knows'" in refused(pipeline, "explain", "nobody-knows")
    assert "there is no time zone 'Nowhere'" in refused(pipeline, "explain", "acme", "--zone", "Nowhere")


def _explained(pipeline: Pipeline) -> str:
    return " ".join(pipeline.done("explain", "acme").split())


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_redis_emptied_while_serving_is_filled_again(pipeline: Pipeline, redis_url: str) -> None:
    own = redis_url.rpartition("/")[0] + "/7"  # a database that no other test looks at
    pipeline.settings["STEWARD_REDIS"] = own
    pipeline.serve()
    serving = view(pipeline)
    story(pipeline)
    pipeline.await_quiet()
    before = answers(pipeline)

    asked(own, "FLUSHDB")
    wait_until(lambda: len(serving.said("serving")) == 2, "it serves again", 30, serving)
    wait_until(lambda: rows(pipeline), "it answers again", 30, serving)
    assert answers(pipeline) == before
    assert serving.stop() == 0


def test_a_rebuild_gives_the_same_answers_and_the_server_goes_on_in_it(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.serve()
    serving = view(pipeline)
    story(pipeline)
    pipeline.await_quiet()
    before = answers(pipeline)

    building = f"{pipeline.prefix}st:building"
    asked(redis_url, "HSET", building, "token", "somebody else's", "part", "0.25")
    assert "another process is building the view (25% done)" in refused(pipeline, "view", "rebuild")
    asked(redis_url, "DEL", building)
    assert pipeline.done("view", "rebuild").startswith("generation 2 answers: ")
    assert answers(pipeline) == before
    left = asked(redis_url, "KEYS", f"{pipeline.prefix}st:1:*")
    assert left == []
    publish(pipeline, "crm.ownership", opened("deal-9", "zeta"))
    wait_until(lambda: len(rows(pipeline)) == 3, "the server goes on in it", 30, serving)
    assert [line["generation"] for line in serving.said("serving")] == [1, 2]
    assert asked(redis_url, "KEYS", f"{pipeline.prefix}st:1:*") == []


def test_a_restart_of_the_view_goes_on_where_it_was(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.serve()
    first = view(pipeline)
    story(pipeline)
    first.kill()
    publish(pipeline, "crm.ownership", opened("deal-9", "zeta"))
    second = view(pipeline)
    wait_until(lambda: len(rows(pipeline)) == 3, "what came meanwhile is there", 30, second)
    assert second.said("view is built anew") == []
    assert asked(redis_url, "GET", f"{pipeline.prefix}st:current") == b"1"


def test_a_position_that_the_topics_do_not_have_has_the_view_built_anew(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.serve()
    first = view(pipeline)
    story(pipeline)
    pipeline.await_quiet()
    before = answers(pipeline)
    assert first.stop() == 0

    asked(redis_url, "HSET", f"{pipeline.prefix}st:1:pos", "cs.handoffs/1", 1_000_000)
    second = view(pipeline)
    assert "position 1000000 in cs.handoffs partition 1 is outside" in second.said("view is built anew")[0]["why"]
    wait_until(lambda: rows(pipeline), "it answers", 30, second)
    assert answers(pipeline) == before


def test_ctrl_c_in_a_rebuild_leaves_the_old_view_and_nothing_of_the_new(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.serve()
    serving = view(pipeline)
    story(pipeline)
    before = rows(pipeline)
    asyncio.run(_publish_many(pipeline))
    rebuilding = pipeline.start("view", "rebuild")
    building = f"{pipeline.prefix}st:building"
    wait_until(lambda: asked(redis_url, "HGET", building, "part") not in {None, b"0"}, "it builds", 30, pause=0.02)
    rebuilding.signal(signal.SIGINT)
    assert rebuilding.popen.wait(20) == 130, rebuilding.log.read_text()
    assert "the view that answered goes on answering" in rebuilding.log.read_text()
    assert asked(redis_url, "KEYS", f"{pipeline.prefix}st:2:*") == []
    assert asked(redis_url, "EXISTS", building) == 0
    assert asked(redis_url, "GET", f"{pipeline.prefix}st:current") == b"1"
    assert [row["account"] for row in rows(pipeline)][:2] == [row["account"] for row in before]
    assert serving.popen.poll() is None


async def _publish_many(pipeline: Pipeline) -> None:
    """So many states of one handoff that building takes seconds."""
    now = datetime.now(UTC)
    async with kafka.Publisher(settings(pipeline)) as publisher:
        waiting = []
        for number in range(MANY):
            name = f"many-{number}"
            data = handoffs.Handoff(handoff=name, kind="slow", state="accepted", opened=now, legs=(), policy=1)
            event = handoffs.HandoffChanged(**_envelope(name, f"account-{number % 999}"), data=data)
            waiting.append(await publisher.put(HANDOFFS, event.partitionkey, codec.encode(event)))
        await asyncio.gather(*waiting)


def test_a_redis_that_is_away_is_waited_for(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    with start_redis(folder) as server:
        url, port = server.url, server.port
        pipeline.settings |= {"STEWARD_REDIS": url, "STEWARD_HTTP_PORT": "0"}
        serving = view(pipeline)
        http = serving.said("metrics served")[0]["port"]
        del pipeline.settings["STEWARD_HTTP_PORT"]
        pipeline.serve()
        story(pipeline)
        before = answers(pipeline)
    assert f"no Redis answers at {url}" in refused(pipeline, "attention")
    wait_until(lambda: _get(http, "/ready")[0] == 503, "it says that it is not ready", 30, serving)
    wait_until(lambda: serving.said("view waits"), "it says why", 30, serving)

    shutil.rmtree(folder)
    folder.mkdir()
    with start_redis(folder, port, insist=True):
        wait_until(lambda: _get(http, "/ready")[0] == 200, "it is ready again", 60, serving)
        wait_until(lambda: rows(pipeline), "it answers again", 30, serving)
        after = answers(pipeline)
        assert serving.stop() == 0
    assert [row["account"] for row in after[0]["rows"]] == [row["account"] for row in before[0]["rows"]]


def test_a_clock_that_stands_still_is_warned_of(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.serve()
    serving = view(pipeline)
    wait_until(lambda: pipeline.run("attention").returncode == 0, "the clock has reached the view", 30)
    for process in pipeline.processes:
        process.kill()
    past = int((datetime.now(UTC) - timedelta(minutes=5)).timestamp() * 1e6)
    for name in ("heard", "as_of"):
        asked(redis_url, "HSET", f"{pipeline.prefix}st:1:clock", name, json.dumps({"offset": 1, "at": past}))
    assert "WARNING: The view has heard nothing of the clock for 5 min" in pipeline.done("attention")
    assert serving.popen.poll() is not None


@pytest.mark.parametrize("command", [("view", "serve"), ("view", "rebuild")], ids=" ".join)
def test_without_a_broker_at_the_start_it_ends_with_a_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    with running("127.0.0.1:9", "", tmp_path) as pipeline:
        assert "no Kafka broker answers at 127.0.0.1:9" in refused(pipeline, *command)


@pytest.mark.parametrize("command", [("attention",), ("account", "acme"), ("explain", "acme")], ids=" ".join)
@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("redis://user:secret@127.0.0.1:9/0", "no Redis answers at redis://127.0.0.1:9/0", id="nobody"),
        pytest.param("redis://127.0.0.1:port", "is no address of a Redis", id="no address"),
    ],
)
def test_without_redis_a_question_ends_with_a_sentence(
    command: tuple[str, ...], url: str, words: str, tmp_path: Path
) -> None:
    with running("127.0.0.1:9", "", tmp_path, steward_redis=url) as pipeline:
        said = refused(pipeline, *command)
    assert words in said
    assert "secret" not in said
