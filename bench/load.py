"""Which rate is half of what a machine can do, from what each process uses when idle and under a known load."""

from collections.abc import Mapping


def half_load(idle: Mapping[str, float], busy: Mapping[str, float], rate: float, cores: int) -> float:
    """Events a second at which the busiest process uses half a core, or all of them half of the machine.

    `idle` and `busy` are CPU seconds per second of each process, without load and at `rate` events a second. Each
    process is taken to run on one core at a time. What grows with the load in batches costs less at a higher rate, so
    this is rather too low. Raises ValueError where the load shows in no process.
    """
    grown = {name: (busy[name] - idle[name]) / rate for name in busy}
    total, resting = sum(grown.values()), sum(idle.values())
    if total <= 0:
        raise ValueError(f"{rate:.0f} events a second show in no process: {busy}, idle {idle}")
    single = [(1.0 - idle[name]) / cost for name, cost in grown.items() if cost > 0]
    return 0.5 * max(0.0, min([*single, (cores - resting) / total]))
