"""From an authenticated request to facts: what is accepted, held, refused or unknown, item by item. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from schemas import codec
from schemas.accounts import AccountUpserted
from schemas.envelope import EARLIEST, Event
from schemas.identity import Home, IdentityMapped
from schemas.sources import SourceSeen
from schemas.topics import ACCOUNTS, HELD, IDENTITY, INTERACTIONS, OWNERSHIP, RENEWALS, SOURCES, Topic
from services.core.instants import MINUTE, Instant, instant, moment
from services.ingest.model import (
    Accepted,
    Customer,
    Fact,
    Heard,
    Known,
    Link,
    Mappings,
    Outcome,
    Refused,
    Said,
    Sender,
    Unfit,
    Unknown,
    account_of,
)
from services.ingest.policy import short
from services.ingest.providers import cloudevents

AHEAD = 5 * MINUTE  # a fact later than its arrival by more than this was dated by a wrong clock
TOPIC_OF: dict[type[Event], Topic] = {
    kind: topic for topic in (RENEWALS, OWNERSHIP, INTERACTIONS) for kind in topic.types
}

_HELD = {kind.name(): kind for kind in HELD.types}
_HOME: TypeAdapter[str] = TypeAdapter(Home)


class _Learning:
    """What is known, and what earlier items of the same request have told."""

    def __init__(self, before: Known) -> None:
        self._before = before
        self._now = Mappings()

    def account(self, home: str) -> str | None:
        return (self._now.account(home) if self._now else None) or self._before.account(home)

    def has(self, account: str) -> bool:
        return self._now.has(account) or self._before.has(account)

    def learn(self, outcome: Outcome) -> None:
        if type(outcome) is Accepted and outcome.topic is IDENTITY and isinstance(outcome.event, IdentityMapped):
            self._now.learn(outcome.event)


# ---------------------------------------------------------------- CloudEvents


def cloud_events(items: Sequence[bytes], sender: Sender, known: Known, arrival: Instant) -> list[Outcome]:
    """What becomes of each event of a sender's own code, in order."""
    learning = _Learning(known)
    latest, received = moment(arrival + AHEAD), moment(arrival)
    found: list[Outcome] = []
    for number, item in enumerate(items):
        outcome: Outcome
        try:
            event = cloudevents.read(item, sender.rank)
            _own("source", event.source, sender)
            _timely("time", event.time, latest)
            outcome = _placed(event, sender, learning, received)
        except Unfit as unfit:
            outcome = Refused(number, unfit.where, unfit.why, item)
        learning.learn(outcome)
        found.append(outcome)
    return found


def _placed(event: Event, sender: Sender, known: Known, received: datetime) -> Accepted:
    """The event under its key. Raises Unfit."""
    topic = TOPIC_OF.get(type(event))
    if topic is not None:
        return _fact(topic, event, sender, known, received)
    match event:
        case IdentityMapped():
            return _mapped(event, sender, known, received)
        case AccountUpserted():
            account = _upserted(event.subject, sender, known)
            return Accepted(ACCOUNTS, _stamped(event, account, account, received), account)
        case SourceSeen():
            _own("subject", event.subject, sender)
            _own("data.source", event.data.source, sender)
            return Accepted(SOURCES, _stamped(event, event.subject, f"{event.subject}:seen", received))
        case _:
            raise AssertionError(event)


def _mapped(event: IdentityMapped, sender: Sender, known: Known, received: datetime) -> Accepted:
    home, account = event.data.home, event.data.account
    if event.subject != home:
        raise Unfit("subject", f"it must be data.home, '{home:.60}' (found {event.subject!r:.60})")
    if not sender.creates and not known.has(account):
        raise Unfit("data.account", f"{_unknown(account)}; only the system of record creates accounts")
    return Accepted(IDENTITY, _stamped(event, home, home, received), account)


def _upserted(subject: str, sender: Sender, known: Known) -> str:
    account = _account(subject, known)
    if account is not None:
        return account
    if _is_home(subject):
        raise Unfit("subject", f"{_homeless(subject)}; map it first, with {IdentityMapped.name()}")
    if not sender.creates:
        raise Unfit("subject", f"{_unknown(subject)}; only the system of record creates accounts")
    return subject


def _fact(topic: Topic, event: Event, sender: Sender, known: Known, received: datetime) -> Accepted:
    subject = event.subject
    account = _account(subject, known)
    if account is not None:
        return Accepted(topic, _stamped(event, account, account, received), account)
    if not _is_home(subject):
        raise Unfit("subject", f"{_unknown(subject)}; send a home like {sender.source}:company:123")
    return Accepted(HELD, _stamped(event, subject, subject, received), held=subject)


def _account(subject: str, known: Known) -> str | None:
    account = known.account(subject)
    return subject if account is None and known.has(subject) else account


def _is_home(subject: str) -> bool:
    try:
        _HOME.validate_python(subject)
    except ValidationError:
        return False
    return True


