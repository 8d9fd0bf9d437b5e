"""Does to a run what the nemesis has decided, and undoes it at the end."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from random import Random

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from services.runtime.engine.names import CHANGELOG
from tests.fault.brokers import Ground
from tests.fault.nemesis import Fault, Setting
from tests.fault.oracle import CLOCK
from tests.fault.records import reader
from tests.fault.stack import PARTITIONS, Process, Role, Stack

TINY = {"max.message.bytes": "150"}  # less than any flush, more than the marker of a transaction, which must be written
ANSWER_SECONDS = 10.0
JOIN_SECONDS = 20.0
STOP_SECONDS = 60.0  # until a process that shall stop at a step has come to it


class Injector:
    """The faults of one run. Each takes its time; several may be under way at once."""

    def __init__(self, stack: Stack, ground: Ground, setting: Setting, random: Random) -> None:
        self._stack = stack
        self._ground = ground
        self._setting = setting
        self._random = random
        self._roles: tuple[Role, ...] = tuple(role for role in ("handoff", "ledger") if role in setting.roles)
        self._stopped: list[Process] = []
        self._refused: list[str] = []
        self._lost: list[int] = []

    async def run(self) -> None:
        """Every fault at its time; returns when all are over."""
        begun = time.monotonic()
        await asyncio.gather(*(self._at(begun, fault) for fault in self._setting.faults))

    async def heal(self) -> None:
        """Take back whatever still holds."""
        for process in self._stopped:
            process.signal(signal.SIGCONT)
        if self._ground.proxy is not None:
            self._ground.proxy.heal()
        for process in self._stack.processes:
            process.failpoint.unlink(missing_ok=True)

    async def _at(self, begun: float, fault: Fault) -> None:
        await asyncio.sleep(max(0.0, begun + fault.at - time.monotonic()))
        self._stack.note(f"{fault}")
        await self._doing()[fault.name](fault)

    def _doing(self) -> Mapping[str, Callable[[Fault], Awaitable[None]]]:
        return {
            "killed at": self._arm,
            "failed at": self._arm,
            "slept at": self._arm,
            "zombie at": self._zombie_at,
            "killed in takeover": self._takeover,
            "killed": self._killed,
            "stopped": self._paused,
            "outage": self._outage,
            "refused": self._refuse,
            "resets": self._resets,
            "black hole": self._black_hole,
            "slow network": self._slow,
            "storm": self._storm,
            "clock killed": self._clock_killed,
            "two clocks": self._two_clocks,
            "clock ahead": self._clock_ahead,
            "broker restarted": self._broker,
            "broker killed": self._broker,
            "leader lost": self._leader,
        }

    async def _victim(self, fault: Fault) -> Process:
        """One of the workers, waiting until there is one that serves."""
        while True:
            alive = [one for one in self._stack.alive(*self._roles) if one.said("serving")]
            if alive:
                return alive[fault.victim % len(alive)]
            await asyncio.sleep(0.2)

    async def _arm(self, fault: Fault) -> None:
        assert fault.point is not None
        (await self._victim(fault)).arm(fault.point)

    async def _zombie_at(self, fault: Fault) -> None:
        """Stopped by itself at a step, beyond its session; a second worker is there to take over."""
        assert fault.point is not None
        victim = await self._victim(fault)
        victim.arm(fault.point)
        if await _said(victim, "failpoint", STOP_SECONDS):
            self._stopped.append(victim)
            await self._woken_after(victim, fault.seconds)

    async def _paused(self, fault: Fault) -> None:
        victim = await self._victim(fault)
        victim.signal(signal.SIGSTOP)
        self._stopped.append(victim)
        await self._woken_after(victim, fault.seconds)

    async def _woken_after(self, victim: Process, seconds: float) -> None:
        """Let it sleep until a successor has what was its own, and some seconds more."""
        helper = self._stack.start(victim.role)
        await _said(helper, "serving", JOIN_SECONDS)
        await asyncio.sleep(seconds)
        victim.signal(signal.SIGCONT)
        await asyncio.sleep(1.0)
        helper.is_wanted = False
        helper.signal(signal.SIGTERM)

    async def _takeover(self, fault: Fault) -> None:
        assert fault.point is not None
        victim = await self._victim(fault)
        victim.arm(fault.point)
        await self._joining(victim.role, fault.seconds)

    async def _joining(self, role: Role, seconds: float) -> None:
        """A worker joins and leaves again."""
        guest = self._stack.start(role)
        await _said(guest, "serving", JOIN_SECONDS)
        await asyncio.sleep(seconds)
        guest.is_wanted = False
        guest.signal(signal.SIGTERM)

    async def _storm(self, fault: Fault) -> None:
        role = self._roles[fault.victim % len(self._roles)]
        for _ in range(2):
            await self._joining(role, fault.seconds)

    async def _killed(self, fault: Fault) -> None:
        (await self._victim(fault)).signal(signal.SIGKILL)

    async def _outage(self, fault: Fault) -> None:
        """Every worker is gone for a while; facts and marks go on."""
        role = self._roles[fault.victim % len(self._roles)]
        gone = self._stack.alive(role)
        for one in gone:
            one.is_wanted = False
            one.signal(signal.SIGKILL)
        await asyncio.sleep(fault.seconds)
        for one in gone:
            self._stack.start(one.role)

    async def _refuse(self, fault: Fault) -> None:
        """The broker refuses what is written to a changelog: every flush fails."""
        role = self._roles[fault.victim % len(self._roles)]
        topic = f"{self._stack.prefix}steward-{role}-state"
        await alter(self._ground.bootstrap, topic, {**CHANGELOG, **TINY})
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            await alter(self._ground.bootstrap, topic, CHANGELOG)

    async def _resets(self, fault: Fault) -> None:
        if self._ground.proxy is None:
            return
        for _ in range(3):
            self._ground.proxy.reset()
            await asyncio.sleep(fault.seconds / 3)

    async def _black_hole(self, fault: Fault) -> None:
        if self._ground.proxy is None:
            return
        self._ground.proxy.stall()
        await asyncio.sleep(fault.seconds)
        self._ground.proxy.reset()
        self._ground.proxy.heal()

    async def _slow(self, fault: Fault) -> None:
        if self._ground.proxy is None:
            return
        self._ground.proxy.slow(0.15)
        await asyncio.sleep(fault.seconds)
        self._ground.proxy.slow(0.0)

    async def _clock_killed(self, _fault: Fault) -> None:
        for one in self._stack.alive("clock"):
            one.signal(signal.SIGKILL)

    async def _two_clocks(self, _fault: Fault) -> None:
        self._stack.start("clock")

    async def _clock_ahead(self, fault: Fault) -> None:
        """A writer whose clock is ten minutes ahead takes the place of the right one for a while."""
        self._stack.holds_clock = True
        for one in self._stack.alive("clock"):
            one.signal(signal.SIGKILL)
        wrong = self._stack.start("clock", "--ahead", "600")
        await self._written_by(wrong)
        await asyncio.sleep(fault.seconds)
        wrong.signal(signal.SIGKILL)
        self._stack.holds_clock = False

    async def _written_by(self, writer: Process) -> None:
        """Wait until a mark of a clock writer that has just been started can be read."""
        await _said(writer, "clock runs", JOIN_SECONDS)
        name = (writer.said("clock runs") or [{}])[-1].get("writer")
        deadline = time.monotonic() + JOIN_SECONDS
        async with reader(self._stack.bootstrap, self._stack.prefix, PARTITIONS) as topics:
            while writer.is_alive and time.monotonic() < deadline:
                with suppress(KafkaError):
                    marks = (await topics.read([CLOCK]))[CLOCK]
                    if any((mark.event or {})["data"]["writer"] == name for mark in marks):
                        return
                await asyncio.sleep(0.3)

    async def _broker(self, fault: Fault) -> None:
        broker = self._ground.broker
        assert broker is not None
        await asyncio.to_thread(broker.server.kill if fault.name == "broker killed" else broker.server.stop)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(broker.start)

    async def _leader(self, fault: Fault) -> None:
        cluster = self._ground.cluster
        assert cluster is not None
        node = sorted(cluster.nodes)[fault.victim % len(cluster.nodes)]
        await asyncio.to_thread(cluster.kill, node)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(cluster.restart, node)


async def _said(process: Process, event: str, seconds: float) -> bool:
    """Wait until the process logs this, ends, or has taken too long."""
    deadline = time.monotonic() + seconds
    while process.is_alive and time.monotonic() < deadline:
        if process.said(event):
            return True
        await asyncio.sleep(0.05)
    return bool(process.said(event))


async def alter(bootstrap: str, topic: str, config: Mapping[str, str]) -> None:
    """Give a topic this configuration and no other, however long the broker stays away."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(config))
    while True:
        client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.start()
                await client.alter_configs([resource])
        except (KafkaError, OSError, TimeoutError, AttributeError):  # AttributeError: no controller yet
            await asyncio.sleep(0.3)
        else:
            return
        finally:
            with suppress(KafkaError, OSError, TimeoutError, AttributeError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await client.close()
