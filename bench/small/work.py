"""The small work every engine is given: tickets of accounts, as bytes, made from a seed; few of them are no events.

The records are CloudEvents of `crm.interactions` with the attributes that the contract of events asks for and no
other. Their keys are spread evenly over the accounts. The number of a record stands in its id.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

SEED = 20261102
TYPE = "steward.ticket.opened.v1"
BEGIN = 1_736_150_400  # 2025-01-06T08:00:00Z: in the past for whoever runs it, because engines refuse the future
SECONDS_IN_DAY = 86_400
SPOILED_EVERY = 997  # a prime, so that spoiled records fall into every partition and every fetch
CONTRACT = ("bench/small", "bench/peers")

Record = tuple[bytes, bytes]  # key and value


def records(count: int, accounts: int, *, each_first: bool = False) -> Iterator[Record]:
    """Keys and values in order; the same for the same arguments, and a shorter work is the beginning of a longer.

    `each_first`: the first events are one for each account.
    """
    chance = random.Random(SEED)
    for number in range(count):
        drawn = chance.randrange(accounts)
        account = f"acct-{number if each_first and number < accounts else drawn:07d}"
        event = _event(number, account, chance.randrange(1, 5))
        if number % SPOILED_EVERY == SPOILED_EVERY - 1:
            _spoil(event, number // SPOILED_EVERY)
        yield account.encode(), json.dumps(event, separators=(",", ":")).encode()


def _event(number: int, account: str, severity: int) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": f"opened-{number:08d}",
        "source": "helpdesk",
        "type": TYPE,
        "subject": account,
        "time": _written(BEGIN + number),
        "partitionkey": account,
        "data": {"ticket": f"T-{number:08d}", "severity": severity},
    }


def _written(second: int) -> str:
    """A second since 1970 as events write it; of the two weeks of the work, without a calendar."""
    day, rest = divmod(second - BEGIN + 8 * 3600, SECONDS_IN_DAY)
    return f"2025-01-{6 + day % 25:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}Z"


def _spoil(event: dict[str, object], nth: int) -> None:
    """Break one rule of the contract, in turn."""
    data = event["data"]
    assert isinstance(data, dict)
    match nth % 8:
        case 0:
            data["severity"] = 5
        case 1:
            data["severity"] = 0
        case 2:
            data["severity"] = "high"
        case 3:
            data["severity"] = True
        case 4:
            del data["ticket"]
        case 5:
            event["time"] = "2025-01-06T08:00:00"  # no zone
        case 6:
            event["id"] = ""
        case _:
            del event["source"]


def digest(given: Iterable[Record]) -> str:
    """The identity of the records; results with different digests must not be compared."""
    told = sha256()
    for key, value in given:
        told.update(key + value)
    return told.hexdigest()


def contract(root: Path) -> Mapping[str, str]:
    """A hash of each file that says what is done by whom: whoever changes one has made a different bench."""
    files = [path for folder in CONTRACT for path in sorted((root / folder).rglob("*")) if path.is_file()]
    wanted = [path for path in files if path.suffix in {".py", ".java", ".xml"}]
    return {path.relative_to(root).as_posix(): sha256(path.read_bytes()).hexdigest() for path in wanted}
