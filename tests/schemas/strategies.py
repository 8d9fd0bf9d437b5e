"""Hypothesis strategies: any event of each type, as its models allow it, and any JSON."""

from datetime import UTC, timedelta, timezone
from typing import Any, get_args

from hypothesis import strategies as st

from schemas import (
    accounts,
    alerts,
    clock,
    findings,
    handoffs,
    identity,
    notices,
    ownership,
    policies,
    renewals,
    sources,
)
from schemas.envelope import EARLIEST, LATEST, Event

ids = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, range(32)))), min_size=1, max_size=200
)
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)
lines = st.text(max_size=500)
counts = st.integers(min_value=0, max_value=1 << 62)
numbers = st.integers(min_value=1, max_value=1 << 31)
ranks = st.integers(min_value=0, max_value=1000)
# Offsets as they stand in JSON: whole minutes, fixed. Summer time has no place in a record.
offsets = st.integers(min_value=-14 * 60, max_value=14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
spans = st.timedeltas(timedelta(0), LATEST - EARLIEST - timedelta(microseconds=1))
times = st.builds(lambda span, zone: (EARLIEST + span).astimezone(zone), spans, st.just(UTC) | offsets)

clocks = st.from_regex(r"[0-9]{1,2}:[0-9]{2}", fullmatch=True)
homes = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}:[a-z0-9_-]{1,20}:[^\x00-\x1f]{1,80}", fullmatch=True)
amounts = st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,4})?", fullmatch=True)
currencies = st.from_regex(r"[A-Z]{3}", fullmatch=True)
states = st.sampled_from(get_args(handoffs.State))
stages = st.sampled_from(get_args(handoffs.Stage))

calendar_rules = st.builds(
    policies.CalendarRule,
    zone=lines,
    week=st.dictionaries(lines, st.lists(st.tuples(clocks, clocks), max_size=3).map(tuple), max_size=3),
    holidays=st.lists(lines, max_size=3).map(tuple),
)


@st.composite
def policy(draw: st.DrawFn) -> policies.Policy:
    """A policy whose legs name calendars that exist, and its people managers."""
    calendars = draw(st.dictionaries(names, calendar_rules, min_size=1, max_size=3))
    known = st.sampled_from(sorted(calendars))
    leg = st.builds(
        policies.LegRule,
        hours=st.floats(min_value=0, exclude_min=True, max_value=2000),
        accountable=st.sampled_from(["owner", "sender"]),
        calendar=st.none() | known,
    )
    kind = st.builds(policies.KindRule, legs=st.dictionaries(names, leg, min_size=1, max_size=3))
    people = draw(st.lists(ids, max_size=3, unique=True))
    manager = st.none() | st.sampled_from(people) if people else st.none()
    person = st.builds(policies.PersonRule, name=st.none() | lines, manager=manager)
    return policies.Policy(
        version=draw(numbers),
        owner=draw(st.text(min_size=1, max_size=500)),
        calendar=draw(known),
        calendars=calendars,
        handoffs=draw(st.dictionaries(names, kind, min_size=1, max_size=3)),
        people={one: draw(person) for one in people},
        alerts=draw(
            st.builds(
                policies.AlertRules,
                fallback=ids,
                max_age_hours=st.floats(min_value=0, exclude_min=True, max_value=720),
            )
        ),
    )


@st.composite
def win(draw: st.DrawFn) -> renewals.Won:
    """A deal won, with amount and currency or neither."""
    amount = draw(st.none() | amounts)
    return renewals.Won(
        home=draw(homes),
        amount=amount,
        currency=None if amount is None else draw(currencies),
        seller=draw(st.none() | ids),
        owner=draw(st.none() | ids),
    )


legs = st.builds(handoffs.Leg, leg=names, due=st.none() | times, calendar=ids)
said = {
    "handoff": ids,
    "kind": names,
    "leg": names,
    "alert": ids,
    "transition": ids,
    "n": numbers,
    "correction": counts,
    "due": st.none() | times,
    "accepted": st.none() | times,
    "owner": st.none() | ids,
    "policy": numbers,
}

