"""The handoff processor: accounts as keyed state, ownership facts in, states and verdicts out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas import ownership
from schemas.envelope import Event
from schemas.policies import Policy
from schemas.renewals import SALE, ContractWon, handoff_of
from schemas.topics import HANDOFFS, OWNERSHIP, RENEWALS, Topic
from services.core.instants import DAY, Instant, instant
from services.core.outcome import DeadLetter, Drop, Fate, Reason
from services.core.processor import Context, Decision, Due, Effect, Fact, Output, Wait
from services.core.states import States
from services.handoff import decide
from services.handoff.doubt import LAST_WORD, Silence, live_wait, presumed_wait, silence_of, unheard_of
from services.handoff.model import Account, Handoff, Happening, What
from services.handoff.policy import Kinds, Rules, compile_kinds

OLDEST_OPENING = 400 * DAY
HANDOFFS_LIMIT = 1_000  # an account's state is one record: three legs each make it about 750 KB

STEPS: dict[type[Event], What] = {
    ownership.HandoffPaused: What.PAUSED,
    ownership.HandoffResumed: What.RESUMED,
    ownership.HandoffCancelled: What.CANCELLED,
}
NO_RULES = Rules(0)
SOURCES_LIMIT = 20  # that restrain one account; more would be a mistake, and each only makes its clocks wait longer


@dataclass(slots=True)
class _Draft:
    """An account while a batch is taken in."""

    account: str
    handoffs: dict[str, Handoff]
    sources: tuple[str, ...]
    outputs: list[Output]
    fates: list[tuple[Fact, Fate]]

    @classmethod
    def of(cls, account: str, state: Account) -> "_Draft":
        return cls(account, dict(state.handoffs), state.sources, [], [])

    @property
    def state(self) -> Account | None:
        return Account(self.handoffs, self.sources) if self.handoffs else None


class HandoffProcessor:
    """Implements services.core.processor.Processor."""

    name = "handoff"
    version = 1
    inputs: tuple[Topic, ...] = (OWNERSHIP, RENEWALS)
    outputs: tuple[Topic, ...] = (HANDOFFS,)
    _states = States(name, version, Account)

    def __init__(self) -> None:
        self._compiled: dict[int, Kinds] = {}

    def empty(self) -> Account:
        return Account()

    def decide(self, key: str, state: Account, batch: Sequence[Fact], context: Context) -> Decision[Account]:
        draft = _Draft.of(key, state)
        touched: dict[str, None] = {}
        for fact in batch:
            taken = self._take(draft, fact, context)
            if isinstance(taken, str):
                touched[taken] = None
            else:
                draft.fates.append((fact, taken))
        if draft.sources != state.sources:  # whoever is new may be silent
            touched |= dict.fromkeys(_outdated(draft.handoffs, draft.sources, context))
        for name in touched:
            self._settle(draft, name, context)
        if not touched:
            return Decision(state if state.handoffs else None, (), draft.fates)
        _bound(draft.handoffs)
        return Decision(draft.state, draft.outputs, draft.fates)

    def due(self, key: str, state: Account, context: Context) -> Decision[Account]:
        draft = _Draft.of(key, state)
        outdated = set(_outdated(state.handoffs, state.sources, context))
        live = context.reached(live_wait(state.sources))
        for name, handoff in state.handoffs.items():
            reached = live if handoff.run is None else context.reached(handoff.run)
            if handoff.wake is not None and handoff.wake <= reached:
                if handoff.folded or (not handoff.settled and decide.opening(handoff) is None):
                    del draft.handoffs[name]
                elif handoff.settled:
                    if handoff.is_suspected:
                        self._settle(draft, name, context, LAST_WORD)
                    draft.handoffs[name] = decide.folded(draft.handoffs[name])
                else:
                    self._settle(draft, name, context)
            elif name in outdated or _is_suspect(handoff, state.sources, context):
                self._settle(draft, name, context)
        return Decision(draft.state, draft.outputs)

    def dues(self, state: Account) -> Sequence[Due]:
        earliest: dict[Wait, Instant] = {}
        live = live_wait(state.sources)
        for handoff in state.handoffs.values():
            if handoff.wake is not None:
                _earlier(earliest, live if handoff.run is None else handoff.run, handoff.wake)
            if handoff.suspect is not None:
                _earlier(earliest, presumed_wait(handoff.run, state.sources, handoff.doubt), handoff.suspect)
        return [Due(at, wait) for wait, at in earliest.items()]

    def outdated(self, state: Account, context: Context) -> bool:
        return next(_outdated(state.handoffs, state.sources, context), None) is not None

    def wanted(self, _key: str, _state: Account) -> Sequence[Effect]:
        return ()

    def encode(self, state: Account) -> bytes:
        return self._states.encode(state)

    def decode(self, raw: bytes, version: int) -> Account:
        return self._states.decode(raw, version)

    def _take(self, draft: _Draft, fact: Fact, context: Context) -> str | Fate:
        """Put the fact into its handoff and answer the handoff's name, or why not."""
        read = _read(fact.event)
        if read is None:
            return Drop(Reason.NOT_CONCERNED)
        name, happening = read
        if happening.what is What.OPENED:
            refusal = self._refusal(fact, happening, context)
            if refusal is not None:
                return refusal
        handoff = draft.handoffs.get(name, Handoff())
        if handoff.folded:
            return Drop(Reason.TOO_LATE)
        taken = decide.with_fact(handoff, happening, fact.arrived)
        if taken is None:
            if decide.is_known(handoff, happening):
                return Drop(Reason.DUPLICATE)
            return DeadLetter(Reason.TOO_MANY_FACTS, f"handoff {name} has {decide.FACTS_LIMIT} facts already")
        draft.handoffs[name] = taken
        if happening.run is None and happening.source not in draft.sources:
            draft.sources = tuple(sorted((*draft.sources, happening.source)))[:SOURCES_LIMIT]
        return name

    def _refusal(self, fact: Fact, opening: Happening, context: Context) -> Fate | None:
        if opening.run is None and opening.at < fact.arrived - OLDEST_OPENING:
            return Drop(Reason.TOO_LATE)
        policy = context.policies.in_force(opening.at)
        if opening.kind not in self._kinds(policy):
            if isinstance(fact.event, ContractWon):  # a company may sell without handing over
                return Drop(Reason.NOT_CONCERNED)
            known = ", ".join(sorted(policy.handoffs))
            return DeadLetter(
                Reason.POLICY,
                f"kind '{opening.kind}' is not in policy version {policy.version}, which has {known}",
            )
        return None

    def _settle(self, draft: _Draft, name: str, context: Context, silence: Silence | None = None) -> None:
        handoff = draft.handoffs[name]
        opening = decide.opening(handoff)
        # The policy in force at the opening stays the handoff's own, because activations are never back-dated.
        rules = NO_RULES
        if opening is not None:
            policy = context.policies.in_force(opening.at)
            rules = self._kinds(policy).get(opening.kind or "") or Rules(policy.version)
        if silence is None:
            silence = silence_of(opening.run if opening else None, draft.sources, context)
        draft.handoffs[name], events = decide.settle(draft.account, name, handoff, rules, silence)
        draft.outputs.extend([Output(HANDOFFS, event) for event in events])

    def _kinds(self, policy: Policy) -> Kinds:
        compiled = self._compiled.get(policy.version)
        if compiled is None:
            compiled = self._compiled[policy.version] = compile_kinds(policy)
        return compiled


