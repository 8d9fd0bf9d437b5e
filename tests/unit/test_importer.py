"""What an import writes for each fact: its place in the run, however often the import is stopped and goes on."""

import asyncio
import json
from collections import defaultdict
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.sources import Progress
from schemas.topics import INTERACTIONS, SOURCES, Topic
from services.core.instants import DAY, Instant
from services.ingest import importer
from services.ingest.files import Homed
from services.ingest.importer import chunks
from services.ingest.mapping import Draft
from services.ingest.model import account_of
from services.runtime import kafka

START: Instant = 10_000 * DAY
RUN = "shop:5b1f0c2d9a77"
OURS = {"steward.account.upserted.v1", "steward.identity.mapped.v1"}


class Killed(Exception):
    """The process ends here."""


class Recorder:
    """Stands for the publisher: keeps what is put, until it is killed after so many records."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.told: list[Progress] = []

    async def put(self, topic: Topic, key: str, value: bytes) -> "asyncio.Future[None]":
        if self.left == 0:
            raise Killed
        self.left -= 1
        event = json.loads(value)
        assert event["partitionkey"] == key
        self.records.append((topic.name, event))
        acknowledged = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged

    async def send(self, topic: Topic, key: str, value: bytes) -> None:
        assert topic is SOURCES
        assert key == f"shop:{RUN}"
        self.told.append(Progress.model_validate_json(json.dumps(json.loads(value)["data"])))


def purchase(number: int, day: int, customer: int) -> Homed:
    data = {"order": str(number)}
    return Homed(f"shop:customer:{customer}", Draft(0, f"log:{number}.0", "steward.purchase.made.v1", day * DAY, data))


def attempt(facts: list[Homed], begun: Progress, publisher: Recorder) -> None:
    """Send what is left, or as much of it as the publisher lives to take."""

    async def send() -> None:
        # Nobody is known: the run introduces each customer, and that takes no place.
        run = importer._Run(cast("kafka.Publisher", publisher), 30, begun, {}, resumed=begun.sent > 0)
        for chunk in chunks(iter(facts[begun.sent :]), len(facts) - begun.sent):
            await run.send(chunk)

    with suppress(Killed):
        asyncio.run(send())


def progress(facts: int, sent: int = 0) -> Progress:
    return Progress(source="shop", run=RUN, file="log.csv", sha256="0" * 64, facts=facts, sent=sent)


logs = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=20).map(
    lambda rows: [purchase(number, START // DAY + day, one) for number, (day, one) in enumerate(sorted(rows))]
)


@settings(deadline=None)
@given(facts=logs, kills=st.lists(st.integers(0, 25), max_size=4), size=st.integers(1, 5), data=st.data())
def test_a_fact_has_the_place_in_which_its_run_sends_it_in_every_attempt(
    facts: list[Homed], kills: list[int], size: int, data: st.DataObject
) -> None:
    begun, places = progress(len(facts)), defaultdict[str, set[int]](set)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importer, "CHUNK", size)
        patch.setattr(importer, "LARGEST_CHUNK", 2 * size)
        patch.setattr(importer, "TELL_SECONDS", 0.0)
        for kill in [*kills, -1]:
            publisher = Recorder(kill)
            attempt(facts, begun, publisher)
            begun = data.draw(st.sampled_from([begun, *publisher.told]))  # what was told last may lie behind
            for topic, event in publisher.records:
                assert event["run"] == RUN
                if event["type"] in OURS:
                    assert "runposition" not in event
                else:
                    assert topic == INTERACTIONS.name
                    places[event["id"]].add(event["runposition"])
    assert places == {fact.draft.id: {place} for place, fact in enumerate(facts)}


def test_an_import_that_goes_on_counts_from_the_first_fact_of_its_run() -> None:
    facts = [purchase(number, START // DAY + number, 1) for number in range(5)]
    publisher = Recorder(-1)
    attempt(facts, progress(5, sent=3), publisher)
    sent = [event for topic, event in publisher.records if topic == INTERACTIONS.name]
    assert [(event["id"], event["runposition"]) for event in sent] == [("log:3.0", 3), ("log:4.0", 4)]
    assert {event["subject"] for event in sent} == {account_of("shop:customer:1")}
