"""A pytest plugin: in CI, tests marked `kafka` must run, and as many must pass as kafka-tests.txt says.

Without it a broken Java or Maven would turn every test on Apache Kafka into a skip and leave the run green.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

FLOOR = Path(__file__).with_name("kafka-tests.txt")


class KafkaFloor:
    """Counts passed tests on Apache Kafka and ends the run as failed when there are fewer than the floor."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.passed = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if item.get_closest_marker("kafka") is None:
            return report
        if report.skipped and not hasattr(report, "wasxfail"):
            report.outcome = "failed"
            report.longrepr = f"A test on Apache Kafka must not be skipped in CI: {report.longrepr}"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # With several workers this is where the reports of all of them come together.
        self.passed += report.when == "call" and report.passed and "kafka" in report.keywords

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):  # one of several workers: only the whole run is judged
            return
        green = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if green and self.passed < self.floor:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        sentence = f"{self.passed} tests on Apache Kafka passed; {FLOOR.name} asks for at least {self.floor}."
        terminalreporter.write_sep("=", sentence, red=self.passed < self.floor)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true" and not config.option.collectonly:
        config.pluginmanager.register(KafkaFloor(int(FLOOR.read_text())), "kafka-floor-counter")