def _outdated(handoffs: Mapping[str, Handoff], sources: tuple[str, ...], context: Context) -> Iterator[str]:
    """Names of handoffs that rest on others being silent, or stalled, than are so now."""
    for name, handoff in handoffs.items():
        # Of a settled one nothing is pending: who is silent concerns it only while a suspicion stands.
        is_concerned = handoff.shown and not handoff.folded and (handoff.doubt or not handoff.settled)
        if is_concerned and handoff.doubt != unheard_of(handoff.run, sources, context):
            yield name


def _is_suspect(handoff: Handoff, sources: tuple[str, ...], context: Context) -> bool:
    """Has the time come at which one of its legs would be a breach, were everybody heard?"""
    return handoff.suspect is not None and handoff.suspect <= context.reached(
        presumed_wait(handoff.run, sources, handoff.doubt)
    )


def _earlier(earliest: dict[Wait, Instant], wait: Wait, at: Instant) -> None:
    before = earliest.get(wait)
    if before is None or at < before:
        earliest[wait] = at


def _read(event: Event) -> tuple[str, Happening] | None:
    """The handoff that an event is about and what it says of it; None when it is about none."""
    # The very types, of which none is derived: pydantic's classes are slow to tell their instances.
    if type(event) is ownership.HandoffOpened:
        opening = event.data
        return opening.handoff, _happening(event, What.OPENED, opening.owner, opening.sender, opening.kind)
    if type(event) is ownership.HandoffAccepted:
        return event.data.handoff, _happening(event, What.ACCEPTED, event.data.owner)
    if type(event) is ContractWon:
        won = event.data
        return handoff_of(won.home), _happening(event, What.OPENED, won.owner, won.seller, SALE)
    step = STEPS.get(type(event))
    data = event.data
    if step is None or not isinstance(data, ownership.Pause | ownership.Step):
        return None
    return data.handoff, _happening(event, step)


def _happening(
    event: Event, what: What, owner: str | None = None, sender: str | None = None, kind: str | None = None
) -> Happening:
    return Happening(
        instant(event.time), what, event.sourcerank, event.source, event.id, event.run, owner, sender, kind
    )


def _bound(handoffs: dict[str, Handoff]) -> None:
    """Forget the handoffs longest without news of an account that has too many for one record, settled ones first."""
    excess = len(handoffs) - HANDOFFS_LIMIT
    if excess > 0:
        oldest = sorted(handoffs, key=lambda name: (not handoffs[name].settled, handoffs[name].arrived))
        for name in oldest[:excess]:
            del handoffs[name]
