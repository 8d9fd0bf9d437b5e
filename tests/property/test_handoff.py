"""Whatever the order, repetition, batches and restarts: the net verdicts are those of a naive oracle."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import Event
from services.core.instants import moment
from tests.builders import accepted, cancelled, fact, minute, opened, paused, policies, policy, resumed
from tests.timeline import Net, Timeline

HOURS = {"short": 1.0, "long": 3.0}
MAKE = {"opened": opened, "paused": paused, "resumed": resumed, "accepted": accepted, "cancelled": cancelled}
RANK = list(MAKE)
END = 2_000


@dataclass(frozen=True)
class Told:
    """A fact in minutes."""

    at: int
    what: str
    id: str

    def event(self, name: str) -> Event:
        return MAKE[self.what](self.at, name, id=f"{name}:{self.id}")


told = st.builds(Told, st.integers(0, 400), st.sampled_from(RANK), st.text("abcdef", min_size=3, max_size=3))
stories = st.lists(told, min_size=1, max_size=9, unique_by=lambda one: one.id)


def stages(hours: float) -> dict[str, float]:
    """Minutes of running clock at which each stage is reached."""
    target = hours * 60
    at_risk = max(target / 2, min(target * 0.75, target - 60))
    passed = max(target * 1.25, target + 120)
    notice = {} if at_risk <= target / 2 else {"noticed": target / 2}
    return notice | {
        "at_risk": at_risk,
        "breached": target,
        "passed_125": passed,
        "passed_200": max(target * 2, passed + 120),
    }


def oracle(name: str, story: Sequence[Told], until: float) -> Net:  # noqa: C901, PLR0912  # naive on purpose: one walk
    """Walks minute by minute with a stopwatch in the hand; knows nothing of folds, ledgers or calendars."""
    ordered = sorted(story, key=lambda one: (one.at, RANK.index(one.what), one.id))
    starts = [number for number, one in enumerate(ordered) if one.what == "opened"]
    if not starts:
        return {}
    later = ordered[starts[0] + 1 :]
    clock, running, stopped, state, ran_out = 0, True, None, "open", 0
    reached: dict[tuple[str, str], int] = {}
    happened: dict[int, list[str]] = {}
    for one in later:
        happened.setdefault(one.at, []).append(one.what)
    for now in range(ordered[starts[0]].at, 6_000):
        for leg, hours in HOURS.items():
            for stage, needed in stages(hours).items():
                if clock >= needed:
                    reached.setdefault((leg, stage), now)
        if len(reached) == sum(len(stages(hours)) for hours in HOURS.values()) and now > max(happened, default=0):
            break
        for what in happened.get(now, []):
            if stopped is not None:
                break
            if what == "paused" and state == "open":
                state, running, ran_out = "paused", False, now + 80 * 60
            elif what == "resumed" and state == "paused":
                state, running = "open", True
            elif what in {"accepted", "cancelled"}:
                stopped, state, running = now, what, True
        if state == "paused" and now >= ran_out:
            running = True
        clock += running
    net: Net = {}
    for (leg, stage), at in reached.items():
        due = moment(minute(reached[leg, "breached"]))
        if at <= until and (stopped is None or at < stopped):
            net[name, leg, stage] = due
    for leg in HOURS:
        if state == "accepted" and stopped is not None and stopped <= reached[leg, "breached"]:
            net[name, leg, "met"] = moment(minute(reached[leg, "breached"]))
    return net


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_order_repetition_batching_and_restart_ends_in_the_oracles_verdicts(data: st.DataObject) -> None:
    named = {name: data.draw(stories, label=name) for name in ("deal-1", "deal-2")}
    facts = [fact(one.event(name)) for name, story in named.items() for one in story]
    arriving = data.draw(st.permutations(facts + data.draw(st.lists(st.sampled_from(facts), max_size=5))))
    story, now = Timeline(policies(policy(hours=HOURS))), 0
    while arriving:
        size = data.draw(st.integers(1, 4))
        batch, arriving = arriving[:size], arriving[size:]
        story.take(*batch)
        now += data.draw(st.integers(0, 200))
        story.until(minute(now))
        if data.draw(st.booleans()):
            story.restart()
    story.until(minute(END))
    expected = oracle("deal-1", named["deal-1"], END) | oracle("deal-2", named["deal-2"], END)
    assert story.net == expected


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_event_is_published_twice_and_every_id_is_its_own(data: st.DataObject) -> None:
    facts = [fact(one.event("deal-1")) for one in data.draw(stories)]
    story, now = Timeline(policies(policy(hours=HOURS))), 0
    for one in data.draw(st.permutations(facts + facts)):
        story.take(one)
        now += data.draw(st.integers(0, 100))
        story.until(minute(now))
    ids = [event.id for event in story.published]
    assert len(ids) == len(set(ids))
