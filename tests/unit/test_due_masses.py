"""A hundred thousand keys due at one instant: events go on in between."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.topics import CLOCK, OWNERSHIP
from services.core.instants import moment
from services.runtime.engine.partition import FIRE_LIMIT, META, Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.kafka import Header
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from tests.builders import ACCOUNT, minute, opened, policies, policy
from tests.mirror import Mirror, Seen

MANY = 100_000
LOOK = minute(60)


@dataclass
class Raw:
    offset: int
    value: bytes | None
    key: bytes | None = ACCOUNT.encode()
    timestamp: int = minute(1_000) // 1000
    headers: Sequence[Header] = ()


def partition(mirror: Mirror) -> Partition[Seen]:
    """Every key wants to be looked at in the same instant."""
    tables = Tables(Settings(partitions=1))
    tables.policies = policies(policy(1))
    here = Partition(0, 1, mirror, tables, Metrics())
    state = bytes([mirror.version]) + mirror.encode(Seen(1, look=LOOK))
    here.restore({b"key-%d" % number: state for number in range(MANY)}, Meta({OWNERSHIP.name: 0, CLOCK.name: 0}))
    return here


def tick(here: Partition[Seen], minutes: float) -> None:
    at, position = moment(minute(minutes)), here.meta.positions[CLOCK.name]
    mark = Mark(at=at, safe=at, ends={}, writer="test", simulated=True)
    event = ClockAdvanced(id="1", source="clock", subject="0", partitionkey="0", time=at, data=mark)
    here.take(CLOCK, [Raw(position, codec.encode(event), b"0")], position + 1)


def tell(here: Partition[Seen], name: str) -> None:
    position = here.meta.positions[OWNERSHIP.name]
    event = opened(0, id=name).model_copy(update={"partitionkey": name})
    here.take(OWNERSHIP, [Raw(position, codec.encode(event), name.encode())], position + 1)


def test_a_mass_that_is_due_at_once_lets_events_through_with_every_flush() -> None:
    mirror = Mirror(has_looks=True)
    here = partition(mirror)
    tick(here, 59)
    assert mirror.woken == []
    tick(here, 60)
    flushes, told = 0, 0
    while here.overdue or here.changed:
        tell(here, f"event-{told}")
        told += 1
        tick(here, 60)  # marks go on too, and wake nobody beyond what this flush may carry
        cut = here.cut()
        written = [key.decode() for key, _, _ in cut.changelog if key not in {META, None}]
        flushes += 1
        assert f"event-{told - 1}" in written
        assert len(written) <= FIRE_LIMIT + 1
        assert cut.meta.positions[OWNERSHIP.name] == told
        here.committed(cut)
        here.fire()
    assert flushes >= MANY / FIRE_LIMIT
    assert len(mirror.woken) == len(set(mirror.woken)) == MANY
