"""What ingest over HTTP checks before it serves, and that it never decides on what it no longer knows."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas import codec
from schemas.identity import IdentityMapped
from schemas.topics import IDENTITY, SOURCES
from services.ingest import homes
from services.ingest.app import check_secrets, read_maps
from services.ingest.homes import Homes, StaleReader
from services.ingest.http import CannotListen, listen
from services.ingest.model import Mappings, Sender
from services.runtime import clock, kafka
from services.runtime.documents import DocumentError
from services.runtime.http import PortTaken
from services.runtime.settings import Settings, SettingsError

ROOT = Path(__file__).parents[2]
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

# ---------------------------------------------------------------- settings and maps


def test_the_maps_of_vendors_are_read_and_those_of_files_are_not() -> None:
    assert sorted(read_maps(ROOT / "deploy/mapping")) == ["hubspot"]


MAPS: dict[str, tuple[str, str, str]] = {
    "an unknown vendor": (
        "desk.yaml",
        "source: desk\nvendor: zendesk\n",
        "desk.yaml:2: vendor: input should be 'hubspot' (found 'zendesk')",
    ),
    "a name that is not its source": (
        "crm.yaml",
        "source: hubspot\nvendor: hubspot\n",
        "crm.yaml: source is 'hubspot'; the file of a source is named like it",
    ),
    "a key of another map": (
        "hubspot.yaml",
        "source: hubspot\nvendor: hubspot\ncolumns: {}\n",
        "hubspot.yaml:3: 'columns' is not a key here; remove it",
    ),
}


@pytest.mark.parametrize(("name", "text", "why"), MAPS.values(), ids=MAPS)
def test_a_map_that_is_wrong_is_refused_with_its_place(name: str, text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DocumentError) as caught:
        read_maps(tmp_path)
    assert str(caught.value) == f"{tmp_path}/{why}"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="maps: there is no such folder; set STEWARD_MAPPINGS"):
        read_maps(tmp_path / "maps")


SECRETS: dict[str, tuple[dict[str, list[str]], str]] = {
    "one secret of two sources": ({"crm": ["a"], "app": ["b", "a"]}, "crm has a secret that stands there twice"),
    "one secret twice": ({"crm": ["a", "a"]}, "crm has a secret that stands there twice"),
    "an empty one": ({"crm": [" "]}, "crm has an empty secret"),
    "one that is cut short": ({"crm": ["x"], "app": ["whsec_a"]}, "app has a secret with whsec_ and no base64 behind"),
}


@pytest.mark.parametrize(("secrets", "why"), SECRETS.values(), ids=SECRETS)
def test_a_secret_that_cannot_be_meant_is_refused_and_not_shown(secrets: dict[str, list[str]], why: str) -> None:
    with pytest.raises(SettingsError, match=f"^STEWARD_SOURCE_SECRETS: {why}"):
        check_secrets(Settings.model_validate({"source_secrets": secrets}))


def test_secrets_of_every_kind_stand_side_by_side() -> None:
    check_secrets(Settings.model_validate({"source_secrets": {"crm": [WHSEC, "old"], "hubspot": ["an-app"]}}))


def test_an_address_that_cannot_be_had_is_named() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"^port {port} is taken \(Address already in use\); set STEWARD_INGEST"):
            listen("127.0.0.1", port)
    with pytest.raises(CannotListen, match=r"^STEWARD_INGEST_HOST: nobody can listen at 192\.0\.2\.1, port 0"):
        listen("192.0.2.1", 0)


# ---------------------------------------------------------------- homes


@dataclass
class Tail:
    """Stands for the connection to Kafka: topics that end where the test says, read as far as it says."""

    ends: int = 0
    reads: int = 0
    away: bool = False
    records: list[tuple[kafka.Spot, Any]] = field(default_factory=list)
    spots: Sequence[kafka.Spot] = ()

    def seek(self, positions: Mapping[kafka.Spot, int]) -> None:
        self.spots = list(positions)

    async def bounds(self, spots: Sequence[kafka.Spot]) -> dict[kafka.Spot, tuple[int, int]]:
        if self.away:
            raise kafka.BrokerAway("nobody answers")
        return dict.fromkeys(spots, (0, self.ends))

    async def fresh(self, most: int, timeout_ms: int) -> tuple[list[tuple[kafka.Spot, Any]], dict[kafka.Spot, int]]:
        await asyncio.sleep(0)
        records, self.records = self.records, []
        return records, dict.fromkeys(self.spots, self.reads)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stopwatch, under the test's hand."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(clock, "elapsed", lambda: now.seconds)
    return now


async def begun(tail: Tail) -> Homes:
    known = Homes(Settings(partitions=1))
    await known.read(tail, (IDENTITY, SOURCES))  # type: ignore[arg-type]  # stands for it
    return known


async def followed(known: Homes, tail: Tail) -> None:
    """Let the follower go round a few times."""
    following = asyncio.create_task(known.follow(tail))  # type: ignore[arg-type]  # stands for it
    for _ in range(10):
        await asyncio.sleep(0)
    following.cancel()
    done = (await asyncio.gather(following, return_exceptions=True))[0]
    if not isinstance(done, asyncio.CancelledError):
        raise done or AssertionError


async def test_what_was_read_to_its_end_is_current_for_a_while(time: SimpleNamespace) -> None:
    known = await begun(Tail())
    assert known.is_current
    time.seconds += homes.CURRENT_SECONDS
    assert not known.is_current


async def test_it_stays_current_while_everything_is_read_that_stands_there(time: SimpleNamespace) -> None:
    tail = Tail(5, 5)
    known = await begun(tail)
    for _ in range(5):
        time.seconds += homes.CURRENT_SECONDS - 1
        await followed(known, tail)
        assert known.is_current


async def test_a_steady_stream_of_new_records_leaves_it_current(time: SimpleNamespace) -> None:
    tail = Tail(5, 5)
    known = await begun(tail)
    for _ in range(5):
        tail.ends += 10
        time.seconds += 2
        await followed(known, tail)
        tail.reads = tail.ends
        await followed(known, tail)
        assert known.is_current


async def test_when_reading_stops_although_the_broker_answers_it_ends(time: SimpleNamespace) -> None:
    tail = Tail(5, 5)
    known = await begun(tail)
    tail.ends = 6
    time.seconds += homes.CURRENT_SECONDS
    await followed(known, tail)
    assert not known.is_current
    time.seconds += homes.STALE_SECONDS + 1
    with pytest.raises(StaleReader, match=r"nothing has been read of crm\.identity/0, cs\.sources/0 for 60 s"):
        await followed(known, tail)


async def test_while_the_broker_is_away_it_is_not_current_and_goes_on_trying(
    time: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "CHECK_SECONDS", 0.0)
    tail = Tail(5, 5)
    known = await begun(tail)
    tail.away = True
    time.seconds += homes.STALE_SECONDS * 10
    await followed(known, tail)
    assert not known.is_current
    tail.away = False
    await followed(known, tail)
    assert known.is_current


def record(key: str, kind: str | None, data: dict[str, Any] | None = None, at: str = "2026-01-05T10:00:00Z") -> Any:
    attributes = {"specversion": "1.0", "id": f"{key}:{at}", "source": "crm", "time": at, "data": data}
    event = {"type": f"steward.{kind}.v1", "subject": key, "partitionkey": key, **attributes}
    value = None if kind is None else json.dumps(event).encode()
    return SimpleNamespace(key=key.encode(), value=value, partition=0, offset=7)


async def taken(*records: tuple[str, Any]) -> Homes:
    return await begun(Tail(1, 1, records=[((topic, 0), one) for topic, one in records]))


async def test_registrations_and_mappings_are_known_until_they_are_taken_away() -> None:
    mapped = record("crm:deal:1", "identity.mapped", {"home": "crm:deal:1", "account": "acme"})
    registered = record("crm", "source.registered", {"source": "crm", "rank": 7, "role": "system of record"})
    other = record("app", "source.registered", {"source": "app"})
    seen = record("app:seen", "source.seen", {"source": "app"})
    strange = record("crm:deal:2", "identity.unheard-of", {})
    kept = [("crm.identity", mapped), ("crm.identity", strange), ("cs.sources", registered), ("cs.sources", other)]
    known = await taken(*kept, ("cs.sources", seen))
    assert known.mappings.account("crm:deal:1") == "acme"
    assert known.sender("crm") == Sender("crm", 7, creates=True)
    assert known.sender("app") == Sender("app", 100)
    assert known.sender("erp") is None
    gone = [("crm.identity", record("crm:deal:1", None)), ("cs.sources", record("crm", None))]
    known = await taken(*kept, *gone)
    assert known.mappings.account("crm:deal:1") is None
    assert not known.mappings.has("acme")
    assert known.sender("crm") is None


def mapping(home: str, account: str, day: int) -> IdentityMapped:
    sent = record(home, "identity.mapped", {"home": home, "account": account}, f"2026-01-{day:02}T00:00:00Z")
    event = codec.decode(IDENTITY, sent.value)
    assert isinstance(event, IdentityMapped)
    return event


def test_of_several_mappings_of_a_home_the_last_in_time_is_in_force() -> None:
    mappings = Mappings()
    for event in (mapping("crm:deal:1", "b", 2), mapping("crm:deal:1", "a", 1), mapping("crm:deal:2", "b", 1)):
        mappings.learn(event)
    assert [mappings.account(f"crm:deal:{number}") for number in (1, 2, 3)] == ["b", "b", None]
    assert (mappings.has("a"), mappings.has("b"), len(mappings)) == (False, True, 2)
    mappings.forget("crm:deal:1")
    assert mappings.has("b")
    mappings.learn(mapping("crm:deal:2", "c", 3))
    assert (mappings.has("b"), mappings.has("c")) == (False, True)
