"""A few seeds of faults for every run of the tests, two of them new each time; `make test-faults` runs fifty."""

import asyncio
from pathlib import Path
from secrets import randbelow

import pytest

from services.runtime.embedded.server import Server
from tests.fault import nemesis
from tests.fault.campaign import Campaign
from tests.fault.scenario import LOAD_SECONDS

FIXED = (2, 6, 10, 13)  # both processors, a zombie, three nodes, a broker that is killed
AT_ONCE = 3


@pytest.mark.kafka
@pytest.mark.slow
def test_nothing_is_lost_doubled_reordered_or_raised_too_early_under_faults(kafka: Server, tmp_path: Path) -> None:
    drawn = [randbelow(1_000_000) for _ in range(2)]
    print(f"seeds {FIXED}, and drawn: {drawn}; replay one: python -m tests.fault --only SEED")
    campaign = Campaign(tmp_path, AT_ONCE)
    failed = asyncio.run(campaign.run([*FIXED, *drawn]))
    assert failed == [], f"drawn seeds were {drawn}\n" + "\n".join(failed)


def test_a_seed_always_gives_the_same_faults_and_one_of_them_hits_a_flush() -> None:
    for seed in range(200):
        setting = nemesis.setting(seed, LOAD_SECONDS)
        assert setting == nemesis.setting(seed, LOAD_SECONDS)
        assert any(fault.point is not None for fault in setting.faults)
    assert len({str(nemesis.setting(seed, LOAD_SECONDS)) for seed in range(200)}) == 200


def test_fifty_seeds_use_every_fault() -> None:
    settings = [nemesis.setting(seed, LOAD_SECONDS) for seed in range(1, 51)]
    used = {fault.name for setting in settings for fault in setting.faults}
    assert used == set(nemesis.NAMES)
    assert {setting.kind for setting in settings} == {"shared", "broker", "cluster"}
