"""A processor whose outputs are counted in the slice's own terms; it decides as it would without."""

from collections.abc import Callable, Sequence
from typing import Generic

from schemas.envelope import Event
from services.core.processor import Context, Decision, Fact, Processor, S


class Counted(Generic[S]):
    """Calls `count` for every event that the processor publishes."""

    def __init__(self, inner: Processor[S], count: Callable[[Event], None]) -> None:
        self.name, self.version = inner.name, inner.version
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.empty, self.dues, self.outdated, self.wanted = inner.empty, inner.dues, inner.outdated, inner.wanted
        self.encode, self.decode = inner.encode, inner.decode
        self._inner = inner
        self._count = count

    def decide(self, key: str, state: S, batch: Sequence[Fact], context: Context) -> Decision[S]:
        return self._counted(self._inner.decide(key, state, batch, context))

    def due(self, key: str, state: S, context: Context) -> Decision[S]:
        return self._counted(self._inner.due(key, state, context))

    def _counted(self, decision: Decision[S]) -> Decision[S]:
        for output in decision.outputs:
            self._count(output.event)
        return decision
