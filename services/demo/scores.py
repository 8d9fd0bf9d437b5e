"""What must become of scores in the live days, worked out from the policy, and whether the topics say it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from schemas import codec
from schemas.handoffs import Handoff, Verdict
from schemas.health import Band, CapCode, Cause, Change, HealthChanged, HealthClosed
from schemas.policies import CapRules
from schemas.topics import HANDOFFS, HEALTH_CHANGES, Topic
from services.board.words import tenths
from services.core.instants import DAY, HOUR, MINUTE, SECOND, Instant, instant
from services.demo.company import DESK, FADING, TROUBLED, Agreement, Company, companies, customer
from services.demo.contacts import TICKET_OPENED
from services.demo.effects import GRACE, Outcome
from services.demo.fading import tale
from services.demo.story import CREATED, NEWCOMER, Live, Post, ends, live, ticket_posts
from services.ingest.model import account_of

TOPICS: tuple[Topic, ...] = (HEALTH_CHANGES, HANDOFFS)
EXACT = 2 * SECOND  # by so much two calculations of the same instant may differ
WORDS: Mapping[Band, str] = {"green": "green", "yellow": "yellow", "red": "red", "na": "provisional"}

Fact = tuple[str, str]  # source and id


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of an account's score that must come. `cause` is the simulated instant that brings it about.

    It is told by the band (`before`, `after`) or by the cap that began or ended. Besides, it must say why (`why`), name
    a fact behind it (`fact`, or any of `handoff`; neither: none at all), and have happened `at`, where that is known.
    """

    name: str
    sentence: str
    cause: Instant
    company: Company
    before: Band | None = None
    after: Band | None = None
    began: CapCode | None = None
    ended: CapCode | None = None
    why: Cause | None = None
    fact: Fact | None = None
    handoff: str | None = None
    at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Turned:
    """A change as the topic has it: whose, when in simulated time, and when it was read by the wall clock."""

    account: str
    at: Instant
    read: Instant
    change: Change

    def is_that(self, turn: Turn) -> bool:
        """Whatever else it says."""
        if self.account != account_of(turn.company.home):
            return False
        if turn.after is not None:
            return (self.change.before, self.change.after) == (turn.before, turn.after)
        return turn.began in self.change.caps_began or turn.ended in self.change.caps_ended


@dataclass(slots=True)
class Scores:
    """What the topics said so far; changes before `since` belong to the past.

    `closed`: per account the band at the last end of a day, and when. `told`: ids of what was said of each handoff.
    """

    since: Instant
    changes: list[Turned] = field(default_factory=list)
    past: list[Turned] = field(default_factory=list)
    closed: dict[str, tuple[Instant, Band]] = field(default_factory=dict)
    told: dict[str, set[Fact]] = field(default_factory=dict)

    def take(self, topic: str, value: bytes, read: Instant) -> None:
        """Take in a record of one of TOPICS."""
        event = codec.decode(HANDOFFS if topic == HANDOFFS.name else HEALTH_CHANGES, value)
        at = instant(event.time)
        match event:
            case HealthChanged():
                turned = Turned(event.subject, at, read, event.data)
                (self.changes if at >= self.since else self.past).append(turned)
            case HealthClosed():
                self.closed[event.subject] = at, event.data.band
            case _ if isinstance(event.data, Handoff | Verdict):
                self.told.setdefault(event.data.handoff, set()).add((event.source, event.id))
            case _:
                pass

    def first(self, turn: Turn) -> Turned | None:
        """The change that a turn asks for."""
        return next((turned for turned in self.changes if turned.is_that(turn)), None)

    def standing(self, turn: Turn) -> Turned | None:
        """The last change of an account."""
        account = account_of(turn.company.home)
        return next((turned for turned in reversed(self.changes) if turned.account == account), None)


# -- what must come ----------------------------------------------------------------------------------------------------


def expected(agreed: Agreement) -> list[Turn]:
    """Every turn of the live days that the policy tells, in order of their causes."""
    if agreed.health is None:
        return []
    caps = agreed.health.caps
    breaches = (turn for one in live(agreed) for turn in _breach(agreed, one)) if caps.handoff_breach else ()
    found = [*breaches, *_ticket(agreed, caps), *_newcomer(agreed, agreed.health.provisional.days), *_fall(agreed)]
    return sorted(found, key=lambda turn: turn.cause)


def untold(agreed: Agreement) -> str:
    """What this policy cannot show, in a sentence; nothing where it shows everything."""
    if agreed.health is None:
        return "This policy has no rules of health, so nothing is scored."
    if tale(agreed) is None:
        return f"By this policy no silence takes a band away in one night, so {FADING} shows none."
    return ""


def _breach(agreed: Agreement, one: Live) -> Iterator[Turn]:
    """The cap that a breach puts on an account, and its end with the acceptance."""
    sale, name = one.sale, one.sale.company.name
    heard = ends(agreed) if one.heard is None else one.heard
    due = agreed.calendar.add(sale.won, agreed.target)
    if due + GRACE >= min(heard, ends(agreed)):
        return
    code: CapCode = "HANDOFF_BREACH"
    slug, company, handoff = f"{_slug(name)}-breach-cap", sale.company, sale.handoff
    said = f"the breach caps the score of {name}"
    yield Turn(slug, said, due + GRACE, company, began=code, why="cap", handoff=handoff)
    if one.heard is not None and sale.accepted is not None:
        how = "taken back" if sale.accepted <= due else "over"
        said = f"the cap of {name} ends, as the breach is {how}"
        yield Turn(f"{slug}-ends", said, one.heard, company, ended=code, why="cap", handoff=handoff)


