"""The desk: per recipient when and how this person hears of it; notices and results in, attempts and their audit out.

Retries and the digest wait on the clock itself: what they wait for is not the silence of any source.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace

from schemas import alerts, notices
from schemas.envelope import Event
from schemas.topics import ALERTS, NOTICES, Topic
from services.alerting.model import Attempt, Delivery, Desk, End, Known, Notice, delivery_id, digest_of
from services.core.instants import DAY, HOUR, MINUTE, SECOND, Instant, instant, moment
from services.core.outcome import Drop, Fate, Reason
from services.core.processor import CLOCK_ALONE, NEVER, Context, Decision, Due, Effect, Fact, Output
from services.core.states import States

SOURCE = "steward/alerting-desk"
PAUSES = (5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)  # after each failed attempt
DIGEST_AFTER = MINUTE
DIGEST_LIMIT = 100  # notices in one message; a receiver may refuse bodies beyond some hundred KB
GONE_KEPT = DAY  # then the endpoint is tried once more: its address may have been mended
KNOWN_KEPT = 30 * DAY  # as long as cs.notices itself
# A recipient's state is one record of at most 900 KB. Deflated, a notice that waits is some 175 bytes, or 400 with
# random names of 150 characters; the memory of one that has ended is some 50.
WAITING_LIMIT = 1_500
RETRACTIONS_LIMIT = 1_800
KNOWN_LIMIT = 4_000
GONE = 410


class Place(StrEnum):
    """Where the pipeline puts a notice."""

    DUPLICATE = "duplicate"
    REFUSED = "refused"
    DIGEST = "digest"
    NOW = "now"


@dataclass(slots=True)
class _Draft:
    """A recipient while a batch is taken in."""

    recipient: str
    endpoints: tuple[str, ...]
    now: Instant
    known: dict[str, Known]
    deliveries: dict[str, Delivery]
    digest: list[str]
    digest_since: Instant | None
    gone: dict[str, Instant]
    outputs: list[Output]

    @classmethod
    def of(cls, recipient: str, endpoints: tuple[str, ...], desk: Desk, now: Instant) -> "_Draft":
        digest, gone = list(desk.digest), dict(desk.gone)
        return cls(
            recipient, endpoints, now, dict(desk.known), dict(desk.deliveries), digest, desk.digest_since, gone, []
        )

    def desk(self) -> Desk | None:
        """The state that the draft has become; None where nothing is left."""
        if not (self.known or self.gone):
            return None
        return Desk(_bounded(self.known), self.deliveries, tuple(self.digest), self.digest_since, self.gone)

    def alerts_of(self, names: Iterable[str]) -> set[str]:
        """The alerts that these notices are about; none of them has ended."""
        return {content.alert for name in names if (content := self.known[name].content) is not None}


class DeskProcessor:
    """Implements services.core.processor.Processor. Each notice goes to each of the endpoints, given by name.

    `simulated`: the clock on cs.clock is not the wall clock by which results are stamped.
    """

    name = "alerting-desk"
    version = 1
    inputs: tuple[Topic, ...] = (NOTICES,)
    outputs: tuple[Topic, ...] = (ALERTS,)
    _states = States(name, version, Desk, deflated=True)

    def __init__(self, endpoints: Sequence[str], *, simulated: bool = False) -> None:
        self._endpoints = tuple(endpoints)
        self._simulated = simulated

    def empty(self) -> Desk:
        return Desk()

    def decide(self, key: str, state: Desk, batch: Sequence[Fact], context: Context) -> Decision[Desk]:
        draft = _Draft.of(key, self._endpoints, state, context.at)
        fates = [(fact, fate) for fact in batch if (fate := self._take(draft, fact)) is not None]
        _launch(draft)
        desk = draft.desk()
        return Decision(state if desk == state else desk, draft.outputs, fates)

    def due(self, key: str, state: Desk, context: Context) -> Decision[Desk]:
        draft = _Draft.of(key, self._endpoints, state, context.at)
        if draft.digest_since == NEVER:  # collected before the first mark: the minute begins now
            draft.digest_since = context.at
        elif draft.digest_since is not None and draft.digest_since + DIGEST_AFTER <= context.at:
            _close_digest(draft)
        draft.known = {
            name: known for name, known in draft.known.items() if (known.ended or context.at) + KNOWN_KEPT > context.at
        }
        draft.gone = {endpoint: since for endpoint, since in draft.gone.items() if since + GONE_KEPT > context.at}
        _launch(draft)
        return Decision(draft.desk(), draft.outputs)

    def dues(self, state: Desk) -> Sequence[Due]:
        waiting = [one.next_at for one in state.deliveries.values() if one.attempt and not one.sending]
        ended = [known.ended + KNOWN_KEPT for known in state.known.values() if known.ended is not None]
        collecting = [] if state.digest_since is None else [state.digest_since + DIGEST_AFTER]
        gone = [since + GONE_KEPT for since in state.gone.values()]
        wake = min([*waiting, *ended, *collecting, *gone], default=None)
        return [] if wake is None else [Due(wake, CLOCK_ALONE)]

    def outdated(self, _state: Desk, _context: Context) -> bool:
        return False

    def wanted(self, key: str, state: Desk) -> Sequence[Effect]:
        return [
            Effect(f"{name}.{one.attempt}", key, _attempt(key, state, name, one))
            for name, one in state.deliveries.items()
            if one.sending
        ]

    def encode(self, state: Desk) -> bytes:
        return self._states.encode(state)

    def decode(self, raw: bytes, version: int) -> Desk:
        return self._states.decode(raw, version)

    def _take(self, draft: _Draft, fact: Fact) -> Fate | None:
        match fact.event:
            case notices.NoticeDue() as event:
                return _take_notice(draft, event)
            case notices.NoticeCancelled() as event:
                return _take_cancel(draft, event, self._time(draft, event))
            case notices.NoticeDelivered() as event:
                return _take_success(draft, event, self._time(draft, event))
            case notices.NoticeFailed() as event:
                return _take_failure(draft, event, self._time(draft, event))
            case _:
                return Drop(Reason.NOT_CONCERNED)

    def _time(self, draft: _Draft, event: Event) -> Instant:
        """When it happened, on the clock that retries wait for; the clock in effect may be a little behind."""
        if draft.now == NEVER:
            return instant(event.time)
        return draft.now if self._simulated else max(draft.now, instant(event.time))


# -- a notice comes in ---------------------------------------------------------------------------------------------


def heard_before(draft: _Draft, event: notices.NoticeDue) -> Place | None:
    """What was heard before is not said again."""
    return Place.DUPLICATE if event.data.notice in draft.known else None


def crowd(draft: _Draft, _event: notices.NoticeDue) -> Place | None:
    """What one record cannot hold is refused, recorded as failed, and counted."""
    return Place.REFUSED if _waiting(draft) >= WAITING_LIMIT else None


def digest(draft: _Draft, event: notices.NoticeDue) -> Place | None:
    """What is too old to be told singly, and whatever follows of an alert that the digest already speaks of."""
    is_there = bool(draft.digest) and event.data.alert in draft.alerts_of(draft.digest)
    return Place.DIGEST if event.data.digest or is_there else None


def deliver(_draft: _Draft, _event: notices.NoticeDue) -> Place:
    """Everything else goes out at once."""
    return Place.NOW


PIPELINE: tuple[Callable[[_Draft, notices.NoticeDue], Place | None], ...] = (heard_before, crowd, digest, deliver)


def _take_notice(draft: _Draft, event: notices.NoticeDue) -> Fate | None:
    place = next(found for stage in PIPELINE if (found := stage(draft, event)) is not None)
    if place is Place.DUPLICATE:
        return Drop(Reason.DUPLICATE)
    notice = _notice(event)
    draft.known[notice.notice] = Known(notice.transition, notice, draft.endpoints)
    match place:
        case Place.NOW:
            _deliver(draft, notice.notice, draft.endpoints)
        case Place.DIGEST:
            draft.digest.append(notice.notice)
            if draft.digest_since is None:
                draft.digest_since = draft.now
        case Place.REFUSED:
            for endpoint in draft.endpoints:
                refused = Delivery(endpoint, notice.notice, (notice.notice,))
                _end(draft, delivery_id(notice.notice, endpoint), refused, End.TOO_MANY_WAITING, instant(event.time))
    return None


def _take_cancel(draft: _Draft, event: notices.NoticeCancelled, at: Instant) -> Fate | None:
    """Drop what has not gone out; where something has, or may have, the person is told that it is not so."""
    notice = _notice(event)
    if notice.notice in draft.known:
        return Drop(Reason.DUPLICATE)
    earlier = [name for name, one in draft.known.items() if one.transition == notice.transition]
    told = {endpoint for name in earlier for endpoint in _withdraw(draft, name, at)}
    endpoints = tuple(endpoint for endpoint in draft.endpoints if endpoint in told)
    if not endpoints:
        draft.known[notice.notice] = Known(notice.transition, ended=at)
        return Drop(Reason.NOT_CONCERNED)
    draft.known[notice.notice] = Known(notice.transition, notice, endpoints)
    if _waiting(draft) > RETRACTIONS_LIMIT:
        for endpoint in endpoints:
            refused = Delivery(endpoint, notice.notice, (notice.notice,))
            _end(draft, delivery_id(notice.notice, endpoint), refused, End.TOO_MANY_WAITING, at)
    else:
        _deliver(draft, notice.notice, endpoints)
    return None


def _withdraw(draft: _Draft, name: str, at: Instant) -> tuple[str, ...]:
    """Take a notice out of whatever has not gone out; answers the endpoints that have it or may have it."""
    one = draft.known[name]
    left = one.left
    if name in draft.digest:
        draft.digest.remove(name)
        left = ()
        if not draft.digest:
            draft.digest_since = None
    for id, delivery in list(draft.deliveries.items()):
        if delivery.attempt == 0 and name in delivery.notices:
            others = tuple(other for other in delivery.notices if other != name)
            if others:
                draft.deliveries[id] = replace(delivery, notices=others)
            else:
                del draft.deliveries[id]
            left = tuple(other for other in left if other != delivery.endpoint)
    _keep(draft, name, one, left, one.told, at)
    return (*one.told, *left)


def _deliver(draft: _Draft, name: str, endpoints: Iterable[str]) -> None:
    for endpoint in endpoints:
        draft.deliveries[delivery_id(name, endpoint)] = Delivery(endpoint, name, (name,))


def _close_digest(draft: _Draft) -> None:
    """One message to each endpoint with everything collected; it takes its place in the order now."""
    for start in range(0, len(draft.digest), DIGEST_LIMIT):
        contents = tuple(draft.digest[start : start + DIGEST_LIMIT])
        name = digest_of("digest", *contents)
        for notice in contents:  # endpoints may have come and gone since it was collected
            draft.known[notice] = replace(draft.known[notice], left=draft.endpoints)
        for endpoint in draft.endpoints:
            draft.deliveries[delivery_id(name, endpoint)] = Delivery(endpoint, name, contents)
    draft.digest, draft.digest_since = [], None


def _waiting(draft: _Draft) -> int:
    return sum(one.content is not None for one in draft.known.values())


def _notice(event: notices.NoticeDue | notices.NoticeCancelled) -> Notice:
    said = event.data
    return Notice(
        notice=said.notice,
        what=said.what,
        alert=said.alert,
        transition=said.transition,
        stage=said.stage,
        account=said.account,
        handoff=said.handoff,
        kind=said.kind,
        leg=said.leg,
        reason=said.reason,
        policy=said.policy,
        at=instant(event.time),
        due=None if said.due is None else instant(said.due),
        accepted=None if said.accepted is None else instant(said.accepted),
        owner=said.owner,
        owner_name=said.owner_name,
        recipient_name=said.recipient_name,
        account_name=said.account_name,
        amount=said.amount,
        currency=said.currency,
    )


# -- attempts ------------------------------------------------------------------------------------------------------


def _launch(draft: _Draft) -> None:
    """Begin every attempt whose time has come. Of one alert an endpoint hears one thing after the other, in order."""
    busy: set[tuple[str, str]] = set()
    for name, one in list(draft.deliveries.items()):
        if _is_gone(draft, one.endpoint) and not one.sending:
            _end(draft, name, one, End.ENDPOINT_GONE, max(draft.now, draft.gone[one.endpoint]), status=GONE)
            continue
        about = {(one.endpoint, alert) for alert in draft.alerts_of(one.notices)}
        if not one.sending and one.next_at <= max(draft.now, 0) and busy.isdisjoint(about):
            draft.deliveries[name] = replace(one, attempt=one.attempt + 1, sending=True)
        busy |= about


def _take_success(draft: _Draft, event: notices.NoticeDelivered, at: Instant) -> Fate | None:
    said = event.data
    one = draft.deliveries.get(said.delivery)
    if one is None:
        return Drop(Reason.DUPLICATE)
    draft.gone.pop(one.endpoint, None)
    _end(draft, said.delivery, replace(one, attempt=said.attempt), End.DELIVERED, at, status=said.status)
    return None


def _take_failure(draft: _Draft, event: notices.NoticeFailed, at: Instant) -> Fate | None:
    said = event.data
    one = draft.deliveries.get(said.delivery)
    if one is None or not one.sending or said.attempt != one.attempt:
        return Drop(Reason.DUPLICATE)
    if said.status == GONE:
        draft.gone[one.endpoint] = at
        _end(draft, said.delivery, one, End.ENDPOINT_GONE, at, status=said.status)
    elif one.attempt > len(PAUSES):
        _end(draft, said.delivery, one, End.GAVE_UP, at, status=said.status)
    else:
        wait = max(pause(said.delivery, one.attempt), (said.retry_after or 0) * SECOND)
        draft.deliveries[said.delivery] = replace(one, sending=False, next_at=at + wait)
    return None


def pause(delivery: str, attempt: int) -> Instant:
    """How long to wait after a failed attempt: any time up to the plan's, but not less than a tenth or a second.

    The jitter is a function of the delivery and the attempt alone.
    """
    most = PAUSES[attempt - 1]
    least = max(SECOND, most // 10)
    return least + int(digest_of(delivery, str(attempt)), 16) % (most - least + 1)


def _is_gone(draft: _Draft, endpoint: str) -> bool:
    return endpoint in draft.gone and draft.now < draft.gone[endpoint] + GONE_KEPT


def _end(draft: _Draft, name: str, one: Delivery, end: End, at: Instant, *, status: int | None = None) -> None:
    """A delivery has ended: say so of each of its notices, under its account."""
    draft.deliveries.pop(name, None)
    for notice in one.notices:
        about = draft.known[notice]
        assert about.content is not None  # noqa: S101  # it stands until the last endpoint is through
        draft.outputs.append(_audit(draft.recipient, name, one, about.content, end, at, status))
        told = (*about.told, one.endpoint) if one.attempt else about.told
        _keep(draft, notice, about, tuple(other for other in about.left if other != one.endpoint), told, at)


def _keep(draft: _Draft, name: str, one: Known, left: tuple[str, ...], told: tuple[str, ...], at: Instant) -> None:
    is_over = not left
    draft.known[name] = replace(
        one, left=left, told=told, content=None if is_over else one.content, ended=at if is_over else None
    )


def _audit(
    recipient: str, name: str, one: Delivery, notice: Notice, end: End, at: Instant, status: int | None
) -> Output:
    kind = alerts.AlertDelivered if end is End.DELIVERED else alerts.AlertFailed
    data = alerts.Delivery(
        alert=notice.alert,
        notice=notice.notice,
        delivery=name,
        recipient=recipient,
        endpoint=one.endpoint,
        attempt=max(one.attempt, 1),
        status=status,
        reason=end.value,
    )
    id = digest_of(name, notice.notice, end.value)
    account = notice.account
    return Output(ALERTS, kind(id=id, source=SOURCE, subject=account, partitionkey=account, time=moment(at), data=data))


def _attempt(key: str, desk: Desk, name: str, one: Delivery) -> Attempt:
    contents = (desk.known[notice].content for notice in one.notices)
    told = tuple(content for content in contents if content is not None)
    return Attempt(name, one.attempt, one.endpoint, key, one.name, one.name not in one.notices, told)


def _bounded(known: dict[str, Known]) -> dict[str, Known]:
    """Without the memory longest ended of a recipient who is told more than one record can remember."""
    excess = len(known) - KNOWN_LIMIT
    if excess <= 0:
        return known
    ended = sorted((one.ended, name) for name, one in known.items() if one.ended is not None)
    forgotten = {name for _, name in ended[:excess]}
    return {name: one for name, one in known.items() if name not in forgotten}
