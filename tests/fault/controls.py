"""Positive controls: the same kind of run with one protection taken off must be seen to fail."""

from tests.fault.failpoint import Failpoint
from tests.fault.nemesis import Fault, Setting

# What is sure to need the protection; the faults are as a seed might have them.
CONTROLS: dict[str, Setting] = {
    "transaction": Setting(
        "shared",
        ("ledger",),
        1,
        tuple(Fault(at, "killed at", 0, point=Failpoint(("written",), "kill", 4)) for at in (1.0, 7.0)),
    ),
    "fence": Setting(
        "shared",
        ("ledger",),
        1,
        (Fault(2.0, "zombie at", 0, 4.0, Failpoint(("written",), "stop", 2)),),
    ),
    "promise": Setting("shared", ("handoff",), 1, ()),
    "barrier": Setting("shared", ("handoff",), 1, tuple(Fault(at, "outage", 0, 6.0) for at in (1.0, 9.5))),
    "deduplication": Setting("shared", ("ledger",), 1, ()),
}

# What the oracle must say then: a run that fails for another reason proves nothing.
FOUND: dict[str, str] = {
    "transaction": "stands there 2 times",
    "fence": "stands there 2 times",
    "promise": "raised before any mark allowed it",
    "barrier": "which the mark covers",
    "deduplication": "stands there 2 times",
}
