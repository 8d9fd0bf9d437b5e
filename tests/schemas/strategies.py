"""Hypothesis strategies: any event of each type, as its models allow it, and any JSON."""

from datetime import UTC, timedelta, timezone
from itertools import pairwise
from typing import Any, get_args

from hypothesis import strategies as st

from schemas import (
    accounts,
    alerts,
    clock,
    findings,
    handoffs,
    health,
    identity,
    interactions,
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
severities = st.integers(min_value=1, max_value=4)
finite = st.floats(allow_nan=False, allow_infinity=False)
shares = st.floats(min_value=0, max_value=1)
limits = st.floats(min_value=0, max_value=100)
hours = st.floats(min_value=0, exclude_min=True, max_value=2000)
days = st.floats(min_value=1, max_value=3650)
scores = st.integers(min_value=0, max_value=100_000)
points = st.integers(min_value=-100_000, max_value=100_000)
signals = st.sampled_from(get_args(policies.SignalName))
bands = st.sampled_from(get_args(health.Band))
codes = st.lists(st.sampled_from(get_args(health.CapCode)), max_size=3).map(tuple)

calendar_rules = st.builds(
    policies.CalendarRule,
    zone=lines,
    week=st.dictionaries(lines, st.lists(st.tuples(clocks, clocks), max_size=3).map(tuple), max_size=3),
    holidays=st.lists(lines, max_size=3).map(tuple),
)


# Anchors that rise in x.
curves = st.lists(finite, min_size=1, max_size=4, unique=True).flatmap(
    lambda xs: st.tuples(*(st.tuples(st.just(x), limits) for x in sorted(xs)))
)
positive = st.floats(min_value=0, exclude_min=True, max_value=1000)
silences = st.builds(
    policies.SilenceRule,
    days=days,
    r=positive,
    alpha=positive,
    a=positive,
    b=st.floats(min_value=1, exclude_min=True, max_value=1000),
)
trends = st.builds(
    policies.TrendRule,
    short_days=st.floats(min_value=7, max_value=30),
    long_days=st.floats(min_value=30, exclude_min=True, max_value=3650),
    floor=st.floats(min_value=0, exclude_min=True, max_value=1),
    least=shares,
)
cap_rules = st.builds(
    policies.CapRules,
    sev1_open=st.none() | st.builds(policies.Sev1Cap, limit=limits, after_hours=hours),
    no_owner=st.none() | st.builds(policies.OwnerCap, limit=limits, after_working_hours=hours),
    handoff_breach=st.none() | st.builds(policies.CapRule, limit=limits),
    weak_link=st.none() | st.builds(policies.WeakLinkCap, limit=limits, weight=limits, trust=shares, below=limits),
    thin_data=st.none() | st.builds(policies.ThinDataCap, limit=limits, coverage=shares),
    narrow=st.none() | st.builds(policies.CapRule, limit=limits),
)


@st.composite
def band_rules(draw: st.DrawFn) -> policies.BandRules:
    """When the band follows the score, yellow below green."""
    yellow, green = sorted(draw(st.lists(limits, min_size=2, max_size=2, unique=True)))
    return policies.BandRules(
        green=green,
        yellow=yellow,
        down_margin=draw(limits),
        down_hours=draw(hours),
        fall=draw(limits),
        fall_hours=draw(hours),
        up_margin=draw(limits),
        up_hours=draw(hours),
    )


@st.composite
def profile_rules(draw: st.DrawFn, groups: list[str]) -> policies.ProfileRule:
    """Weights of some of the groups, together 100."""
    chosen = draw(st.lists(st.sampled_from(groups), min_size=1, unique=True))
    cuts = draw(st.sets(st.integers(1, 99), min_size=len(chosen) - 1, max_size=len(chosen) - 1))
    edges = [0, *sorted(cuts), 100]
    weights = {name: float(after - before) for name, (before, after) in zip(chosen, pairwise(edges), strict=True)}
    return policies.ProfileRule(groups=weights, narrow=draw(st.booleans()))


@st.composite
def health_rules(draw: st.DrawFn) -> policies.HealthRules:
    """Rules whose names exist, with a curve for all that is measured."""
    listed = draw(st.lists(signals, min_size=1, max_size=6, unique=True))
    titles = draw(st.lists(names, min_size=1, max_size=len(listed), unique=True))
    groups = {name: tuple(listed[number :: len(titles)]) for number, name in enumerate(titles)}
    profiles = draw(st.dictionaries(names, profile_rules(titles), min_size=1, max_size=2))
    known, fed = st.sampled_from(sorted(profiles)), st.lists(st.sampled_from(titles), max_size=2).map(tuple)
    rules = draw(st.lists(st.builds(policies.ResolveRule, profile=known, fed=fed), max_size=2))
    return policies.HealthRules(
        prior=draw(limits),
        meaningful=tuple(draw(st.lists(st.sampled_from(get_args(policies.MeaningfulType)), min_size=1, max_size=4))),
        owner_role=draw(names),
        silence=draw(silences),
        trend=draw(trends),
        breadth_days=draw(days),
        severity_weights=draw(st.tuples(limits, limits, limits, limits)),
        handoff_scores=draw(st.tuples(limits, limits, limits)),
        curves={name: draw(curves) for name in listed if name in policies.MEASURED},
        groups=groups,
        profiles=profiles,
        resolve=(*rules, policies.ResolveRule(profile=draw(known))),
        bands=draw(band_rules()),
        provisional=policies.ProvisionalRule(coverage=draw(shares), days=draw(st.floats(0, 365))),
        caps=draw(cap_rules),
    )


@st.composite
def policy(draw: st.DrawFn) -> policies.Policy:
    """A policy whose legs name calendars that exist, and its people managers."""
    calendars = draw(st.dictionaries(names, calendar_rules, min_size=1, max_size=3))
    known = st.sampled_from(sorted(calendars))
    leg = st.builds(
        policies.LegRule,
        hours=hours,
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
        health=draw(st.none() | health_rules()),
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


@st.composite
def purchase(draw: st.DrawFn) -> interactions.Purchase:
    """A purchase, with amount and currency or neither."""
    amount = draw(st.none() | amounts)
    currency = None if amount is None else draw(currencies)
    return interactions.Purchase(order=draw(st.none() | ids), amount=amount, currency=currency)


evidence = st.lists(st.builds(health.Evidence, source=ids, id=ids, at=times), max_size=8).map(tuple)
contributions = st.builds(
    health.Contribution,
    signal=names,
    group=names,
    weight=shares,
    value=st.none() | finite,
    score=st.none() | limits,
    trust=shares,
    points=points,
    at=st.none() | times,
    evidence=evidence,
    missing=st.none() | lines,
)
caps = st.builds(
    health.Cap,
    code=st.sampled_from(get_args(health.CapCode)),
    limit=scores,
    since=times,
    reason=lines,
    evidence=evidence,
)
scored = st.builds(
    health.Scored,
    score=scores,
    raw=scores,
    prior=scores,
    band=bands,
    colour=st.sampled_from(get_args(health.Colour)),
    since=times,
    unsure=st.lists(lines, max_size=2).map(tuple),
    coverage=shares,
    contributions=st.lists(contributions, max_size=3).map(tuple),
    caps=st.lists(caps, max_size=2).map(tuple),
    profile=names,
    profile_reason=lines,
    trend=st.none() | finite,
    as_of=times,
    oldest_input=st.none() | times,
    outlook=st.none() | st.builds(health.Outlook, band=bands, at=times),
    policy=numbers,
)
changes = st.builds(
    health.Change,
    n=numbers,
    before=st.none() | bands,
    after=bands,
    score_before=st.none() | scores,
    score=scores,
    cause=st.sampled_from(get_args(health.Cause)),
    reason=lines,
    evidence=evidence,
    deltas=st.lists(st.builds(health.Delta, signal=names, points=points), max_size=3).map(tuple),
    cap_effect_before=st.none() | points,
    cap_effect=points,
    caps_began=codes,
    caps_ended=codes,
    policy=numbers,
)
closings = st.builds(
    health.Closing,
    day=st.dates().map(str),
    score=scores,
    band=bands,
    coverage=shares,
    points=st.dictionaries(names, points, max_size=3),
    policy=numbers,
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
    ownership.Assignment: st.builds(ownership.Assignment, role=names, owner=ids),
    ownership.Removal: st.builds(ownership.Removal, role=names, owner=st.none() | ids),
    interactions.Interaction: st.builds(
        interactions.Interaction,
        channel=st.sampled_from(get_args(interactions.Channel)),
        direction=st.sampled_from(get_args(interactions.Direction)),
        contact=st.none() | ids,
        person=st.none() | ids,
    ),
    interactions.Purchase: purchase(),
    interactions.Ticket: st.builds(interactions.Ticket, ticket=ids, severity=severities, contact=st.none() | ids),
    interactions.TicketUpdate: st.builds(interactions.TicketUpdate, ticket=ids, severity=st.none() | severities),
    interactions.Solution: st.builds(interactions.Solution, ticket=ids),
    health.Scored: scored,
    health.Change: changes,
    health.Closing: closings,
    clock.Mark: st.builds(
        clock.Mark,
        at=times,
        safe=times,
        held_until=st.none() | times,
        promises=st.dictionaries(ids, times, max_size=3),
        closed=st.dictionaries(ids, times, max_size=3),
        stalled=st.lists(ids, max_size=3).map(tuple),
        silent=st.lists(ids, max_size=3).map(tuple),
        heard=st.dictionaries(ids, times, max_size=3),
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
    handoffs.Suspicion: st.builds(handoffs.Suspicion, **said, unheard=st.lists(ids, min_size=1, max_size=3).map(tuple)),
    handoffs.Clearance: st.builds(
        handoffs.Clearance, **said, outcome=st.sampled_from(["confirmed", "unfounded"]), reason=lines
    ),
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
        runposition=st.none() | st.integers(min_value=0, max_value=1 << 53),
        sourcerank=ranks,
        traceparent=st.none() | lines,
        data=DATA[kind.model_fields["data"].annotation],
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