def _own(where: str, name: str, sender: Sender) -> None:
    if name != sender.source:
        raise Unfit(where, f"it must be '{sender.source}', whose secret this is (found {name!r:.60})")


def _timely(where: str, time: datetime, latest: datetime) -> None:
    if time > latest:
        raise Unfit(where, f"{time.isoformat()} is more than 5 minutes after its arrival; is the sender's clock right?")


def _unknown(account: str) -> str:
    return f"unknown account '{account:.60}'"


def _homeless(home: str) -> str:
    return f"the home '{home:.60}' is mapped to no account"


def _stamped(event: Event, subject: str, key: str, received: datetime) -> Event:
    # In place: the event was read a moment ago, nobody else holds it, and a copy would cost half as much as reading.
    event.__dict__.update(subject=subject, partitionkey=key, receivedat=received)
    return event


# ---------------------------------------------------------------- vendors' events


def webhook(
    items: Sequence[bytes],
    read: Callable[[bytes], Heard],
    sender: Sender,
    known: Known,
    arrival: Instant,
    *,
    create: bool,
) -> list[Outcome]:
    """What becomes of each event of a vendor, in order; `read` says what it means, and raises Unfit.

    `create`: a customer that nobody has mapped becomes an account, if the sender may create any.
    """
    learning = _Learning(known)
    teller = _Teller(sender, learning, arrival, create=create)
    found: list[Outcome] = []
    for number, item in enumerate(items):
        outcomes: list[Outcome]
        try:
            outcomes = list(teller.outcomes(read(item), item))
        except Unfit as unfit:
            outcomes = [Refused(number, unfit.where, unfit.why, item)]
        for outcome in outcomes:
            learning.learn(outcome)
        found += outcomes
    return found


class _Unplaced(Exception):
    """What an item says belongs to nobody, and to send it again would not help."""


class _Teller:
    """Turns what a vendor says into events under their keys."""

    def __init__(self, sender: Sender, known: Known, arrival: Instant, *, create: bool) -> None:
        self._sender = sender
        self._known = known
        self._received = moment(arrival)
        self._latest = moment(arrival + AHEAD)
        self._create = create

    def outcomes(self, heard: Heard, item: bytes) -> Iterator[Outcome]:
        """Everything that comes of one item. Raises Unfit: then nothing does."""
        if not heard.said:
            yield Unknown(heard.what, heard.why, item)
        for said in heard.said:
            _timely("occurredAt", moment(said.at), self._latest)
            try:
                yield from self._accepted(said)
            except _Unplaced as unplaced:
                yield Unknown(heard.what, str(unplaced), item)

    def _accepted(self, said: Said) -> Iterator[Accepted]:
        match said:
            case Fact():
                yield self._fact(said)
            case Customer(home=home):
                mapped = self._known.account(home)
                account = mapped or self._created(home)
                yield Accepted(ACCOUNTS, self._event(AccountUpserted, said, account, {"name": said.name}), account)
                if mapped is None:
                    yield self._mapping(said, account)
            case Link(home=home, customer=customer):
                account = self._known.account(customer) or self._created(customer)
                if not said.is_primary and self._known.account(home) not in {None, account}:
                    raise _Unplaced(f"'{home}' belongs to its primary company, and this is another one")
                # Links come in any order: one that is not primary must never be the last word about a home.
                yield self._mapping(said if said.is_primary else replace(said, at=instant(EARLIEST)), account)

    def _fact(self, fact: Fact) -> Accepted:
        kind, account = _HELD[fact.type], self._known.account(fact.home)
        if account is None:
            return Accepted(HELD, self._event(kind, fact, fact.home, fact.data), held=fact.home)
        return Accepted(TOPIC_OF[kind], self._event(kind, fact, account, fact.data), account)

    def _mapping(self, said: Customer | Link, account: str) -> Accepted:
        data = {"home": said.home, "account": account}
        return Accepted(IDENTITY, self._event(IdentityMapped, said, said.home, data), account)

    def _created(self, home: str) -> str:
        if self._create and self._sender.creates:
            return account_of(home)
        why = f"'{self._sender.source}' is not the system of record" if self._create else "its map creates none"
        raise _Unplaced(f"{_homeless(home)}, and {why}")

    def _event(self, kind: type[Event], said: Said, subject: str, data: Mapping[str, str | None]) -> Event:
        """The event as it is written; one item may give several, hence the type in the id. Raises Unfit."""
        attributes = {
            "id": f"{said.id}.{short(kind.name())}",
            "source": self._sender.source,
            "subject": subject,
            "partitionkey": subject,
            "time": moment(said.at),
            "receivedat": self._received,
            "sourcerank": self._sender.rank,
            "data": data,
        }
        try:
            return kind.model_validate(attributes)
        except ValidationError as error:
            where, _, why = codec.sentences(error, limit=1)[0].partition(": ")
            raise Unfit(where, why) from None
