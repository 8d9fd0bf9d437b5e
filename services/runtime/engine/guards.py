"""Checks at start that Faust and aiokafka still have the internals which the engine relies on.

None of these is a promise of theirs. A hook that nobody calls any more fails in no test of a caught-up worker: records
would be read uncommitted, or a partition would go on from Faust's own offsets.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from inspect import Parameter
from types import CodeType
from typing import Any

from services.core.errors import OperatorError

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


class Moved(OperatorError):
    """What the engine relies on in Faust or aiokafka is not there any more."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Something of theirs: `place` is module:object, `takes` how it is called, `names` what its code must mention.

    Attributes that only a constructor sets are seen in its code, and so is who calls what we override.
    """

    place: str
    takes: str = ""
    names: tuple[str, ...] = ()


_APP = "faust.app.base:App"
_CONSUMER = "faust.transport.consumer:Consumer"
_DELEGATE = "faust.transport.consumer:ThreadDelegateConsumer"
_DRIVER = "faust.transport.drivers.aiokafka"
_THREAD = f"{_DRIVER}:AIOKafkaConsumerThread"
_RAW = "aiokafka.consumer.consumer:AIOKafkaConsumer"
_GROUP = "aiokafka.consumer.group_coordinator:GroupCoordinator"
_FETCHER = "aiokafka.consumer.fetcher:Fetcher"
_STATE = "aiokafka.consumer.subscription_state"
_PRODUCER = "aiokafka.producer.producer:AIOKafkaProducer"

HOOKS = (
    # What we put in Faust's place, and who asks for it.
    Hook(f"{_APP}._new_transport", "(self)"),
    Hook(f"{_APP}.transport", names=("_new_transport",)),
    Hook("faust.transport.base:Transport.create_consumer", "(self, callback, **kwargs)", ("Consumer",)),
    Hook(f"{_DRIVER}:Transport.Consumer"),
    Hook(f"{_DRIVER}:Consumer._new_consumer_thread", "(self)"),
    Hook(f"{_DELEGATE}.__init__", names=("_thread", "_new_consumer_thread")),
    Hook(f"{_THREAD}._create_consumer", names=("_create_worker_consumer",)),
    Hook(f"{_THREAD}._create_worker_consumer", "(self, transport)", ("AIOKafkaConsumer", "table_standby_replicas")),
    Hook(f"{_APP}._create_directories", "(self)"),
    # The rebalance: ours is awaited before Faust's, and the seek comes after both.
    Hook(f"{_APP}._new_consumer", names=("_on_partitions_revoked", "_on_partitions_assigned")),
    Hook(f"{_APP}._on_partitions_revoked", "async (self, revoked)"),
    Hook(f"{_APP}._on_partitions_assigned", "async (self, assigned, generation_id=)"),
    Hook(f"{_CONSUMER}.on_partitions_assigned", names=("_on_partitions_assigned",)),
    Hook(f"{_DRIVER}:ConsumerRebalanceListener.on_partitions_assigned", names=("generation", "consumer_generation_id")),
    Hook("faust.tables.recovery:Recovery._resume_streams", names=("resume_flow", "perform_seek")),
    Hook(f"{_CONSUMER}.perform_seek", "async (self)"),
    Hook(f"{_APP}.on_stop", "async (self)"),
    # The drain.
    Hook("faust.transport.consumer:Fetcher._fetcher", names=("_drain_messages",)),
    Hook(f"{_CONSUMER}._drain_messages", "async (self, fetcher)", ("_stopped", "consumer_stopped_errors")),
    Hook(f"{_CONSUMER}._wait_next_records", "async (self, timeout)", ("flow_active", "_getmany")),
    Hook(f"{_DELEGATE}._getmany", "async (self, active_partitions, timeout)"),
    Hook(f"{_CONSUMER}.flow_active"),
    Hook(f"{_CONSUMER}.stop_flow", "(self)", ("flow_active",)),
    Hook("mode.services:Service.__init__", names=("_stopped",)),
    Hook(f"{_DELEGATE}.assignment", "(self)"),
    # The consumer's thread.
    Hook(f"{_THREAD}.on_start", "async (self)", ("_consumer", "start")),
    Hook(f"{_THREAD}._ensure_consumer", "(self)"),
    Hook(f"{_THREAD}.seek", "(self, partition, offset)"),
    Hook("mode.threads:QueueServiceThread.call_thread", "async (self, fun, *args, **kwargs)"),
    # aiokafka's consumer: metadata asked for at once; what its constructor keeps and start() hands to the fetcher.
    Hook("aiokafka.client:AIOKafkaClient.add_topic", "(self, topic)"),
    Hook(
        f"{_RAW}.__init__",
        names=(
            "_client",
            "_isolation_level",
            "_fetch_max_wait_ms",
            "_max_partition_fetch_bytes",
            "_subscription",
            "_fetcher",
        ),
    ),
    Hook(
        f"{_RAW}.start",
        "async (self)",
        ("_isolation_level", "_fetch_max_wait_ms", "_max_partition_fetch_bytes", "_fetcher", "_coordinator"),
    ),
    Hook(f"{_FETCHER}._proc_fetch_request", "async (self, assignment, node_id, request)", ("_records",)),
    Hook(f"{_FETCHER}._fetch_requests_routine", names=("_proc_fetch_request",)),
    # A restore takes records as they stand in their batch.
    Hook(f"{_FETCHER}.__init__", names=("_records",)),
    Hook("aiokafka.consumer.fetcher:FetchResult.__init__", names=("_partition_records",)),
    Hook("aiokafka.consumer.fetcher:PartitionRecords._unpack_records", names=("_consumer_record",)),
    Hook("aiokafka.consumer.fetcher:PartitionRecords._consumer_record", "(self, tp, record)"),
    Hook(f"{_STATE}:SubscriptionState.subscription"),
    Hook(f"{_STATE}:Subscription.assignment"),
    Hook(f"{_STATE}:Assignment.state_value", "(self, tp)"),
    Hook(f"{_STATE}:TopicPartitionState.position"),
    Hook(f"{_STATE}:TopicPartitionState.has_valid_position"),
    # Requests of our own.
    Hook("aiokafka.client:AIOKafkaClient.send", "async (self, node_id, request, *, group=)"),
    Hook("aiokafka.client:AIOKafkaClient.coordinator_lookup", "async (self, coordinator_type, coordinator_key)"),
    Hook("aiokafka.conn:AIOKafkaConnection.send", names=("prepare", "build_request_header")),
    Hook("aiokafka.conn:AIOKafkaConnection._handle_frame", names=("parse_response_header", "RESPONSE_TYPE")),
    # Are we still a member?
    Hook(f"{_GROUP}.__init__", names=("generation",)),
    Hook(f"{_GROUP}._heartbeat_routine", names=("_do_heartbeat",)),
    Hook(f"{_GROUP}._do_heartbeat", "async (self)", ("generation",)),
    # The flush.
    Hook(f"{_PRODUCER}.begin_transaction", "async (self)"),
    Hook(f"{_PRODUCER}.commit_transaction", "async (self)"),
    Hook(f"{_PRODUCER}.create_batch", "(self)"),
    Hook(f"{_PRODUCER}.send_batch", "async (self, batch, topic, *, partition)"),
    Hook("aiokafka.producer.message_accumulator:BatchBuilder.append", "(self, *, timestamp, key, value, headers=)"),
    Hook("aiokafka.partitioner:murmur2", "(data)"),
)


def check() -> None:
    """Raises Moved with a sentence about the first thing that is not as the engine needs it."""
    for package, version in PINNED.items():
        if (installed := metadata.version(package)) != version:
            raise _moved(f"{package} must be {version}, but {installed} is installed")
    for hook in HOOKS:
        if found := _amiss(hook):
            raise _moved(found)


def _amiss(hook: Hook) -> str:
    """What is wrong with a hook, in words; empty when nothing is."""
    there = _find(hook.place)
    if there is None:
        return f"{hook.place} is not there"
    function = _function(there)
    if hook.takes and (taken := _called(function)) != hook.takes:
        return f"{hook.place} must be called as {hook.takes}, but it is called as {taken}"
    if hook.names and (missing := sorted(set(hook.names) - set(_mentioned(function)))):
        return f"{hook.place} must use {', '.join(missing)}, but it does not"
    return ""


def _find(place: str) -> Any:
    """The object itself; a property or a task unbound. None unless it stands at this very place."""
    module, _, way = place.partition(":")
    try:
        found: Any = import_module(module)
        for name in way.split("."):
            # Not what a class inherits under the same name: that is another implementation.
            found = vars(found)[name]
    except (ImportError, KeyError, TypeError):
        return None
    return found


def _function(found: Any) -> Any:
    if isinstance(found, property):
        return found.fget
    # A task of Faust's services keeps its function under `fun`.
    return inspect.unwrap(getattr(found, "fun", found))


_STARS: dict[int, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def _called(function: Any) -> str:
    """As `takes` writes it: names, stars and whether there is a default, without annotations."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "nothing that can be called"
    shown = [
        f"{_STARS.get(one.kind, '')}{one.name}{'' if one.default is Parameter.empty else '='}" for one in parameters
    ]
    keywords = [index for index, one in enumerate(parameters) if one.kind is Parameter.KEYWORD_ONLY]
    if keywords and not any(one.kind is Parameter.VAR_POSITIONAL for one in parameters):
        shown.insert(keywords[0], "*")
    return f"{'async ' if inspect.iscoroutinefunction(function) else ''}({', '.join(shown)})"


def _mentioned(function: Any) -> Iterator[str]:
    """Every name that a function's code uses, that of the functions inside it included."""
    waiting = [function.__code__] if hasattr(function, "__code__") else []
    while waiting:
        code = waiting.pop()
        yield from code.co_names
        waiting += [inner for inner in code.co_consts if isinstance(inner, CodeType)]


def _moved(what: str) -> Moved:
    pins = ", ".join(f"{package} {version}" for package, version in PINNED.items())
    return Moved(
        f"the engine relies on internals of Faust and aiokafka that have moved: {what}. It is proven with {pins}: "
        "install the versions of requirements.lock, or bring services/runtime/engine to the new ones and run "
        "tests/kafka and tests/fault before you change the pins in services/runtime/engine/guards.py"
    )
