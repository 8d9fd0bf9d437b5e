"""The floor under the number of tests on Apache Kafka, tried on small runs of its own."""

import pytest

from tests import kafka_floor

pytest_plugins = ["pytester"]

PASSING = "import pytest\n@pytest.mark.kafka\ndef test_it(): pass\n"
SKIPPED = "import pytest\n@pytest.mark.kafka\ndef test_it(): pytest.skip('no Java')\n"
ABSENT = "def test_other(): pass\n"


ALONE = ()
TWO = ("--numprocesses", "2")


@pytest.mark.parametrize(
    ("ci", "source", "workers", "code"),
    [
        pytest.param("true", PASSING, ALONE, 0, id="enough"),
        pytest.param("true", SKIPPED, ALONE, 1, id="skipped in CI"),
        pytest.param("true", ABSENT, ALONE, 1, id="none in CI"),
        pytest.param("", SKIPPED, ALONE, 0, id="skipped at home"),
        pytest.param("", ABSENT, ALONE, 0, id="none at home"),
        pytest.param("true", PASSING, TWO, 0, id="enough with two workers"),
        pytest.param("true", SKIPPED, TWO, 1, id="skipped in CI with two workers"),
    ],
)
def test_the_floor_holds_in_ci_only(
    ci: str,
    source: str,
    workers: tuple[str, ...],
    code: int,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CI", ci)
    floor = pytester.makefile(".txt", floor="1")
    monkeypatch.setattr(kafka_floor, "FLOOR", floor)
    pytester.makeini("[pytest]\nmarkers = kafka: needs Apache Kafka\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(source)
    assert pytester.runpytest_inprocess("-p", "tests.kafka_floor", *workers).ret == code
