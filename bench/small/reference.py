"""What every system must answer for the small work: the contract in naive Python, which no peer imports."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bench.small.work import TYPE, Record

WORST = 4
ID = re.compile(r"[^\x00-\x1f]{1,200}")

Values = tuple[int, int, int, str]  # count, total, worst, last
NOTHING: Values = (0, 0, WORST, "")


@dataclass(slots=True)
class Answer:
    """States by key; for each key a fingerprint of its outputs in order; the last output's id of each partition.

    Fingerprints hold within one process only: Python salts its hashes.
    """

    states: dict[bytes, Values] = field(default_factory=dict)
    told: dict[bytes, int] = field(default_factory=dict)
    last: dict[int, str] = field(default_factory=dict)
    outputs: int = 0

    def hear(self, key: bytes, value: bytes | None) -> None:
        """One output, in order within its key."""
        self.told[key] = hash((self.told.get(key, 0), value))
        self.outputs += 1


def answer(records: Iterable[Record], partition_of: Callable[[bytes], int]) -> Answer:
    """Reduce records one by one."""
    found = Answer()
    for key, value in records:
        event = read(key, value)
        if event is None:
            continue
        values = after(found.states.get(key, NOTHING), event["data"])
        found.states[key] = values
        found.hear(key, written(event, values))
        found.last[partition_of(key)] = event["id"]
    return found


def read(key: bytes, value: bytes) -> dict[str, Any] | None:
    """The event in a record; None where it breaks a rule."""
    try:
        event = json.loads(value)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("specversion") != "1.0" or event.get("type") != TYPE:
        return None
    if event.get("datacontenttype", "application/json") != "application/json":
        return None
    if not all(is_id(event.get(name)) for name in ("id", "source", "subject", "partitionkey")):
        return None
    if event["partitionkey"].encode() != key or not is_time(event.get("time")):
        return None
    data = event.get("data")
    if not isinstance(data, dict) or not is_id(data.get("ticket")):
        return None
    severity = data.get("severity")
    return event if type(severity) is int and 1 <= severity <= WORST else None


def is_id(value: object) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def is_time(value: object) -> bool:
    """A time with its zone, from 1990 to 2199."""
    if not isinstance(value, str):
        return False
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return False
    return at.tzinfo is not None and 1990 <= at.year < 2200


def after(values: Values, data: dict[str, Any]) -> Values:
    """An account's values after one more ticket."""
    count, total, worst, _ = values
    return count + 1, total + data["severity"], min(worst, data["severity"]), data["ticket"]


def written(event: dict[str, Any], values: Values) -> bytes:
    """The output, byte for byte: no spaces, attributes in this order."""
    told = {
        "specversion": "1.0",
        "id": event["id"],
        "source": "bench",
        "type": "bench.account.tallied.v1",
        "subject": event["partitionkey"],
        "time": event["time"],
        "datacontenttype": "application/json",
        "partitionkey": event["partitionkey"],
        "sourcerank": 100,
        "data": dict(zip(("count", "total", "worst", "last"), values, strict=True)),
    }
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def differences(name: str, expected: Answer, found: Answer, shown: int = 3) -> list[str]:
    """How a system's answer differs from the expected one, a line each; none: equal."""
    keys = expected.states.keys() | found.states.keys()
    states = sorted(key for key in keys if expected.states.get(key) != found.states.get(key))
    told = sorted(
        key for key in expected.told.keys() | found.told.keys() if expected.told.get(key) != found.told.get(key)
    )
    if not states and not told and expected.outputs == found.outputs:
        return []
    return [
        f"{name}: {len(states):,} states differ, outputs of {len(told):,} accounts; "  # noqa: ISC004  # one sentence in two lines
        f"{found.outputs:,} outputs, not {expected.outputs:,}",
        *(
            f"  state of {key.decode()}: {found.states.get(key)}, not {expected.states.get(key)}"
            for key in states[:shown]
        ),
        *(f"  outputs of {key.decode()} differ" for key in told[:shown]),
    ]
