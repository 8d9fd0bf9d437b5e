"""The health processor: accounts as keyed state; facts and handoffs in; scores, changes and closings out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from msgspec import structs

from schemas.envelope import Event
from schemas.topics import ACCOUNTS, HANDOFFS, HEALTH, HEALTH_CHANGES, INTERACTIONS, OWNERSHIP, RENEWALS, Topic
from services.core.instants import Instant, instant
from services.core.outcome import Drop, Fate, Reason
from services.core.policy import Policies, PolicyMissing
from services.core.processor import CLOCK_ALONE, NEVER, Context, Decision, Due, Effect, Fact, Output
from services.core.states import States
from services.health import decide, facts, signals
from services.health.decide import Frame, Step
from services.health.model import Account, Known, Mention, What
from services.health.policy import Rules, compile_health

CAUSES_KEPT = 8
NOTHING = Known()


class HealthProcessor:
    """Implements services.core.processor.Processor."""

    name = "health"
    version = 1
    inputs: tuple[Topic, ...] = (INTERACTIONS, OWNERSHIP, RENEWALS, ACCOUNTS, HANDOFFS)
    outputs: tuple[Topic, ...] = (HEALTH, HEALTH_CHANGES)

    def __init__(self) -> None:
        self._compiled: dict[int, Rules | None] = {}
        self._oldest: Rules | None = None
        self._states = States(self.name, self.version, Account)

    def empty(self) -> Account:
        return Account()

    def decide(self, key: str, state: Account, batch: Sequence[Fact], context: Context) -> Decision[Account]:
        frame = self._frame(key, context)
        # What time alone did comes first: it was true before these facts were known.
        steps = _caught_up(state, frame, context)
        state = steps[-1].state
        known, fates, causes = state.known, list[tuple[Fact, Fate]](), list[Mention]()
        for fact in batch:
            # What happened before there were rules of health is read by the first of them, so that it is not lost.
            rules = self._rules(context.policies, instant(fact.event.time)) or self._first(context.policies)
            if rules is None:
                fates.append((fact, Drop(Reason.POLICY)))
                continue
            taken = facts.take(known, fact.event, fact.arrived, context.at, rules)
            if taken.fate is not None:
                fates.append((fact, taken.fate))
            if taken.known is not known:
                causes.append(_mention(fact.event))
            known = taken.known
        told = {fact.event.run for fact in batch if fact.event.run is not None}
        if told:
            state = structs.replace(state, imports=_open({*state.imports, *told}, context))
        if known is state.known:
            return Decision(None if known == NOTHING else state, _outputs(*steps), fates)
        state = structs.replace(state, known=known)
        if context.at > NEVER:
            settled = decide.settle(state, context.at, frame, sorted(causes, reverse=True)[:CAUSES_KEPT])
            return Decision(settled.state, _outputs(*steps, settled), fates)
        return Decision(state, _outputs(*steps), fates)

    def due(self, key: str, state: Account, context: Context) -> Decision[Account]:
        frame = self._frame(key, context)
        steps = _caught_up(state, frame, context)
        state = steps[-1].state
        if state.standing is None or self.outdated(state, context):
            settled = decide.settle(state, context.at, frame)
            return Decision(settled.state, _outputs(*steps, settled))
        return Decision(state, _outputs(*steps))

    def dues(self, state: Account) -> Sequence[Due]:
        return (Due(state.wake, CLOCK_ALONE),)

    def outdated(self, state: Account, context: Context) -> bool:
        """Has it been judged by other rules, while other sources were silent, or before an import was over?"""
        if state.imports and len(_open(state.imports, context)) < len(state.imports):
            return True
        rules = self._rules(context.policies, context.at)
        if rules is None:
            return False
        return state.policy != rules.version or state.silent != signals.fallen_silent(state.known, context.silent)

    def wanted(self, _key: str, _state: Account) -> Sequence[Effect]:
        return ()

    def encode(self, state: Account) -> bytes:
        return self._states.encode(state)

    def decode(self, raw: bytes, version: int) -> Account:
        return self._states.decode(raw, version)

    def _frame(self, key: str, context: Context) -> Frame:
        return Frame(key, lambda at: self._rules(context.policies, at), context.silent)

    def _rules(self, policies: Policies, at: Instant) -> Rules | None:
        """The rules in force at an instant, where its policy has any."""
        try:
            policy = policies.in_force(at)
        except PolicyMissing:
            return None
        if policy.version not in self._compiled:
            rules, first = compile_health(policy), self._first(policies)
            if rules is not None and first is not None:
                # What sums are made of follows the first version for ever: another half-life would mix in one sum.
                rules = replace(rules, short=first.short, long=first.long)
            self._compiled[policy.version] = rules
        return self._compiled[policy.version]

    def _first(self, policies: Policies) -> Rules | None:
        """The rules of the first version that has any."""
        if self._oldest is None:
            activated = (policies.versions.get(version) for _, version in policies.activations)
            first = next((policy for policy in activated if policy is not None and policy.health is not None), None)
            self._oldest = None if first is None else compile_health(first)
        return self._oldest


def _caught_up(state: Account, frame: Frame, context: Context) -> list[Step]:
    """What time did until now. What imports told moves the band at the instant at which the last of them was over."""
    if not state.imports:
        return [decide.advance(state, context.at, frame)]
    imports = _open(state.imports, context)
    if imports:
        now = state if imports == state.imports else structs.replace(state, imports=imports)
        return [decide.advance(now, context.at, frame)]
    over = max(context.closed.get(run, context.at) for run in state.imports)
    at = min(max(over, state.at), context.at)
    before = decide.advance(state, at, frame)
    settled = decide.settle(structs.replace(before.state, imports=()), at, frame, state.known.latest)
    return [before, settled, decide.advance(settled.state, context.at, frame)]


def _open(runs: Iterable[str], context: Context) -> tuple[str, ...]:
    """Those imports that are still under way: neither over, nor without progress for long."""
    return tuple(sorted({*runs} - context.closed.keys() - context.stalled))


def _outputs(*steps: Step) -> list[Output]:
    """What the steps say, and the last of their scores."""
    say = next((step.score for step in reversed(steps) if step.score), None)
    scores = [Output(HEALTH, say())] if say else []
    return [*(Output(HEALTH_CHANGES, event) for step in steps for event in step.events), *scores]


def _mention(event: Event) -> Mention:
    return Mention(instant(event.time), What.SPOKEN, event.sourcerank, event.source, event.id)
