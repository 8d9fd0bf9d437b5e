"""The metrics catalogue and the one door to prometheus_client; labels are enums, never an account or a person."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class Metrics:
    """Everything Steward measures, declared once. `text()` is what /metrics answers."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    records: Counter = field(init=False)
    dead_letters: Counter = field(init=False)
    fired: Counter = field(init=False)
    ignored_marks: Counter = field(init=False)
    armed: Gauge = field(init=False)
    accounts: Gauge = field(init=False)
    assigned: Gauge = field(init=False)
    ready: Gauge = field(init=False)
    clock_time: Gauge = field(init=False)
    restored: Counter = field(init=False)
    restore_seconds: Gauge = field(init=False)
    rebalances: Counter = field(init=False)
    flush_seconds: Histogram = field(init=False)
    flush_failures: Counter = field(init=False)

    def __post_init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series and serve no scrape

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"steward_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"steward_{name}", text, labels, registry=self.registry)

        self.records = counter("records_total", "Records by what became of them.", "processor", "topic", "outcome")
        self.dead_letters = counter(
            "dead_letters_total", "Records kept as dead letters.", "processor", "topic", "reason"
        )
        self.fired = counter("timers_fired_total", "Due times that fired.", "processor")
        self.ignored_marks = counter(
            "clock_marks_ignored_total",
            "Records on cs.clock that are no marks, or marks ahead of their append time.",
            "processor",
        )
        self.armed = gauge("timers_armed", "Due times that wait.", "processor", "partition")
        self.accounts = gauge("state_accounts", "Keys in state.", "processor", "partition")
        self.assigned = gauge("assigned_partitions", "Partitions this process owns.", "processor")
        self.ready = gauge("ready", "1 when every assigned partition is restored and serving.", "processor")
        self.clock_time = gauge(
            "clock_timestamp_seconds", "The mark in effect, seconds since 1970.", "processor", "partition"
        )
        self.restored = counter("restored_records_total", "Changelog records read at assignment.", "processor")
        self.restore_seconds = gauge("restore_seconds", "How long the last restore took.", "processor")
        self.rebalances = counter("rebalances_total", "Assignments of partitions.", "processor")
        self.flush_seconds = Histogram(
            "steward_flush_seconds", "One transaction.", ("processor",), registry=self.registry, buckets=FAST
        )
        self.flush_failures = counter("flush_failures_total", "Flushes that were refused or timed out.", "processor")

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
