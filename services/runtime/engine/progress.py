"""Which partitions stand still although there is something to read, and for how long each has been behind. No IO."""

from collections.abc import Mapping
from dataclasses import dataclass, field

STALL_SECONDS = 120.0
WAIT_SECONDS = 900.0  # every wait on purpose has a bound of its own, far below; one that lost it must not last for ever
STEP_SECONDS = 5.0  # the most that one look counts: a process that was frozen has not stood still meanwhile
SAMPLES = 240

Spot = tuple[str, int]  # a topic and the number of a partition


@dataclass(frozen=True, slots=True)
class Sight:
    """How far one partition of one topic has been read, where it ends, and what it waits for on purpose, if it does."""

    position: int
    end: int
    waits: str | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """A spot that has stood still for `seconds` with records to read."""

    spot: Spot
    sight: Sight
    seconds: float

    def __str__(self) -> str:
        topic, number = self.spot
        waiting = f", waiting for {self.sight.waits}" if self.sight.waits else ""
        return (
            f"{topic} partition {number} has stood at offset {self.sight.position} for {self.seconds:.0f} s{waiting}, "
            f"and there is more up to {self.sight.end}"
        )


@dataclass(slots=True)
class _Still:
    position: int
    seconds: float = 0.0
    waited: float = 0.0


class Progress:
    """Counts for each spot how long it has stood still while there was something to read.

    Time in which it waits on purpose is counted apart, with a limit of its own.
    """

    def __init__(self, patience: float = STALL_SECONDS, waiting: float = WAIT_SECONDS) -> None:
        self._patience = patience
        self._waiting = waiting
        self._still: dict[Spot, _Still] = {}

    def look(self, seconds: float, sights: Mapping[Spot, Sight]) -> list[Stall]:
        """What has stood still for too long, `seconds` after the last look; spots that are not named are forgotten."""
        before, self._still = self._still, {}
        stalls = []
        for spot, sight in sights.items():
            still = before.get(spot)
            if still is None or still.position != sight.position or sight.position >= sight.end:
                self._still[spot] = _Still(sight.position)
                continue
            self._still[spot] = still
            step = min(seconds, STEP_SECONDS)
            if sight.waits is None:
                still.seconds += step
            else:
                still.waited += step
            if still.seconds > self._patience or still.waited > self._waiting:
                stalls.append(Stall(spot, sight, still.seconds + still.waited))
        return stalls


@dataclass(slots=True)
class Behind:
    """How long ago a spot ended where it has been read to: samples of its end, oldest first."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    def saw(self, now: float, end: int) -> None:
        """The topic ended there at this time."""
        if self.samples and end <= self.samples[-1][1]:
            return
        self.samples.append((now, end))
        if len(self.samples) > SAMPLES:  # a long lag need not be known to the second
            self.samples[1:-1] = self.samples[1:-1:2]

    def seconds(self, now: float, position: int) -> float | None:
        """For how long there has been something to read at this position; 0.0 where there is nothing.

        None when there already was when the first sample was taken: nobody knows since when.
        """
        read = sum(end <= position for _, end in self.samples)
        if read == len(self.samples):
            del self.samples[:-1]
            return 0.0
        if read == 0:
            return None
        del self.samples[: read - 1]
        return now - self.samples[1][0]
