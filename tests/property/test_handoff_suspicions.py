"""Whatever is heard when: a leg is suspected exactly while a naive reading of facts and marks says so."""

from dataclasses import dataclass, field
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.instants import moment
from tests.builders import fact, minute, policies, policy
from tests.property.test_handoff import HOURS, Told, oracle, stories
from tests.timeline import Timeline

ENDLESS = 100_000
LAPSE = 240
NEVER = -ENDLESS
Leg = tuple[str, str]


@dataclass
class Doubts:
    """The oracle, in minutes: it looks at everything again with every fact and every mark.

    The one source was `heard` last; it promises up to a minute before. It is silent after three minutes, and after
    four hours nobody waits for it.
    """

    told: dict[str, set[Told]] = field(default_factory=dict)
    now: int = 0
    heard: int = 0
    suspected: dict[Leg, datetime] = field(default_factory=dict)
    breached: dict[Leg, datetime] = field(default_factory=dict)
    assumed: dict[str, int] = field(default_factory=dict)

    @property
    def is_silent(self) -> bool:
        return self.now - self.heard > 3

    @property
    def is_waited_for(self) -> bool:
        return self.now - self.heard <= LAPSE

    def look(self) -> None:
        promise = self.heard - 1
        known = promise if self.is_waited_for else self.heard
        reached = min(self.now, promise) if self.is_waited_for else self.now
        dues: dict[Leg, datetime] = {}
        for name, story in self.told.items():
            # What was believed once stays so, in whichever handoff it was looked at.
            self.assumed[name] = max(reached, self.assumed.get(name, NEVER))
            net = oracle(name, sorted(story, key=lambda one: one.id), ENDLESS)
            dues |= {(name, leg): due for (_, leg, stage), due in net.items() if stage == "breached"}
        before, self.suspected = self.suspected, {}
        for leg, due in dues.items():
            if before.get(leg) == due:
                is_suspected = self.is_silent or due > moment(minute(reached))
            else:
                is_open = leg in before or self.breached.get(leg) != due
                is_unknown = self.is_silent and due > moment(minute(known))
                is_suspected = is_open and is_unknown and due <= moment(minute(self.now))
            if is_suspected:
                self.suspected[leg] = due
        self.breached = {leg: due for leg, due in dues.items() if due <= moment(minute(self.assumed[leg[0]]))}

    @property
    def mark(self) -> dict[str, dict[str, int]]:
        return {
            "promises": {"crm": minute(self.heard - 1)} if self.is_waited_for else {},
            "silent": {"crm": minute(self.heard)} if self.is_silent else {},
        }


steps = st.lists(
    st.tuples(st.sampled_from(["fact", "fact", "time", "beat", "restart"]), st.integers(0, 150), st.integers(0, 4)),
    min_size=3,
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(stories, stories, st.permutations(range(18)), steps)
def test_it_is_suspected_exactly_while_the_naive_reading_says_so(
    one: list[Told], other: list[Told], order: list[int], told: list[tuple[str, int, int]]
) -> None:
    arriving = [("deal-1", fact) for fact in one] + [("deal-2", fact) for fact in other]
    arriving = [arriving[place] for place in order if place < len(arriving)]
    story, doubts = Timeline(policies(policy(hours=HOURS))), Doubts()
    story.until(minute(0), **doubts.mark)
    for step, minutes, late in told:
        match step:
            case "fact" if arriving:
                name, known = arriving.pop()
                story.take(fact(known.event(name)))
                doubts.told.setdefault(name, set()).add(known)
            case "restart":
                story.restart()
                continue
            case "beat":
                doubts.now += minutes // 2
                doubts.heard = max(doubts.heard, doubts.now - late)
                story.until(minute(doubts.now), **doubts.mark)
            case _:
                doubts.now += minutes
                story.until(minute(doubts.now), **doubts.mark)
        doubts.look()
        assert story.suspected == doubts.suspected
    story.until(minute(100 * 60), promises={"crm": minute(100 * 60)})
    assert story.suspected == {}, "everybody was heard, and somebody is still in doubt"
    ids = [event.id for event in story.published]
    assert len(ids) == len(set(ids))