DATA: dict[object, st.SearchStrategy[Any]] = {
    accounts.AccountRecord: st.builds(accounts.AccountRecord, name=st.none() | lines),
    identity.Mapping: st.builds(identity.Mapping, home=homes, account=ids),
    sources.Registration: st.builds(
        sources.Registration,
        source=names,
        rank=ranks,
        role=st.none() | lines,
        heartbeat=st.none() | st.integers(min_value=1, max_value=3600),
        grace=st.integers(min_value=0, max_value=3600),
    ),
    sources.Sighting: st.builds(sources.Sighting, source=names),
    sources.Progress: st.builds(
        sources.Progress,
        source=names,
        run=ids,
        file=lines,
        sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        facts=counts,
        sent=counts,
        through=st.none() | times,
    ),
    ownership.Opening: st.builds(
        ownership.Opening, handoff=ids, kind=names, owner=st.none() | ids, sender=st.none() | ids
    ),
    ownership.Acceptance: st.builds(ownership.Acceptance, handoff=ids, owner=st.none() | ids),
    ownership.Pause: st.builds(ownership.Pause, handoff=ids, reason=st.sampled_from(get_args(ownership.PauseReason))),
    ownership.Step: st.builds(ownership.Step, handoff=ids, note=st.none() | lines),
    clock.Mark: st.builds(
        clock.Mark,
        at=times,
        safe=times,
        held_until=st.none() | times,
        promises=st.dictionaries(ids, times, max_size=3),
        closed=st.dictionaries(ids, times, max_size=3),
        stalled=st.lists(ids, max_size=3).map(tuple),
        silent=st.lists(ids, max_size=3).map(tuple),
        ends=st.dictionaries(ids, counts, max_size=3),
        tables=st.dictionaries(ids, st.lists(counts, max_size=3).map(tuple), max_size=3),
        writer=ids,
        simulated=st.booleans(),
    ),
    policies.Publication: st.builds(policies.Publication, policy=policy()),
    policies.Activation: st.builds(policies.Activation, version=numbers, at=times),
    handoffs.Handoff: st.builds(
        handoffs.Handoff,
        handoff=ids,
        kind=names,
        state=states,
        owner=st.none() | ids,
        sender=st.none() | ids,
        opened=times,
        accepted=st.none() | times,
        legs=st.lists(legs, max_size=3).map(tuple),
        policy=numbers,
    ),
    handoffs.Verdict: st.builds(handoffs.Verdict, **said),
    handoffs.Retraction: st.builds(handoffs.Retraction, **said, stage=stages, reason=lines),
    renewals.Won: win(),
    renewals.Value: st.builds(renewals.Value, home=homes, amount=amounts, currency=currencies),
    findings.Finding: st.builds(
        findings.Finding,
        kind=st.sampled_from(get_args(findings.Kind)),
        about=ids,
        count=counts,
        since=times,
        text=lines,
    ),
    alerts.Alert: st.builds(
        alerts.Alert,
        alert=ids,
        transition=ids,
        correction=counts,
        stage=stages,
        handoff=ids,
        kind=names,
        leg=names,
        due=st.none() | times,
        accepted=st.none() | times,
        owner=st.none() | ids,
        recipients=st.lists(ids, max_size=3).map(tuple),
        reason=lines,
        policy=numbers,
    ),
    alerts.Delivery: st.builds(
        alerts.Delivery,
        alert=ids,
        notice=ids,
        delivery=ids,
        recipient=ids,
        endpoint=names,
        attempt=numbers,
        status=st.none() | counts,
        reason=lines,
    ),
    notices.Notice: st.builds(
        notices.Notice,
        notice=ids,
        what=st.sampled_from(get_args(notices.What)),
        alert=ids,
        transition=ids,
        stage=stages,
        account=ids,
        account_name=st.none() | lines,
        amount=st.none() | amounts,
        currency=st.none() | currencies,
        handoff=ids,
        kind=names,
        leg=names,
        due=st.none() | times,
        accepted=st.none() | times,
        owner=st.none() | ids,
        owner_name=st.none() | lines,
        recipient=ids,
        recipient_name=st.none() | lines,
        reason=lines,
        digest=st.booleans(),
        policy=numbers,
    ),
    notices.Result: st.builds(
        notices.Result,
        delivery=ids,
        notice=ids,
        endpoint=names,
        attempt=numbers,
        status=st.none() | counts,
        retry_after=st.none() | counts,
        message=lines,
    ),
}


def events(kind: type[Event]) -> st.SearchStrategy[Event]:
    """Any event of this type."""
    return st.builds(
        kind,
        id=ids,
        source=ids,
        subject=ids,
        time=times,
        partitionkey=ids,
        receivedat=st.none() | times,
        run=st.none() | ids,
        sourcerank=ranks,
        traceparent=st.none() | lines,
        data=DATA[kind.model_fields["data"].annotation],
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
