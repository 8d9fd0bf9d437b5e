"""Whatever the batches, repeats, failures and restarts: every breach is told, once, and before it is taken back."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import alerts, notices
from schemas.envelope import Event
from schemas.handoffs import HandoffChanged, SlaBreached, SlaRetracted
from schemas.policies import AlertRules
from services.alerting.message import body
from services.alerting.model import Attempt, Notice, Outcome
from services.core.policy import Policies
from tests.alerting_timeline import BROKEN, OK, SILENT, Office, rules, upserted, won
from tests.builders import fact, minute, policies, policy
from tests.property.test_handoff import HOURS, stories
from tests.timeline import Timeline

END = 2_000
PERSON, MANAGER = "ada", "max"
PEOPLE = (PERSON, MANAGER)


def verdicts(data: st.DataObject) -> list[Event]:
    """What the handoff processor says of two handoffs whose facts come in any order while time passes."""
    named = {name: data.draw(stories, label=name) for name in ("deal-1", "deal-2")}
    facts = [fact(one.event(name)) for name, story in named.items() for one in story]
    story, now = Timeline(policies(policy(hours=HOURS))), 0
    for one in data.draw(st.permutations(facts)):
        story.take(one)
        now += data.draw(st.integers(0, 200))
        story.until(minute(now))
    story.until(minute(END))
    return story.published


def known(max_age_hours: float) -> Policies:
    return policies(rules().model_copy(update={"alerts": AlertRules(max_age_hours=max_age_hours)}))


@dataclass
class Standing:
    """Which breaches are true in the end, and how their handoffs ended; read off the verdicts without any fold."""

    breaches: dict[str, SlaBreached] = field(default_factory=dict)
    disproved: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, events: Sequence[Event]) -> "Standing":
        found = cls()
        for event in events:
            match event:
                case SlaBreached():
                    found.breaches[event.data.transition] = event
                case SlaRetracted():
                    found.breaches.pop(event.data.transition, None)
                    found.disproved.add(event.data.transition)
                case HandoffChanged() if event.data.state in {"accepted", "cancelled"}:
                    found.over.add(event.data.handoff)
                case _:
                    pass
        return found


@dataclass
class Heard:
    """What a receiver who keeps each key once has heard: (recipient, endpoint) → its notices, in order."""

    words: dict[tuple[str, str], list[Notice]] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    keys: Counter[tuple[str, str]] = field(default_factory=Counter)

    def post(self, attempt: Attempt) -> None:
        said = body(attempt)
        if attempt.delivery in self.bodies:
            assert self.bodies[attempt.delivery] == said, "one key, two bodies"
            return
        self.bodies[attempt.delivery] = said
        for notice in attempt.notices:
            self.words.setdefault((attempt.recipient, attempt.endpoint), []).append(notice)
            self.keys[notice.notice, attempt.endpoint] += 1


def play(  # noqa: C901  # one case for each thing that may happen
    data: st.DataObject, events: Sequence[Event], max_age_hours: float
) -> tuple[Office, Heard]:
    """The events reach alerting in any batches and some twice, while desks, courier and clock do as they like."""
    heard = Heard()
    fails = data.draw(st.integers(0, 3), label="attempts that fail")

    def answer(attempt: Attempt) -> Outcome:
        chance = int(attempt.delivery, 16) + attempt.number
        if attempt.number <= fails and chance % 3 == 0:
            return BROKEN
        heard.post(attempt)
        return SILENT if attempt.number <= fails and chance % 3 == 1 else OK  # taken, and the answer was lost

    office = Office(known(max_age_hours), ("log", "webhook"), answer, at=minute(0))
    waiting, past, now = list(events), list[Event](), 0
    while waiting:
        match data.draw(st.sampled_from(["hear", "again", "desk", "courier", "tick", "crash"])):
            case "hear":
                size = data.draw(st.integers(1, 4))
                batch, waiting = waiting[:size], waiting[size:]
                office.hears(*batch)
                past += batch
            case "again" if past:
                office.hears(data.draw(st.sampled_from(past)))
            case "desk":
                for recipient in data.draw(st.permutations(sorted(office.inbox))):
                    office.desk_reads(recipient, data.draw(st.integers(1, 3)))
            case "courier":
                office.courier_works(data.draw(st.integers(1, 3)))
            case "tick":
                now += data.draw(st.integers(1, 30))
                office.at = minute(now)
                office._fire()
            case "crash":
                office.restart()
            case _:
                pass
    return office.until(now + 40 * 60), heard


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_breach_is_told_once_and_before_it_is_taken_back(data: st.DataObject) -> None:
    events = verdicts(data)
    truth = Standing.of(events)
    office, heard = play(data, events, data.draw(st.sampled_from([720.0, 1.0]), label="hours until it is too old"))

    assert [key for key, count in heard.keys.items() if count > 1] == [], "delivered twice with two keys"
    assert office.failed() == []
    for person in PEOPLE:
        for endpoint in ("log", "webhook"):
            words = heard.words.get((person, endpoint), [])
            for transition, breach in truth.breaches.items():
                of_it = [word.what for word in words if word.transition == transition]
                assert of_it[:1] == ["raised"], f"{person} did not hear of {transition}"
                assert "retracted" not in of_it
                is_over = any(says_it_is_over(word) for word in words if word.alert == breach.data.alert)
                assert is_over == (breach.data.handoff in truth.over)
            for transition in truth.disproved:
                of_it = [word.what for word in words if word.transition == transition]
                assert of_it[:1] in ([], ["raised"])
                assert of_it[-1:] in ([], ["retracted"]), f"{person} was left with {transition}"
                assert of_it.count("retracted") <= 1


def says_it_is_over(word: Notice) -> bool:
    return word.what == "resolved" or word.accepted is not None


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_delivered_does_not_depend_on_batches_repeats_and_restarts(data: st.DataObject) -> None:
    events = verdicts(data)
    disproved = Standing.of(events).disproved
    extra = [upserted("Acme"), won(amount="100", currency="EUR")]
    delivered, said = [], []
    for _ in range(2):
        mixed = list(events)
        for one in extra:
            mixed.insert(data.draw(st.integers(0, len(mixed))), one)
        office, _heard = play(data, mixed, 720.0)
        said.append([event.id for event in office.noticed])
        delivered.append(
            {
                event.data.delivery
                for event in office.published
                if isinstance(event, alerts.AlertDelivered)
                and office.notice(event.data.notice).transition not in disproved
            }
        )
    assert said[0] == said[1]
    assert delivered[0] == delivered[1]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_id_is_published_twice(data: st.DataObject) -> None:
    office, _ = play(data, verdicts(data), data.draw(st.sampled_from([720.0, 1.0])))
    told = [event.id for event in office.noticed if isinstance(event.data, notices.Notice)]
    audit = [event.id for event in office.published]
    assert [id for ids in (told, audit) for id, count in Counter(ids).items() if count > 1] == []
