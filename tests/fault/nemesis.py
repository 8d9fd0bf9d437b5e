"""What goes wrong in a run, drawn from its seed: the same seed, the same schedule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.fault.failpoint import Failpoint

Kind = Literal["shared", "broker", "cluster"]

FLUSH = ("cut", "begun", "written", "committed", "applied")
TAKEOVER = ("opened", "restored", "serving", "revoking", "revoked")
LAST = 0.85  # of the run's seconds: what happens later would not meet much


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, `at` seconds after the load began. `victim` chooses among the processes that run by then."""

    at: float
    name: str
    victim: int = 0
    seconds: float = 0.0
    point: Failpoint | None = None

    def __str__(self) -> str:
        where = f" {'/'.join(self.point.steps)}#{self.point.count}" if self.point else ""
        return f"{self.name}{where}@{self.at:.1f}"


@dataclass(frozen=True, slots=True)
class Setting:
    """Which processors run with how many workers, on what broker, and what goes wrong."""

    kind: Kind
    roles: tuple[str, ...]
    workers: int
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"{'+'.join(self.roles)} x{self.workers} {self.kind}: {', '.join(map(str, self.faults))}"


def setting(seed: int, seconds: float, *, cluster: bool = True) -> Setting:
    """The setting of a seed for a run of so many seconds; `cluster`: three nodes may be used."""
    random = Random(f"setting-{seed}")
    kind: Kind = random.choices(("shared", "broker", "cluster"), (78, 14, 8 if cluster else 0))[0]
    roles = random.choice((("ledger",), ("handoff",), ("handoff", "ledger")))
    workers = 1 if len(roles) == 2 else 2
    count = random.randint(1, 2)
    faults = [_certain(random, seconds)]
    # The first of the others goes round the menu, so that neighbouring seeds leave nothing out.
    makes = [MENU[seed % len(MENU)], *(random.choice(MENU) for _ in range(count - 1))]
    faults += [make(random, _when(random, seconds), random.randrange(9)) for make in makes]
    if kind == "broker":
        name = random.choice(("broker restarted", "broker killed"))
        faults.append(Fault(_when(random, seconds), name, seconds=random.uniform(0.5, 4.0)))
    if kind == "cluster":
        faults.append(Fault(_when(random, seconds), "leader lost", random.randrange(9), random.uniform(2.0, 5.0)))
    return Setting(kind, roles, workers, tuple(sorted(faults, key=lambda fault: fault.at)))


def _when(random: Random, seconds: float) -> float:
    return round(random.uniform(0.5, seconds * LAST), 1)


def _certain(random: Random, seconds: float) -> Fault:
    """A fault that hits a flush in flight."""
    if random.random() < 0.3:
        steps = random.choice((("begun",), ("written",)))
        point = Failpoint(steps, "stop", count=random.randint(1, 8))
        return Fault(_when(random, seconds / 2), "zombie at", random.randrange(9), random.uniform(0.5, 3.0), point)
    point = Failpoint((random.choice(FLUSH),), "kill", count=random.randint(1, 10))
    return Fault(_when(random, seconds / 2), "killed at", random.randrange(9), point=point)


def _named(name: str, least: float = 0.0, most: float = 0.0) -> Callable[[Random, float, int], Fault]:
    def make(random: Random, at: float, victim: int) -> Fault:
        return Fault(at, name, victim, round(random.uniform(least, most), 1))

    return make


def _killed_at(random: Random, at: float, victim: int) -> Fault:
    return Fault(at, "killed at", victim, point=Failpoint((random.choice(FLUSH),), "kill", random.randint(1, 10)))


def _killed_in_takeover(random: Random, at: float, victim: int) -> Fault:
    point = Failpoint((random.choice(TAKEOVER),), "kill", random.randint(1, 2))
    return Fault(at, "killed in takeover", victim, 4.0, point)


def _failed_at(random: Random, at: float, victim: int) -> Fault:
    step = random.choice(FLUSH[:-1])
    return Fault(at, "failed at", victim, point=Failpoint((step,), "raise", random.randint(1, 10)))


def _slept_at(random: Random, at: float, victim: int) -> Fault:
    seconds = random.choice((1.0, 4.5, 22.0))  # within the session, beyond it, beyond the flush's own limit
    point = Failpoint((random.choice(FLUSH[:-1]),), "sleep", random.randint(1, 10), seconds=seconds)
    return Fault(at, "slept at", victim, point=point)


MENU: Sequence[Callable[[Random, float, int], Fault]] = (
    _killed_at,
    _killed_in_takeover,
    _failed_at,
    _slept_at,
    _failed_at,
    _slept_at,
    _named("killed"),
    _named("stopped", 0.5, 3.0),
    _named("outage", 2.0, 6.0),
    _named("refused", 0.5, 2.0),
    _named("resets", 1.0, 3.0),
    _named("black hole", 1.0, 12.0),
    _named("slow network", 2.0, 5.0),
    _named("storm", 1.0, 2.5),
    _named("clock killed"),
    _named("two clocks"),
    _named("clock ahead", 1.0, 2.0),
)

NAMES = (
    "killed at", "killed in takeover", "failed at", "slept at", "zombie at", "killed", "stopped", "outage", "refused",
    "resets", "black hole", "slow network", "storm", "clock killed", "two clocks", "clock ahead", "broker restarted",
    "broker killed", "leader lost",
)  # fmt: skip
