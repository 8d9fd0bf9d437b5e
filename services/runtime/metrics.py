"""The metrics catalogue and the one door to prometheus_client; labels are enums, never an account or a person."""

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


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
    ingest_requests: Counter = field(init=False)
    ingest_events: Counter = field(init=False)
    ingest_rejections: Counter = field(init=False)
    ingest_seconds: Histogram = field(init=False)
    ingest_inflight: Gauge = field(init=False)
    unknown_types: Counter = field(init=False)
    alert_decisions: Counter = field(init=False)
    deliveries: Counter = field(init=False)
    delivery_attempts: Counter = field(init=False)
    delivery_seconds: Histogram = field(init=False)
    outbox_pending: Gauge = field(init=False)
    band_changes: Counter = field(init=False)
    coverage: Histogram = field(init=False)
    view_records: Counter = field(init=False)
    view_age: Gauge = field(init=False)

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

        self._declare_ingest(counter, gauge)
        self._declare_outside(counter, gauge)

    def _declare_ingest(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self.ingest_requests = counter("ingest_requests_total", "Requests by their answer.", "source", "code")
        self.ingest_events = counter("ingest_events_total", "Facts by what became of them.", "source", "outcome")
        self.ingest_rejections = counter("ingest_rejections_total", "Refusals by their reason.", "source", "reason")
        self.ingest_seconds = Histogram(
            "steward_ingest_request_seconds",
            "A request, acknowledgement of the broker included.",
            ("route",),
            registry=self.registry,
            buckets=FAST,
        )
        self.ingest_inflight = gauge("ingest_inflight_bytes", "Bodies being taken in.")
        self.unknown_types = counter(
            "unknown_types_total", "What a vendor sent and its map does not know; kept on dlq.ingest.", "source"
        )

    def _declare_outside(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self.alert_decisions = counter("alert_decisions_total", "Decisions of case and desk.", "stage", "reason")
        self.deliveries = counter("deliveries_total", "Deliveries that ended.", "channel", "outcome")
        self.delivery_attempts = counter("delivery_attempts_total", "Attempts by their answer.", "channel", "code")
        self.delivery_seconds = Histogram(
            "steward_delivery_seconds", "One attempt.", ("channel",), registry=self.registry, buckets=FAST
        )
        self.outbox_pending = gauge("outbox_pending", "Attempts under way.", "channel")
        self.band_changes = counter("band_changes_total", "Accounts that came to a band.", "to", "cause")
        self.coverage = Histogram(
            "steward_coverage_ratio", "Coverage of published scores.", registry=self.registry, buckets=SHARES
        )
        self.view_records = counter("view_records_total", "Records folded into the view.", "topic")
        self.view_age = gauge("view_age_seconds", "How far the view is behind the clock.")

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
