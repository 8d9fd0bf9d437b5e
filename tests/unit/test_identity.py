"""The identity processor, one rule at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta, timezone

import pytest

from schemas.envelope import Event
from schemas.findings import Finding
from schemas.identity import IdentityMapped, Mapping
from schemas.interactions import Interaction, InteractionLogged, Ticket, TicketOpened
from schemas.ownership import Acceptance, HandoffAccepted
from schemas.renewals import ContractWon, Won
from schemas.topics import DAY_MS, FINDINGS, HELD, IDENTITY, INTERACTIONS, OWNERSHIP, RENEWALS
from services.core.instants import DAY, Instant, instant, moment
from services.core.processor import CLOCK_ALONE, Due, Fact
from services.ingest.identity import BYTES_LIMIT, KEPT, OVERHEAD, TOPIC_OF, Home, IdentityProcessor
from tests.builders import START, context, minute

HOME = "hubspot:deal:77"
PARIS = timezone(timedelta(hours=1))


def won(id: str, at: float = 0, *, home: str = HOME, receivedat: float | None = None, source: str = "hubspot") -> Fact:
    event = ContractWon(
        id=id,
        source=source,
        subject=home,
        partitionkey=home,
        time=START + timedelta(minutes=at),
        receivedat=None if receivedat is None else (START + timedelta(minutes=receivedat)).astimezone(PARIS),
        sourcerank=7,
        data=Won(home=home, amount="1200.50", currency="EUR", owner="ada"),
    )
    return Fact(HELD, event, minute(at if receivedat is None else receivedat))


def accepted(id: str, at: float = 0) -> Fact:
    data = Acceptance(handoff=f"{HOME}/sale_to_onboarding", owner="ada")
    event = HandoffAccepted(
        id=id, source="hubspot", subject=HOME, partitionkey=HOME, time=START + timedelta(minutes=at), data=data
    )
    return Fact(HELD, event, minute(at))


def talked(id: str, at: float = 0) -> Fact:
    data = Interaction(channel="email", direction="inbound", contact="c-5")
    time = START + timedelta(minutes=at)
    return Fact(
        HELD,
        InteractionLogged(id=id, source="hubspot", subject=HOME, partitionkey=HOME, time=time, data=data),
        minute(at),
    )


def asked(id: str, at: float = 0) -> Fact:
    data = Ticket(ticket="zendesk:ticket:5", severity=1)
    time = START + timedelta(minutes=at)
    return Fact(
        HELD, TicketOpened(id=id, source="zendesk", subject=HOME, partitionkey=HOME, time=time, data=data), minute(at)
    )


def mapped(account: str, at: float = 0, *, id: str = "m", home: str = HOME, rank: int = 100) -> Fact:
    event = IdentityMapped(
        id=id,
        source="hubspot",
        subject=home,
        partitionkey=HOME,
        time=START + timedelta(minutes=at),
        sourcerank=rank,
        data=Mapping(home=home, account=account),
    )
    return Fact(IDENTITY, event, minute(at))


@dataclass
class Story:
    """One home: its state, everything published, and what was refused or dropped."""

    processor: IdentityProcessor = field(default_factory=IdentityProcessor)
    state: Home | None = None
    published: list[Event] = field(default_factory=list)
    fates: list[tuple[str, str]] = field(default_factory=list)

    def take(self, *facts: Fact) -> "Story":
        """Facts come in one batch."""
        decision = self.processor.decide(HOME, self.state or self.processor.empty(), facts, context(0))
        self.state = decision.state
        self.published += [output.event for output in decision.outputs]
        self.fates += [(fact.event.id, fate.reason.value) for fact, fate in decision.fates]
        return self

    def until(self, at: Instant) -> "Story":
        """The clock comes as far as this."""
        while self.state is not None and any(due.at <= at for due in self.processor.dues(self.state)):
            decision = self.processor.due(HOME, self.state, context(at))
            self.state = decision.state
            self.published += [output.event for output in decision.outputs]
        return self

    def restart(self) -> "Story":
        """Only what the changelog holds survives."""
        if self.state is not None:
            raw = self.processor.encode(self.state)
            self.processor = IdentityProcessor()
            self.state = self.processor.decode(raw, self.processor.version)
        return self

    @property
    def released(self) -> list[tuple[str, str]]:
        """(id, account) of what was released, in order."""
        return [(event.id, event.partitionkey) for event in self.published if type(event) in TOPIC_OF]

    @property
    def findings(self) -> list[tuple[str, int]]:
        """(opened or closed, count), in order."""
        found = [event for event in self.published if isinstance(event.data, Finding)]
        return [(event.type.split(".")[2], event.data.count) for event in found if isinstance(event.data, Finding)]


def test_every_type_that_can_be_held_goes_to_one_topic_of_the_processors_outputs() -> None:
    assert set(TOPIC_OF) == set(HELD.types)
    assert set(IdentityProcessor.outputs) == {RENEWALS, OWNERSHIP, INTERACTIONS, FINDINGS}
    assert all(kind in topic.types for kind, topic in TOPIC_OF.items())


def test_facts_of_an_unknown_home_wait_and_leave_in_order_when_it_is_mapped() -> None:
    story = Story().take(won("a", 5), accepted("b", 1)).take(won("c", 3))
    assert story.released == []
    story.take(mapped("acme", 9))
    assert story.released == [("a", "acme"), ("b", "acme"), ("c", "acme")]
    assert story.state is not None
    assert story.state.waiting == ()


def test_each_goes_to_the_topic_of_its_type() -> None:
    processor = IdentityProcessor()
    state = processor.decide(HOME, Home(), [won("a"), accepted("b"), talked("c"), asked("d")], context(0)).state
    outputs = processor.decide(HOME, state or Home(), [mapped("acme")], context(0)).outputs
    assert [output.topic for output in outputs] == [RENEWALS, OWNERSHIP, INTERACTIONS, INTERACTIONS, FINDINGS]


@pytest.mark.parametrize("waits", [True, False], ids=["waited", "home was mapped already"])
@pytest.mark.parametrize("fact", [talked("a", 5), asked("a", 5)], ids=["contact", "ticket"])
def test_what_a_customer_did_is_released_as_it_was_but_for_its_account(fact: Fact, waits: bool) -> None:
    facts = [fact, mapped("acme", 600)]
    story = Story()
    for one in facts if waits else reversed(facts):
        story.take(one).restart()
    (released,) = (event for event in story.published if type(event) in TOPIC_OF)
    assert released.model_dump() == fact.event.model_dump() | {
        "subject": "acme",
        "partitionkey": "acme",
        "receivedat": moment(minute(5)),
    }


def test_a_released_fact_differs_in_its_account_and_its_first_receipt_only() -> None:
    fact = won("a", 5)
    story = Story().take(fact).restart().take(mapped("acme", 600))
    expected = {**fact.event.model_dump(), "subject": "acme", "partitionkey": "acme", "receivedat": moment(minute(5))}
    assert story.published[1].model_dump() == expected


@pytest.mark.parametrize("waits", [True, False], ids=["waited", "home was mapped already"])
def test_the_first_receipt_that_a_fact_carries_is_kept_as_it_is_written(waits: bool) -> None:
    facts = [won("a", 5, receivedat=6), mapped("acme", 600)]
    story = Story()
    for fact in facts if waits else reversed(facts):
        story.take(fact)
    released = next(event for event in story.published if type(event) in TOPIC_OF)
    assert released.receivedat is not None
    assert released.receivedat.isoformat() == "2026-03-02T10:06:00+01:00"


def test_a_held_fact_of_a_mapped_home_is_released_at_once() -> None:
    story = Story().take(mapped("acme")).take(won("a"))
    assert story.released == [("a", "acme")]
    assert story.findings == []


def test_a_copy_of_a_waiting_fact_is_dropped_and_the_same_id_of_another_source_is_not() -> None:
    story = Story().take(won("a"), won("a", 9)).take(won("a"), won("a", source="stripe")).take(mapped("acme"))
    assert story.fates == [("a", "duplicate"), ("a", "duplicate")]
    assert story.released == [("a", "acme"), ("a", "acme")]
    assert {event.source for event in story.published if type(event) in TOPIC_OF} == {"hubspot", "stripe"}


def test_a_copy_of_a_released_fact_is_released_again_under_its_id() -> None:
    story = Story().take(won("a"), mapped("acme")).take(won("a"))
    assert story.released == [("a", "acme"), ("a", "acme")]


def test_a_remapping_sends_later_facts_to_the_new_account_and_moves_nothing() -> None:
    story = Story().take(won("a"), mapped("acme", 1)).take(mapped("other", 2, id="n")).take(won("b"))
    assert story.released == [("a", "acme"), ("b", "other")]
    assert story.findings == [("opened", 1), ("closed", 1)]


@pytest.mark.parametrize(
    ("first", "second", "account", "fate"),
    [
        pytest.param(mapped("x", 1), mapped("y", 2, id="n"), "y", None, id="later time"),
        pytest.param(mapped("x", 2), mapped("y", 1, id="n"), "x", "too_late", id="earlier time"),
        pytest.param(mapped("x", 1, rank=1), mapped("y", 1, id="n", rank=2), "y", None, id="same time, higher rank"),
        pytest.param(mapped("x", 1, rank=2), mapped("y", 1, id="n", rank=1), "x", "too_late", id="lower rank"),
        pytest.param(mapped("x", 1), mapped("y", 1, id="n"), "y", None, id="all the same, later id"),
        pytest.param(mapped("x", 1), mapped("x", 1), "x", "duplicate", id="repeated"),
        pytest.param(mapped("x", 1), mapped("x", 2, id="n"), "x", None, id="said again later"),
    ],
)
def test_the_last_mapping_in_order_of_time_rank_source_and_id_is_in_force(
    first: Fact, second: Fact, account: str, fate: str | None
) -> None:
    story = Story().take(first).take(second).take(won("a"))
    assert story.released == [("a", account)]
    assert [reason for _, reason in story.fates] == ([] if fate is None else [fate])


def test_a_mapping_said_again_later_outdoes_one_that_comes_after_it_and_is_older() -> None:
    story = Story().take(mapped("x", 1)).take(mapped("x", 3, id="n")).take(mapped("y", 2, id="o")).take(won("a"))
    assert story.released == [("a", "x")]


def test_a_mapping_under_the_key_of_another_home_is_refused() -> None:
    processor = IdentityProcessor()
    decision = processor.decide(HOME, Home(), [mapped("acme", home="hubspot:deal:78")], context(0))
    assert decision.state is None
    assert [(fate.reason.value, fate.message) for _, fate in decision.fates if hasattr(fate, "message")] == [
        ("schema", "data.home is 'hubspot:deal:78', but the record's key is 'hubspot:deal:77'")
    ]


def test_a_batch_that_changes_nothing_leaves_the_very_state_it_found() -> None:
    processor = IdentityProcessor()
    state = processor.decide(HOME, Home(), [won("a")], context(0)).state
    assert state is not None
    assert processor.decide(HOME, state, [won("a")], context(0)).state is state


def test_the_finding_is_told_at_one_ten_a_hundred_and_a_thousand_facts_and_when_it_closes() -> None:
    story = Story().take(*[won(str(number), number) for number in range(1_000)]).take(mapped("acme", 2_000))
    assert story.findings == [("opened", 1), ("opened", 10), ("opened", 100), ("opened", 1_000), ("closed", 1_000)]
    findings = [event for event in story.published if isinstance(event.data, Finding)]
    assert {event.partitionkey for event in findings} == {HOME}
    assert {event.data.since for event in findings if isinstance(event.data, Finding)} == {START}
    assert [instant(event.time) for event in findings] == [minute(at) for at in (0, 9, 99, 999, 2_000)]
    assert len({event.id for event in findings}) == 5


def test_the_finding_says_what_to_do_and_how_it_ended() -> None:
    story = Story().take(won("a"), mapped("acme"))
    texts = [event.data.text for event in story.published if isinstance(event.data, Finding)]
    held_back = (
        "no account is known for hubspot:deal:77 (facts held back: 1); let its source send the record that names its "
        "account, or map it with an event steward.identity.mapped.v1 on crm.identity"
    )
    assert texts == [held_back, "hubspot:deal:77 belongs to account acme (facts released: 1)"]


def test_names_of_the_greatest_length_fit_into_a_finding() -> None:
    home, processor = HOME.ljust(200, "7"), IdentityProcessor()
    opened = processor.decide(home, Home(), [accepted("a")], context(0))
    closed = processor.decide(home, opened.state or Home(), [mapped("a" * 200, home=home)], context(0))
    assert [output.topic for output in (*opened.outputs, *closed.outputs)] == [FINDINGS, OWNERSHIP, FINDINGS]


def test_the_fact_after_a_thousand_is_refused_with_the_reason_and_a_copy_of_an_earlier_one_is_not() -> None:
    processor = IdentityProcessor()
    full = processor.decide(HOME, Home(), [won(str(number)) for number in range(1_000)], context(0)).state
    decision = processor.decide(HOME, full or Home(), [won("one more"), won("7")], context(0))
    refused, copy = (fate for _, fate in decision.fates)
    assert getattr(refused, "message", None) == (
        "1,000 facts of hubspot:deal:77 wait already; map it to an account and send this one again"
    )
    assert [refused.reason.value, copy.reason.value] == ["too_many_facts", "duplicate"]
    assert decision.state is full


def test_facts_too_large_for_one_record_together_are_refused_before_the_broker_refuses_the_state() -> None:
    story = Story().take(*[won(f"{number}{'ü' * 190}", source="ü" * 200) for number in range(1_000)])
    assert story.state is not None
    refused = [id for id, reason in story.fates if reason == "too_many_facts"]
    assert len(story.state.waiting) + len(refused) == 1_000
    assert refused
    assert BYTES_LIMIT * 0.9 < len(story.processor.encode(story.state)) < BYTES_LIMIT


def test_a_waiting_fact_takes_no_more_room_than_is_reckoned() -> None:
    state = Story().take(*[won(str(number)) for number in range(100)]).state
    assert state is not None
    assert len(IdentityProcessor().encode(state)) <= sum(one.size for one in state.waiting) + OVERHEAD


def test_what_has_waited_as_long_as_its_topic_keeps_it_is_given_up_and_said() -> None:
    story = Story().take(won("a", 0), won("b", 5))
    assert story.processor.dues(story.state or Home()) == [Due(minute(0) + KEPT, CLOCK_ALONE)]
    story.until(minute(0) + KEPT - 1)
    assert story.findings == [("opened", 1)]
    story.until(minute(0) + KEPT)
    assert story.findings == [("opened", 1), ("closed", 1), ("opened", 1)]
    story.until(minute(5) + KEPT)
    assert story.findings[3:] == [("closed", 1)]
    assert story.state is None
    assert isinstance(story.published[-1].data, Finding)
    assert "was unknown for 400 days (facts given up: 1); map it" in story.published[-1].data.text
    assert len({event.id for event in story.published}) == len(story.published)


def test_it_is_given_up_when_the_topic_forgets_it_too() -> None:
    assert HELD.config["retention.ms"] == str(KEPT // DAY * DAY_MS)


def test_a_mapped_home_waits_for_nothing() -> None:
    story = Story().take(won("a"), mapped("acme"))
    assert story.state is not None
    assert story.processor.dues(story.state) == ()
    assert story.until(minute(0) + 2 * KEPT).state == Home(story.state.mapped)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param([won("a"), accepted("b")], id="waiting"),
        pytest.param([won("a"), mapped("acme")], id="mapped"),
    ],
)
def test_the_state_comes_back_from_its_bytes(facts: Sequence[Fact]) -> None:
    story = Story().take(*facts)
    assert story.state == Story(state=story.state).restart().state


def test_a_state_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="state version 9 of the identity processor is not known"):
        IdentityProcessor().decode(IdentityProcessor().encode(Home()), 9)
