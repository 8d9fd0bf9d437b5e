"""The verbs: take facts of a handoff in, and say what has become true that was not published, or false that was.

verdict = fold(facts) at the time its clock has reached; outputs = verdict - ledger, retractions included.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from schemas.envelope import Event
from services.core.instants import DAY, Instant
from services.handoff.doubt import Silence
from services.handoff.machine import Clock, clocks, fold
from services.handoff.model import SUSPECTED, Entry, Handoff, Happening, Stage, What
from services.handoff.policy import Rules
from services.handoff.writing import Writer

NOT_RAISED = Entry(0, raised=False, correction=0, due=None)
FACTS_LIMIT = 200
MAX_LATENESS = 60 * DAY
SUMMARY_KEPT = 400 * DAY
_OPENED, _MET = What.OPENED, Stage.MET  # for what runs often: to get a member from its class is slow


def with_fact(handoff: Handoff, fact: Happening, arrived: Instant) -> Handoff | None:
    """The handoff with the fact in its place; None when it is a duplicate or one too many."""
    if is_known(handoff, fact) or len(handoff.facts) >= FACTS_LIMIT:
        return None
    facts = tuple(sorted((*handoff.facts, fact), key=lambda known: known.order))
    return replace(handoff, facts=facts, arrived=max(handoff.arrived, arrived))


def is_known(handoff: Handoff, fact: Happening) -> bool:
    """Has this fact, by source and id, been taken in before?"""
    return any(known.id == fact.id and known.source == fact.source for known in handoff.facts)


def opening(handoff: Handoff) -> Happening | None:
    """The opening that counts, where there is one."""
    for fact in handoff.facts:
        if fact.what is _OPENED:
            return fact
    return None


def settle(account: str, name: str, handoff: Handoff, rules: Rules, silence: Silence) -> tuple[Handoff, list[Event]]:
    """The handoff with its ledger brought up to what silence is worth, and the events that say what changed."""
    # Silence once believed stays believed, also when an earlier opening makes another run the one that counts.
    reached = max(silence.reached, handoff.reached)
    view = fold(handoff.facts)
    if view is None:
        return replace(handoff, wake=handoff.arrived + MAX_LATENESS, run=None), []
    running = clocks(view, rules.legs)
    writer = Writer(account, name, handoff, view, rules.version)
    ledger = dict(handoff.ledger)
    events = [
        *_verdicts(writer, running, ledger, reached),
        *_suspicions(writer, running, ledger, silence, handoff.ledger),
        *_orphans(writer, rules, ledger),
    ]
    # Whatever has been reached stands as raised by now.
    pending = [at for clock in running for at in clock.read_from_silence if at is not None and at > reached]
    suspected = [clock.due for clock in running if ledger.get(clock.leg.suspected, NOT_RAISED).raised]
    settled = not pending
    # Where a breach is out and not confirmed, its source may be back and still have to tell up to the due time.
    pending += [due for due in suspected if due > silence.reached]
    last = handoff.facts[-1].at
    # What nobody ever took is waited for longer: its acceptance may still come.
    patience = SUMMARY_KEPT if view.stopped is None else MAX_LATENESS
    wake = min(pending, default=max(last, handoff.arrived) + patience)
    shown, changed = writer.state(running)
    is_doubted = bool(suspected) or not settled
    changed_handoff = replace(
        handoff,
        ledger=ledger,
        wake=wake,
        run=None if settled else view.opening.run,
        settled=settled and not pending,
        reached=reached,
        shown=shown,
        doubt=silence.unheard if is_doubted else (),
        suspect=_next_suspicion(running, silence),
    )
    return changed_handoff, [*([changed] if changed else []), *events]


def folded(handoff: Handoff) -> Handoff:
    """Without its facts: too old for a late fact to count; the ledger stays to know what was published."""
    return replace(handoff, facts=(), folded=True, run=None, wake=(handoff.wake or 0) + SUMMARY_KEPT - MAX_LATENESS)


def _verdicts(writer: Writer, running: Sequence[Clock], ledger: dict[str, Entry], reached: Instant) -> Iterator[Event]:
    for clock in running:
        for (stage, place), at in zip(clock.leg.places, clock.reached, strict=True):
            entry = ledger.get(place, NOT_RAISED)
            # Acceptance is a fact and needs no silence to be believed; the other stages are read from silence.
            if at is not None and (at <= reached or stage is _MET):
                said = _said(entry, clock.due)
                if said is not entry:
                    ledger[place] = said
                    yield writer.verdict(clock, stage, said, at)
            elif entry.raised:
                ledger[place] = replace(entry, raised=False)
                yield writer.retraction(clock, stage, entry)


def _orphans(writer: Writer, rules: Rules, ledger: dict[str, Entry]) -> Iterator[Event]:
    """Take back what was published of legs that the handoff's rules do not have (any more)."""
    for place in [place for place in ledger if place not in rules.places]:
        entry = ledger[place]
        if entry.raised:
            ledger[place] = replace(entry, raised=False)
            leg, _, stage = place.rpartition("/")
            if stage == SUSPECTED:
                yield writer.exoneration(leg, entry, None)
            else:
                yield writer.orphan(leg, Stage(stage), entry)


def _suspicions(
    writer: Writer, running: Sequence[Clock], ledger: dict[str, Entry], silence: Silence, before: dict[str, Entry]
) -> Iterator[Event]:
    for clock in running:
        place, due = clock.leg.suspected, clock.breached
        entry = ledger.get(place, NOT_RAISED)
        if not entry.raised and not silence.unheard:
            continue  # no suspicion stands, and none can arise
        breach = before.get(f"{clock.leg.name}/{Stage.BREACHED}", NOT_RAISED)
        if due is not None and _is_suspected(entry, breach, due, silence):
            said = _said(entry, due)
            if said is not entry:
                ledger[place] = said
                yield writer.suspicion(clock, said, silence.unheard)
        elif entry.raised:
            ledger[place] = replace(entry, raised=False)
            if due is not None and due <= silence.reached and not silence.doubts(due):
                yield writer.confirmation(clock, entry)
            else:
                yield writer.exoneration(clock.leg.name, entry, clock)


def _is_suspected(entry: Entry, breach: Entry, due: Instant, silence: Silence) -> bool:
    """Once raised it stands until everybody is heard again and has told up to the due time.

    A breach that was published while everybody was heard is never doubted again.
    """
    if entry.raised and entry.due == due:
        return bool(silence.unheard) or due > silence.reached
    is_sure = breach.raised and breach.due == due and not entry.raised
    return not is_sure and silence.doubts(due) and due <= silence.presumed


def _next_suspicion(running: Sequence[Clock], silence: Silence) -> Instant | None:
    if not silence.unheard:
        return None
    dues = [clock.breached for clock in running if clock.breached is not None]
    return min([due for due in dues if silence.doubts(due) and due > silence.presumed], default=None)


def _said(entry: Entry, due: Instant) -> Entry:
    """The entry once a stage that is true has been published: raised, corrected, or as it was."""
    if not entry.raised:
        return Entry(entry.n + 1, raised=True, correction=0, due=due)
    if entry.due != due:
        return replace(entry, due=due, correction=entry.correction + 1)
    return entry
