"""What silence about one handoff is worth: how far it is believed, and who cannot be heard."""

from functools import lru_cache

from msgspec import Struct

from services.core.instants import Instant
from services.core.processor import LIVE, NEVER, Context, Wait

FOR_EVER: Instant = 1 << 62


class Silence(Struct, frozen=True, gc=False):
    """`reached`: the clock of the handoff; up to there silence is believed.

    `unheard`: silent sources that may tell of the handoff, or its run where that has stalled. `presumed`: how far
    silence would be believed if they restrained nothing. `told`: how far they have told everything, as far as is known.
    """

    reached: Instant
    unheard: tuple[str, ...]
    presumed: Instant
    told: Instant

    def doubts(self, due: Instant) -> bool:
        """May somebody who is not heard know of a fact up to `due`?"""
        return bool(self.unheard) and due > self.told


LAST_WORD = Silence(FOR_EVER, (), FOR_EVER, FOR_EVER)
"""No further fact will count, whoever may send it."""


@lru_cache(maxsize=1_024)
def live_wait(sources: tuple[str, ...]) -> frozenset[str]:
    """What a clock of live facts waits for; one set for all accounts with these sources, as a set keeps its hash."""
    return frozenset(sources)


def wait_of(run: str | None, sources: tuple[str, ...]) -> Wait:
    """What the clock of a handoff waits for: its run, or the sources of its account."""
    return live_wait(sources) if run is None else run


def presumed_wait(run: str | None, sources: tuple[str, ...], unheard: tuple[str, ...]) -> Wait:
    """What it would wait for if the unheard restrained nothing."""
    return LIVE if run is not None else live_wait(sources) - frozenset(unheard)


def unheard_of(run: str | None, sources: tuple[str, ...], context: Context) -> tuple[str, ...]:
    """Whose silence about a handoff proves nothing just now; sorted as `sources` are."""
    if run is not None:
        return (run,) if run in context.stalled and run not in context.closed else ()
    return tuple(source for source in sources if source in context.silent) if context.silent else ()


def silence_of(run: str | None, sources: tuple[str, ...], context: Context) -> Silence:
    reached = context.reached(wait_of(run, sources))
    unheard = unheard_of(run, sources, context)
    if not unheard:
        return Silence(reached, (), reached, FOR_EVER)
    # Who is silent for so long that no promise is listed any more had told about as much as when it was last heard.
    told = min(context.promises.get(name, context.silent.get(name, NEVER)) for name in unheard)
    return Silence(reached, unheard, context.reached(presumed_wait(run, sources, unheard)), told)
