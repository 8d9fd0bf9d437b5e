"""The pure parts of the benches of latency and recovery: a wrong figure there would look like a measured one."""

from datetime import UTC, datetime, timedelta

import pytest

from bench.exactness import Counts, compare
from bench.failover import Outputs, longest_gap
from bench.goals import Goal, milliseconds
from bench.load import half_load
from bench.opened import BREACHED, CHANGED, naming, opened
from bench.running import stalled, total
from bench.states import PROCESSORS, copies, made, name_of
from schemas import codec
from schemas.handoffs import HandoffChanged, SlaBreached
from schemas.topics import OWNERSHIP
from services.core.instants import instant
from services.core.policy import Policies
from services.core.processor import Context, Fact
from services.handoff.app import read_policy
from services.handoff.processor import HandoffProcessor
from services.runtime.engine.store import pack
from services.runtime.first_policy import first_version
from tests.outputs import events_of
from tests.pipeline import ROOT

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


# --- distributions and goals --------------------------------------------------------------------------------------


def test_percentiles_are_those_of_the_sorted_durations_in_milliseconds() -> None:
    seconds = [number / 1000 for number in reversed(range(1, 102))]  # 1 to 101 ms
    assert milliseconds(seconds) == {"p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 101.0}


def test_one_duration_is_every_percentile() -> None:
    assert milliseconds([0.0042]) == {"p50": 4.2, "p95": 4.2, "p99": 4.2, "max": 4.2}


def test_nothing_measured_has_no_distribution() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        milliseconds([])


@pytest.mark.parametrize(
    ("found", "at_least", "is_met"),
    [(5.0, False, True), (5.1, False, False), (5.0, True, True), (4.9, True, False)],
)
def test_a_goal_is_met_up_to_its_limit_and_a_miss_is_said(found: float, at_least: bool, is_met: bool) -> None:
    goal = Goal("a figure", found, 5.0, "s", at_least=at_least)
    assert goal.is_met == is_met
    assert ("MISSED" in goal.line) is not is_met


# --- counting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        pytest.param(["a", "b", "c"], Counts(3, 3, 0, 0, 0), id="exact"),
        pytest.param(["a", "c"], Counts(3, 2, 1, 0, 0, ("b",)), id="lost"),
        pytest.param(["a", "b", "b", "b", "c"], Counts(3, 5, 0, 2, 0, ("b",)), id="twice too often"),
        pytest.param(["a", "b", "c", "x", "x"], Counts(3, 5, 0, 0, 2, ("x",)), id="never sent"),
        pytest.param(["a", "a", "x"], Counts(3, 3, 2, 1, 1, ("a", "b", "c", "x")), id="as many, and all wrong"),
    ],
)
def test_what_was_lost_doubled_or_never_sent_is_counted_by_name(came: list[str], expected: Counts) -> None:
    found = compare(["a", "b", "c"], came)
    assert found == expected
    assert found.is_exact == (came == ["a", "b", "c"])


def test_the_longest_silence_counts_the_beginning_and_the_end() -> None:
    assert longest_gap([1.0, 2.0, 2.5, 9.0], since=1.5, until=4.0) == 1.5
    assert longest_gap([], since=1.0, until=4.0) == 3.0


def test_an_output_of_an_event_sent_before_the_kill_shows_no_failover() -> None:
    outputs = Outputs(scheduled={"before": 9.9, "after": 10.1})
    outputs.came[2] = [(10.2, "before"), (17.0, "after")]
    assert outputs.first_after(10.0, 2) == 17.0
    assert outputs.first_after(10.0, 3) is None


# --- load ---------------------------------------------------------------------------------------------------------


def test_half_load_is_bounded_by_the_busiest_process_alone() -> None:
    # 0.1 idle and 2 ms an event: full at 450 a second.
    assert half_load({"a": 0.1, "b": 0.0}, {"a": 0.3, "b": 0.01}, 100, cores=8) == pytest.approx(225)


def test_half_load_is_bounded_by_all_processes_together() -> None:
    # 0.2 idle of 2 cores and 4 ms an event in all: full at 450 a second, each process alone at 900.
    idle, busy = {"a": 0.1, "b": 0.1}, {"a": 0.3, "b": 0.3}
    assert half_load(idle, busy, 100, cores=2) == pytest.approx(0.5 * 1.8 / 0.004)
    assert half_load(idle, busy, 100, cores=1) == pytest.approx(0.5 * 0.8 / 0.004)


def test_a_load_that_shows_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="show in no process"):
        half_load({"a": 0.1}, {"a": 0.1}, 100, cores=2)


def test_a_metric_is_summed_over_its_labels_and_no_other_with_a_longer_name() -> None:
    exposed = '# HELP steward_x x\nsteward_x{partition="0"} 2.0\nsteward_x{partition="1"} 3.5\nsteward_x_total 9.0\n'
    assert total(exposed, "steward_x") == 5.5
    assert total("steward_y 4.0\n", "steward_y") == 4.0


def test_the_pressure_is_that_of_the_last_minute() -> None:
    assert stalled("some avg10=99.37 avg60=12.50 avg300=1.00 total=13405737727\nfull avg10=0.00 avg60=0.00\n") == 12.5


# --- what is written and read -------------------------------------------------------------------------------------


@pytest.mark.parametrize("processor", PROCESSORS)
def test_copied_states_are_what_the_processor_reads_and_bear_their_own_names(processor: str) -> None:
    one = PROCESSORS[processor]()
    few = made(processor, NOW, count=3)
    pairs = dict(copies(few, 7))
    assert [key.decode() for key in pairs] == [name_of(number) for number in range(7)]
    for raw, dues in pairs.values():
        state = one.decode(raw[1:], raw[0])
        assert pack(one.dues(state)) == dues  # type: ignore[arg-type]  # as above
        assert bytes([one.version]) + one.encode(state) == raw  # type: ignore[arg-type]  # of its own kind
    names = {name_of(number).encode() for number in range(7)}
    assert all([name for name in names if name in raw] == [key] for key, (raw, _) in pairs.items())


def test_an_output_is_named_by_its_handoff_if_it_is_of_the_type_that_is_waited_for() -> None:
    outputs = [codec.encode(event) for event in _outputs_of(opened("h-1", "acme", kind="ticket", at=NOW))]
    assert [naming(CHANGED)(value) for value in outputs] == ["h-1", None]
    assert [naming(BREACHED)(value) for value in outputs] == [None, "h-1"]


def _outputs_of(fact: bytes) -> list[HandoffChanged | SlaBreached]:
    """The state of a handoff, and its breach after ten hours."""
    policies = Policies()
    for event in first_version(read_policy(ROOT / "deploy/policy/steward.yaml"), instant(NOW)):
        policies = policies.after(event)
    event, late = codec.decode(OWNERSHIP, fact), instant(NOW + timedelta(hours=10))
    decision = HandoffProcessor().decide(
        "acme",
        HandoffProcessor().empty(),
        [Fact(OWNERSHIP, event, instant(NOW))],
        Context(late, late, policies=policies),
    )
    return [event for event in events_of(decision.outputs) if isinstance(event, HandoffChanged | SlaBreached)]
