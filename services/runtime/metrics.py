"""The metrics catalogue and the one door to prometheus_client; labels are enums, never an account or a person."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
WIDE = (*FAST[3:], 60.0, 300.0, 900.0, 3600.0, 86_400.0)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Phase(StrEnum):
    """Of a flush. Whoever wants the whole adds them up."""

    BEGIN = "begin"
    WRITE = "write"  # every record acknowledged
    COMMIT = "commit"


class Timer(StrEnum):
    """What a due time waited for."""

    LIVE = "live"
    RUN = "run"
    CLOCK = "clock"


@dataclass(slots=True)
class Metrics:
    """Everything Steward measures, declared once. `text()` is what /metrics answers."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    records: Counter = field(init=False)
    dead_letters: Counter = field(init=False)
    fired: Counter = field(init=False)
    lateness: Histogram = field(init=False)
    overdue: Gauge = field(init=False)
    ignored_marks: Counter = field(init=False)
    armed: Gauge = field(init=False)
    accounts: Gauge = field(init=False)
    assigned: Gauge = field(init=False)
    ready: Gauge = field(init=False)
    clock_time: Gauge = field(init=False)
    clock_age: Gauge = field(init=False)
    promise: Gauge = field(init=False)
    lag_records: Gauge = field(init=False)
    lag: Gauge = field(init=False)
    caught_up: Gauge = field(init=False)
    committed: Gauge = field(init=False)
    event_to_output: Histogram = field(init=False)
    batch: Histogram = field(init=False)
    loop_lag: Histogram = field(init=False)
    state_bytes: Gauge = field(init=False)
    restore_remaining: Gauge = field(init=False)
    restored: Counter = field(init=False)
    restore_seconds: Gauge = field(init=False)
    rebalances: Counter = field(init=False)
    flush_seconds: Histogram = field(init=False)
    flush_failures: Counter = field(init=False)
    zombie_writes: Counter = field(init=False)
    letters: Gauge = field(init=False)
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
        self.ignored_marks = counter(
            "clock_marks_ignored_total",
            "Records on cs.clock that are no marks, or marks ahead of their append time.",
            "processor",
        )
        self.assigned = gauge("assigned_partitions", "Partitions this process owns.", "processor")
        self.ready = gauge("ready", "1 when every assigned partition is restored and serving.", "processor")
        self.clock_time = gauge(
            "clock_timestamp_seconds", "The mark in effect, seconds since 1970.", "processor", "partition"
        )
        self.restored = counter("restored_records_total", "Changelog records read at assignment.", "processor")
        self.restore_seconds = gauge("restore_seconds", "How long the last restore took.", "processor")
        self.rebalances = counter("rebalances_total", "Assignments of partitions.", "processor")
        self.flush_failures = counter("flush_failures_total", "Flushes that were refused or timed out.", "processor")
        self.zombie_writes = counter(
            "zombie_writes_total", "Flushes refused because another process has the partition.", "processor"
        )
        self.letters = gauge(
            "dlq_records", "Offsets that a topic of dead letters holds; markers of transactions count.", "topic"
        )
        self._declare_stream(gauge)
        self._declare_time(counter, gauge)
        self._declare_ingest(counter, gauge)
        self._declare_outside(counter, gauge)

        build = gauge("build_info", "1; what runs stands in the labels.", "version", "faust", "aiokafka", "python")
        build.labels(*map(_version, ("steward", "faust-streaming", "aiokafka")), platform.python_version()).set(1)

    def _declare_stream(self, gauge: Callable[..., Gauge]) -> None:
        place = "processor", "partition"
        self.lag_records = gauge(
            "consumer_lag_records",
            "From what has been read to the end of the topic.",
            "processor",
            "topic",
            "partition",
        )
        self.lag = gauge("lag_seconds", "For how long the oldest unread record has waited; 0 when caught up.", *place)
        self.caught_up = gauge("caught_up", "1 when all is read that stood in the inputs a moment ago.", *place)
        self.committed = gauge("committed_offset", "Where a restart would go on.", "processor", "topic", "partition")
        self.accounts = gauge("state_accounts", "Keys in state.", *place)
        self.state_bytes = gauge("state_bytes", "Of the states as they stand in the changelog.", *place)
        self.restore_remaining = gauge(
            "restore_remaining_records", "Offsets of the changelog still to be read.", *place
        )
        self.event_to_output = Histogram(
            "steward_event_to_output_seconds",
            "From the append of a flush's oldest record to its commit.",
            ("processor",),
            registry=self.registry,
            buckets=WIDE,
        )
        self.batch = Histogram(
            "steward_batch_records",
            "Records that one fetch brought of a partition.",
            registry=self.registry,
            buckets=COUNTS,
        )
        self.flush_seconds = Histogram(
            "steward_flush_seconds",
            "One transaction, by its phases.",
            ("processor", "phase"),
            registry=self.registry,
            buckets=FAST,
        )
        self.loop_lag = Histogram(
            "steward_loop_lag_seconds",
            "How late the main loop comes to what is due.",
            registry=self.registry,
            buckets=FAST,
        )

    def _declare_time(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        place = "processor", "partition"
        self.clock_age = gauge("clock_age_seconds", "Since the mark in effect; +Inf before the first.", *place)
        self.promise = gauge(
            "promise_timestamp_seconds",
            "Up to when a source with heartbeats is complete, seconds since 1970.",
            "source",
        )
        self.armed = gauge("timers_armed", "Due times that wait.", *place)
        self.fired = counter(
            "timers_fired_total", "Due times that fired, by what they waited for.", "processor", "kind"
        )
        self.lateness = Histogram(
            "steward_timer_lateness_seconds",
            "How far the clock was past a due time that fired; without those of runs.",
            registry=self.registry,
            buckets=WIDE,
        )
        self.overdue = gauge("timer_oldest_overdue_seconds", "The oldest due time that should have fired.", *place)

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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a folder, not installed
        return "unknown"
