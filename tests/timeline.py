"""Folds a processor over a told story on simulated time, and keeps the net of what it published."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas import handoffs as out
from schemas.envelope import Event
from services.core.instants import Instant
from services.core.policy import Policies
from services.core.processor import Context, Fact
from services.handoff.model import Account
from services.handoff.processor import HandoffProcessor
from tests.builders import ACCOUNT, context, policies
from tests.outputs import events_of

Net = dict[tuple[str, str, str], Any]


def stage_of(event: Event) -> str:
    return event.type.removeprefix("steward.sla.").removesuffix(".v1").replace("-", "_")


@dataclass
class Timeline:
    """One account, its state, everything published, and the verdicts that stand.

    `suspected`: the due time of each (handoff, leg) under suspicion. `ended`: how suspicions ended, in order.
    """

    known: Policies = field(default_factory=policies)
    processor: HandoffProcessor = field(default_factory=HandoffProcessor)
    state: Account | None = None
    published: list[Event] = field(default_factory=list)
    net: Net = field(default_factory=dict)
    suspected: dict[tuple[str, str], Any] = field(default_factory=dict)
    ended: list[tuple[str, str, str]] = field(default_factory=list)
    fates: list[tuple[str, str]] = field(default_factory=list)
    safe: Instant = 0
    clocks: dict[str, dict[str, Instant]] = field(default_factory=dict)

    def take(self, *facts: Fact) -> list[Event]:
        """Facts arrive in one batch."""
        now = self._now()
        state = self.state if self.state is not None else self.processor.empty()
        return self._apply(self.processor.decide(ACCOUNT, state, facts, now))

    def until(self, safe: Instant, **clocks: dict[str, Instant]) -> list[Event]:
        """Time passes: every due that has been reached fires, as the engine would have it.

        `clocks`: what the mark says of promises, closed, silent and stalled; as the last one where left out.
        """
        self.safe, self.clocks = max(self.safe, safe), clocks or self.clocks
        now = self._now()
        said: list[Event] = []
        if self.state is not None and self._is_outdated(now):
            said += self._apply(self.processor.due(ACCOUNT, self.state, now))
            assert not self._is_outdated(now), "it was asked in vain"
        while self.state is not None and any(
            due.at <= now.reached(due.wait) for due in self.processor.dues(self.state)
        ):
            said += self._apply(self.processor.due(ACCOUNT, self.state, now))
        return said

    def _is_outdated(self, now: Context) -> bool:
        return self.state is not None and self.processor.outdated(self.state, now)

    def _now(self) -> Context:
        return context(
            self.safe,
            known=self.known,
            promises=self.clocks.get("promises"),
            closed=self.clocks.get("closed"),
            silent=self.clocks.get("silent"),
            stalled=self.clocks.get("stalled", {}),
        )

    def restart(self) -> None:
        """Crash and restore: only what the changelog holds survives."""
        if self.state is not None:
            raw = self.processor.encode(self.state)
            self.processor = HandoffProcessor()
            self.state = self.processor.decode(raw, self.processor.version)

    def stages(self, handoff: str = "deal-1") -> list[str]:
        """The verdicts of a handoff that stand, as leg/stage."""
        return sorted(f"{leg}/{stage}" for name, leg, stage in self.net if name == handoff)

    def _apply(self, decision: Any) -> list[Event]:
        self.state = decision.state
        self.fates += [(fact.event.id, fate.reason.value) for fact, fate in decision.fates]
        events = events_of(decision.outputs)
        self._keep(events)
        return events

    def _keep(self, events: Iterable[Event]) -> None:
        for event in events:
            self.published.append(event)
            if isinstance(event, out.SlaRetracted):
                del self.net[event.data.handoff, event.data.leg, event.data.stage]
            elif isinstance(event, out.SlaSuspected):
                self.suspected[event.data.handoff, event.data.leg] = event.data.due
            elif isinstance(event, out.SlaCleared):
                del self.suspected[event.data.handoff, event.data.leg]
                self.ended.append((event.data.handoff, event.data.leg, event.data.outcome))
            elif isinstance(event.data, out.Verdict):
                self.net[event.data.handoff, event.data.leg, stage_of(event)] = event.data.due