def _ticket(agreed: Agreement, caps: CapRules) -> Iterator[Turn]:
    """The ticket that is found to be of severity 1 when it has been open for longer than that may be."""
    raised, solved = ticket_posts(agreed)
    rule = caps.sev1_open
    if rule is None or agreed.eve - TICKET_OPENED + rule.after_hours * HOUR > raised.at:
        return
    company, slug = customer(TROUBLED), f"{_slug(TROUBLED)}-ticket-cap"
    code: CapCode = "SEV1_OPEN"
    said = f"a ticket of {TROUBLED}, open for days, caps its score as soon as it is of severity 1"
    yield Turn(slug, said, raised.at, company, began=code, why="cap", fact=_fact(raised))
    said = f"the cap of {TROUBLED} ends with the ticket"
    yield Turn(f"{slug}-ends", said, solved.at, company, ended=code, why="cap", fact=_fact(solved))


def _fact(post: Post) -> Fact:
    return DESK, str(post.request.items[0]["id"])


def _newcomer(agreed: Agreement, days: float) -> Iterator[Turn]:
    created = agreed.at(CREATED) // SECOND * SECOND
    if created + days * DAY > ends(agreed):
        sentence = f"the score of {NEWCOMER.name}, a customer created a moment ago, is provisional and stays so"
        yield Turn(f"{_slug(NEWCOMER.name)}-provisional", sentence, created, NEWCOMER, after="na", why="events")


def _fall(agreed: Agreement) -> Iterator[Turn]:
    told = tale(agreed)
    if told is None:
        return
    fall = told.fall
    sentence = (
        f"{FADING}, of whom nothing was heard, falls from {WORDS[fall.before]} to {WORDS[fall.after]} "
        f"at {agreed.local(fall.at):%a %H:%M:%S}, without any event"
    )
    company = customer(FADING)
    # A minute later: two calculations of an instant may differ by a moment.
    yield Turn(
        f"{_slug(FADING)}-falls",
        sentence,
        fall.at + MINUTE,
        company,
        before=fall.before,
        after=fall.after,
        why="decay",
        at=fall.at,
    )


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


# -- whether it came ---------------------------------------------------------------------------------------------------


def judged(turns: Sequence[Turn], scores: Scores, caused: Mapping[Instant, Instant]) -> list[Outcome]:
    """Each turn by what stands in the topics; `caused`: cause → wall time at which it was brought about."""
    return [_outcome(turn, scores, caused.get(turn.cause)) for turn in turns]


def _outcome(turn: Turn, scores: Scores, caused: Instant | None) -> Outcome:
    turned = scores.first(turn)
    if turned is None:
        return Outcome(turn.name, turn.sentence, seen=False)
    took = None if caused is None else max(0.0, (turned.read - caused) / SECOND)
    if wrong := _wrong(turn, turned, scores):
        return Outcome(turn.name, f"{turn.sentence}; it came, but {wrong}", seen=False, seconds=took)
    return Outcome(turn.name, turn.sentence, seen=True, seconds=took)


def _wrong(turn: Turn, turned: Turned, scores: Scores) -> str:
    """What the change says otherwise than it should; nothing when it is right."""
    change = turned.change
    named = {(one.source, one.id) for one in change.evidence}
    if turn.why is not None and change.cause != turn.why:
        return f"its cause was {change.cause} instead of {turn.why}"
    if turn.at is not None and abs(turned.at - turn.at) > EXACT:
        return f"its time was {(turned.at - turn.at) / SECOND:+.0f} s off"
    if turn.fact is not None and turn.fact not in named:
        return f"it does not name the fact {turn.fact[1]} of {turn.fact[0]}"
    if turn.handoff is not None and not named & scores.told.get(turn.handoff, set()):
        return f"it names nothing that was said of {turn.handoff}"
    if turn.why == "decay" and named:
        return f"it names {len(named)} facts, and there was none"
    last = scores.standing(turn)
    if turn.after is not None and last is not None and last.change.after != turn.after:
        return f"at the end it is {WORDS[last.change.after]}"
    return ""


def told(change: Change) -> str:
    """A change in words."""
    number = tenths(change.score)
    if change.before is None:
        return f"its first score is {number}, {WORDS[change.after]}"
    if change.before != change.after:
        return f"{WORDS[change.before]} -> {WORDS[change.after]}, score {number}; {change.reason}"
    return f"score {number}; {change.reason}"


# -- the weekend -------------------------------------------------------------------------------------------------------


def closed(scores: Scores, morning: Instant) -> tuple[int, int]:
    """How many customers of the history were scored at the last end of a day before, and how many provisionally."""
    known = {account_of(company.home) for company in companies()}
    bands = [
        band for account, (at, band) in scores.closed.items() if account in known and morning - DAY < at <= morning
    ]
    return len(bands), bands.count("na")


def fallen(changes: Iterable[Turned]) -> int:
    """How many of these changes took a band away by nothing but time."""
    order: tuple[Band, ...] = ("green", "yellow", "red")
    return sum(
        turned.change.cause == "decay"
        and turned.change.before in order
        and turned.change.after in order
        and order.index(turned.change.after) > order.index(turned.change.before)
        for turned in changes
    )
