"""The floor under the number of tests on Apache Kafka, tried on small runs of its own."""

import pytest

from tests import kafka_floor

pytest_plugins = ["pytester"]

PASSING = "import pytest\n@pytest.mark.kafka\ndef test_it(): pass\n"
SKIPPED = "import pytest\n@pytest.mark.kafka\ndef test_it(): pytest.skip('no Java')\n"
ABSENT = "def test_other(): pass\n"


@pytest.mark.parametrize(
    ("ci", "source", "code"),
    [
        pytest.param("true", PASSING, 0, id="enough"),
        pytest.param("true", SKIPPED, 1, id="skipped in CI"),
        pytest.param("true", ABSENT, 1, id="none in CI"),
        pytest.param("", SKIPPED, 0, id="skipped at home"),
        pytest.param("", ABSENT, 0, id="none at home"),
    ],
)
def test_the_floor_holds_in_ci_only(
    ci: str, source: str, code: int, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    floor = pytester.makefile(".txt", floor="1")
    monkeypatch.setattr(kafka_floor, "FLOOR", floor)
    pytester.makeini("[pytest]\nmarkers = kafka: needs Apache Kafka\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(source)
    assert pytester.runpytest_inprocess("-p", "tests.kafka_floor").ret == code
