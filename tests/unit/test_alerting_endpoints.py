"""What the desk does when the endpoints of the installation are others than when a notice came."""

import pytest

from services.alerting.desk import DeskProcessor
from tests.alerting_timeline import Office, verdict
from tests.builders import minute

OLD = 10_000  # minutes after the verdict was due: too old to be told singly


@pytest.mark.parametrize(
    ("before", "after"),
    [(("log",), ("log", "webhook")), (("log", "webhook"), ("log",)), (("log",), ("webhook",))],
    ids=["one more", "one less", "another"],
)
def test_a_digest_goes_to_the_endpoints_that_there_are_when_it_closes(
    before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    office = Office(endpoints=before, at=minute(OLD))
    office.hears(verdict())
    for recipient in ("ada", "max"):
        office.desk_reads(recipient, 9)
    office.desk_processor = DeskProcessor(after)
    office.until(OLD + 5)
    assert {(attempt.recipient, attempt.endpoint) for attempt in office.sent} == {
        (recipient, endpoint) for recipient in ("ada", "max") for endpoint in after
    }
    assert [known.content for desk in office.desks.values() for known in desk.known.values()] == [None, None]
