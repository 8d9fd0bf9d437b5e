"""What the clock may say after what, and what it says of runs."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from schemas import codec
from schemas.clock import ClockAdvanced
from schemas.envelope import EARLIEST, Event
from schemas.sources import (
    Progress,
    Registration,
    RunAbandoned,
    RunAdvanced,
    RunFinished,
    RunStarted,
    Sighting,
    SourceRegistered,
    SourceSeen,
)
from schemas.topics import CLOCK
from services.core.instants import DAY, HOUR, MINUTE, SECOND, Instant, instant
from services.ingest.clock import COVERED, TABLES, Heard, _Writer
from services.ingest.marks import Allowance, Hearts, Runs, Tick, tick
from services.runtime.settings import Settings

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AT = instant(NOW)
ALLOWANCE = Allowance(grace=MINUTE, redelivery=10 * MINUTE)
RunEvent = type[RunStarted] | type[RunAdvanced] | type[RunFinished] | type[RunAbandoned]


def told(kind: RunEvent, after: timedelta, through: datetime | None = None, run: str = "crm:1") -> Event:
    data = Progress(source="crm", run=run, file="log", sha256="0" * 64, facts=9, sent=1, through=through)
    return kind(id="1", source="steward/ingest", subject=run, partitionkey=run, time=NOW + after, data=data)


def test_the_first_tick_is_the_wall_and_silence_is_believed_up_to_the_grace() -> None:
    assert tick(None, AT, ALLOWANCE) == Tick(AT, AT - MINUTE)


def test_the_clock_never_goes_back() -> None:
    last = Tick(AT, AT - MINUTE)
    assert tick(last, AT - 5 * SECOND, ALLOWANCE) == last


def test_after_a_gap_silence_is_not_believed_until_vendors_have_redelivered() -> None:
    last = Tick(AT, AT - MINUTE)
    back = tick(last, AT + 2 * MINUTE, ALLOWANCE)
    assert back == Tick(AT + 2 * MINUTE, AT - MINUTE, AT + 12 * MINUTE)
    later = tick(back, AT + 2 * MINUTE + SECOND, ALLOWANCE)
    assert later.safe == AT - MINUTE
    resumed = tick(Tick(AT + 12 * MINUTE - SECOND, AT - MINUTE, AT + 12 * MINUTE), AT + 12 * MINUTE, ALLOWANCE)
    assert resumed == Tick(AT + 12 * MINUTE, AT + 11 * MINUTE)


def test_a_second_gap_while_the_first_is_held_holds_longer_and_gives_nothing_back() -> None:
    held = Tick(AT, AT - 20 * MINUTE, AT + 5 * MINUTE)
    again = tick(held, AT + 3 * MINUTE, ALLOWANCE)
    assert again == Tick(AT + 3 * MINUTE, AT - 20 * MINUTE, AT + 13 * MINUTE)


def test_a_run_is_named_from_its_start_and_promises_nothing_until_it_has_sent_something() -> None:
    runs = Runs().after(told(RunStarted, timedelta(0)))
    assert runs.promises() == {"crm:1": instant(EARLIEST)}
    runs = runs.after(told(RunAdvanced, timedelta(seconds=1), NOW - timedelta(days=9)))
    assert runs.promises() == {"crm:1": instant(NOW - timedelta(days=9))}


def test_a_closed_run_is_listed_for_fourteen_days_and_promises_nothing() -> None:
    for kind in (RunFinished, RunAbandoned):
        runs = Runs().after(told(RunStarted, timedelta(0))).after(told(kind, timedelta(minutes=1), NOW))
        assert runs.promises() == {}
        assert runs.closed(AT + 14 * DAY) == {"crm:1": AT + MINUTE}
        assert runs.closed(AT + 14 * DAY + MINUTE) == {}


def test_a_run_without_progress_for_a_quarter_of_an_hour_is_stalled_until_it_goes_on() -> None:
    runs = Runs().after(told(RunStarted, timedelta(0)))
    assert runs.stalled(AT + 15 * MINUTE) == ()
    assert runs.stalled(AT + 15 * MINUTE + SECOND) == ("crm:1",)
    runs = runs.after(told(RunAdvanced, timedelta(minutes=16), NOW))
    assert runs.stalled(AT + 17 * MINUTE) == ()


def test_simulated_time_may_leap_without_anybody_having_been_down() -> None:
    leaping = Allowance(MINUTE, 10 * MINUTE, gap=10 * DAY)
    assert tick(Tick(AT, AT - MINUTE), AT + DAY, leaping) == Tick(AT + DAY, AT + DAY - MINUTE)


def registered(source: str = "crm", heartbeat: int | None = 30) -> Event:
    data = Registration(source=source, heartbeat=heartbeat, grace=60)
    return SourceRegistered(id="1", source="steward/ingest", subject=source, partitionkey=source, time=NOW, data=data)


def seen(after: int, received: int | None = None, source: str = "crm") -> Event:
    at = NOW + timedelta(seconds=after)
    return SourceSeen(
        id=f"{after}",
        source=source,
        subject=source,
        partitionkey=f"{source}:seen",
        time=at,
        receivedat=None if received is None else NOW + timedelta(seconds=received),
        data=Sighting(source=source),
    )


def hearts(*events: Event) -> Hearts:
    known = Hearts()
    for event in events:
        known = known.after(event)
    return known


def test_registrations_are_no_runs() -> None:
    assert Runs().after(registered()) == Runs()


def test_a_source_promises_its_last_heartbeat_less_its_grace_whatever_the_order() -> None:
    told = [registered(), seen(0), seen(30), seen(15)]
    for events in permutations(told):
        assert hearts(*events).promises(AT + MINUTE) == {"crm": AT + 30 * SECOND - MINUTE}


def test_a_heartbeat_dated_ahead_promises_no_more_than_when_it_was_heard() -> None:
    assert hearts(registered(), seen(200, received=10)).promises(AT) == {"crm": AT + 10 * SECOND - MINUTE}


@pytest.mark.parametrize(
    ("events", "at", "promises", "silent", "heard"),
    [
        pytest.param([seen(0)], AT, {}, (), {}, id="not registered"),
        pytest.param([registered(heartbeat=None), seen(0)], AT, {}, (), {}, id="registered without a heartbeat"),
        pytest.param([registered()], AT, {}, ("crm",), {}, id="never heard"),
        pytest.param([registered(), seen(0)], AT + 90 * SECOND, {"crm": AT - MINUTE}, (), {}, id="three intervals"),
        pytest.param(
            [registered(), seen(0)], AT + 91 * SECOND, {"crm": AT - MINUTE}, ("crm",), {"crm": AT}, id="more than three"
        ),
        pytest.param(
            [registered(), seen(0)], AT + 4 * HOUR, {"crm": AT - MINUTE}, ("crm",), {"crm": AT}, id="four hours"
        ),
        pytest.param(
            [registered(), seen(0)], AT + 4 * HOUR + 1, {}, ("crm",), {"crm": AT}, id="longer: it restrains no clock"
        ),
        pytest.param([registered(), seen(0)], AT + 400 * DAY, {}, ("crm",), {"crm": AT}, id="a year"),
        pytest.param(
            [registered(), seen(0), registered(heartbeat=None)], AT + DAY, {}, (), {}, id="sends none any more"
        ),
    ],
)
def test_a_silent_source_is_named_with_its_last_heartbeat_and_restrains_clocks_for_four_hours(
    events: list[Event], at: Instant, promises: dict[str, Instant], silent: tuple[str, ...], heard: dict[str, Instant]
) -> None:
    known = hearts(*events)
    assert (known.promises(at), known.silent(at), known.heard(at)) == (promises, silent, heard)


def test_the_last_heartbeat_of_a_silent_source_is_the_latest_in_whatever_order_they_come() -> None:
    for events in permutations([registered(), seen(0), seen(30), seen(15)]):
        assert hearts(*events).heard(AT + HOUR) == {"crm": AT + 30 * SECOND}


def test_a_heartbeat_dated_ahead_was_heard_when_it_came() -> None:
    assert hearts(registered(), seen(200, received=10)).heard(AT + HOUR) == {"crm": AT + 10 * SECOND}


def test_each_silent_source_is_told_by_itself() -> None:
    known = hearts(registered("crm"), registered("desk"), registered("erp"), seen(0), seen(3600, source="desk"))
    assert known.silent(AT + HOUR) == ("crm", "erp")
    assert known.heard(AT + HOUR) == {"crm": AT}


def test_a_mark_tells_every_partition_which_sources_are_silent_and_when_each_was_last_heard() -> None:
    heard = Heard(
        hearts=hearts(registered("crm"), registered("desk"), registered("erp"), seen(0, source="desk"), seen(7))
    )
    ends = {topic.name: (0, 0) for topic in (*COVERED, *TABLES)}
    writes = _Writer(Settings(partitions=2), "w", simulated=False).marks(Tick(AT + DAY, AT), heard, {}, ends)
    assert [write.partition for write in writes] == [0, 1]
    for write in writes:
        ((_, value, _),) = write.records
        mark = codec.decode(CLOCK, value or b"")
        assert isinstance(mark, ClockAdvanced)
        assert mark.data.silent == ("crm", "desk", "erp")
        assert mark.data.heard == {"crm": NOW + timedelta(seconds=7), "desk": NOW}
