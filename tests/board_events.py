"""Events of every kind that the view reads, of two accounts, with few names and times so that they meet."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from schemas.envelope import Event
from tests.board import (
    alerted,
    assigned,
    called,
    cap,
    changed,
    closed,
    contacted,
    delta,
    removed,
    scored,
    sent,
    signal,
    taken,
    taken_back,
    valued,
    verdict,
    went,
    won,
)
from tests.builders import accepted, opened, paused

names = st.sampled_from(["acme", "bolt"])
stages = st.sampled_from(["at_risk", "breached", "met"])
times = st.integers(0, 50)


def of(make: Callable[..., Event], *arguments: Any) -> st.SearchStrategy[Event]:
    return st.builds(make, *arguments, account=names)


handoffs = st.sampled_from(["deal-1", "deal-2"])
bands = st.sampled_from(["green", "yellow", "red", "na"])
caps = st.lists(st.builds(cap, st.sampled_from(["SEV1_OPEN", "THIN_DATA"])), max_size=2)
signals = st.lists(st.builds(signal, st.sampled_from(["activity", "owner"]), st.integers(-9, 9)), max_size=2)
persons = st.sampled_from(["ada", "bob"])
days = st.integers(0, 20)
of_health = st.one_of(
    st.builds(scored, bands, signals, caps, time=times, account=names),
    st.builds(
        went,
        st.none() | bands,
        bands,
        days.map(lambda day: day * 1440.0),
        st.integers(1, 9),
        deltas=st.just((delta("owner", -5),)),
        account=names,
    ),
    st.builds(closed, days, times, account=names),
    st.builds(assigned, persons, times, st.sampled_from(["owner", "sponsor"]), account=names),
    st.builds(removed, st.none() | persons, times, account=names),
    st.builds(taken, st.none() | persons, times, account=names),
    st.builds(contacted, st.sampled_from(["inbound", "outbound"]), times, account=names),
)
events = st.one_of(
    of_health,
    of(called, st.sampled_from(["Acme", "Bolt", None]), times),
    st.builds(
        won,
        st.sampled_from("12"),
        st.sampled_from(["5", None]),
        st.just("EUR"),
        times,
        st.none() | persons,
        account=names,
    ),
    st.builds(valued, st.sampled_from("12"), st.sampled_from("789"), st.just("EUR"), times, account=names),
    st.builds(opened, times, handoffs),
    st.builds(accepted, times, handoffs),
    st.builds(paused, times, handoffs),
    st.builds(changed, st.sampled_from(["open", "paused", "accepted"]), times, handoffs, account=names),
    st.builds(verdict, stages, times, handoff=handoffs, account=names),
    st.builds(taken_back, stages, handoff=handoffs, account=names),
    st.builds(alerted, st.sampled_from(["raised", "held", "resolved", "retracted"]), stages, handoffs, account=names),
    st.builds(sent, st.sampled_from(["d-1", "d-2"]), st.integers(1, 3), handoffs, account=names),
)
