"""Each protection is needed: without it the same kind of run is seen to fail."""

import asyncio
from pathlib import Path

import pytest

from services.runtime.embedded.server import Server
from tests.fault.campaign import Campaign
from tests.fault.controls import CONTROLS, FOUND
from tests.fault.protections import TAKEN_OFF

AT_ONCE = 3


@pytest.mark.kafka
@pytest.mark.slow
def test_without_any_one_protection_the_oracle_finds_what_is_wrong(kafka: Server, tmp_path: Path) -> None:
    assert asyncio.run(Campaign(tmp_path, AT_ONCE).run([], sorted(CONTROLS))) == []


def test_every_protection_has_a_control() -> None:
    assert CONTROLS.keys() == FOUND.keys() == TAKEN_OFF.keys()
