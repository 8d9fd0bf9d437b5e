"""Drives the simulated days: moves the clock, sends each request at its instant, and waits for what comes of it."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout

from services.core.errors import OperatorError
from services.core.instants import HOUR, Instant
from services.demo.company import Agreement
from services.demo.effects import Effect
from services.demo.scores import Turn
from services.demo.stack import Stack
from services.demo.story import Post
from services.demo.vendors import PATHS
from services.runtime import clock

TICK_SECONDS = 0.1
STEPS = 4  # in a quarter of the target: fifteen minutes where that is an hour
NIGHT_STEP = 2 * HOUR  # while nobody works
MARK_SECONDS = 10.0
RESEND_SECONDS = 0.1
LOOK_SECONDS = 0.03
# How long an answer may take; after the first answer or effect that did not come, nobody waits so long again.
ANSWER_SECONDS, IMPATIENCE_SECONDS = 5.0, 0.3
ACCEPTED, UNAUTHORIZED = 202, 401
SHOWN = 200  # characters of an answer that was not expected

Awaited = Effect | Turn


class ClockStands(OperatorError):
    """The clock writer takes no time any more."""


class SimulatedTime:
    """Time as a variable: whoever writes marks asks `now`, and who moves it learns that it was taken.

    `taken` is the wall time at which the present instant first was: then the mark that says so was begun.
    """

    def __init__(self, at: Instant) -> None:
        self.at = at
        self.taken: Instant | None = None
        self._asked = asyncio.Event()

    def now(self) -> Instant:
        if self.taken is None:
            self.taken = clock.now()
            self._asked.set()
        return self.at

    async def move(self, at: Instant) -> None:
        """Return once a mark of this instant is being written. Raises ClockStands."""
        self.at, self.taken = at, None
        self._asked.clear()
        try:
            await asyncio.wait_for(self._asked.wait(), MARK_SECONDS)
        except TimeoutError:
            raise ClockStands(f"no mark was written for {MARK_SECONDS:.0f} s; is the broker well?") from None


class Driver:
    """One telling of the story. `lacking`: those of some effects that have not come; `patience`: the seconds that each
    may take.

    `caused` is when each cause was there, by the wall clock: a request acknowledged, or the mark begun that made
    something due. `answered` are the requests that were answered as they should be.
    """

    def __init__(
        self,
        agreed: Agreement,
        time: SimulatedTime,
        news: Callable[[str], None],
        stack: Stack,
        lacking: Callable[[Sequence[Awaited]], Sequence[Awaited]],
        patience: float,
        stopping: asyncio.Event,
    ) -> None:
        self.caused: dict[Instant, Instant] = {}
        self.answered: list[Post] = []
        self._agreed = agreed
        self._time = time
        self._news = news
        self._stack = stack
        self._lacking = lacking
        self._stopping = stopping
        self._answer_seconds = ANSWER_SECONDS
        self._effect_seconds = patience

    async def tell(self, posts: Sequence[Post], effects: Sequence[Awaited], until: Instant) -> None:
        """Everything up to an instant, in order of time. Raises ClockStands and what `check` of the stack raises."""
        requests: Mapping[Instant, Post] = {post.at: post for post in posts}
        async with ClientSession(timeout=ClientTimeout(total=10.0), trust_env=False) as session:
            for at in sorted({*requests, *(effect.cause for effect in effects)}):
                await self.advance(at)
                if self._stopping.is_set():
                    return
                if self._time.taken is not None:
                    self.caused[at] = self._time.taken
                if at in requests and await self._send(session, requests[at]):
                    self.caused[at] = clock.now()
                await self._seen([effect for effect in effects if effect.cause == at])
        await self.advance(until)

    async def advance(self, to: Instant, longest: int = NIGHT_STEP) -> None:
        """Move the clock there in steps of working time; where nobody works, in the longest steps."""
        while self._time.at < to and not self._stopping.is_set():
            begun = clock.elapsed()
            await self.step(to, longest)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), max(0.0, TICK_SECONDS - clock.elapsed() + begun))

    async def step(self, most: Instant | None = None, longest: int = NIGHT_STEP) -> None:
        """Move the clock by one step, or less. Raises ClockStands and what `check` of the stack raises."""
        self._stack.check()
        worked = self._agreed.calendar.add(self._time.at, max(1, self._agreed.target // 4 // STEPS))
        following = min(worked, self._time.at + longest)
        await self._time.move(following if most is None else min(most, following))

    async def _send(self, session: ClientSession, post: Post) -> bool:
        """Send a request until it is answered as it should be, as vendors do; says whether it was."""
        right = ACCEPTED if post.request.by == "its own" else UNAUTHORIZED
        deadline = clock.elapsed() + self._answer_seconds
        while True:
            answer = await self._posted(session, post)
            if answer == str(right):
                self.answered.append(post)
                self._news(post.news)
                return True
            if clock.elapsed() > deadline or self._stopping.is_set():
                break
            await asyncio.sleep(RESEND_SECONDS)
        self._answer_seconds, self._effect_seconds = 0.0, IMPATIENCE_SECONDS
        self._news(f"{post.news}: NOT DELIVERED ({answer})")
        return False

    async def _posted(self, session: ClientSession, post: Post) -> str:
        """The status of one attempt, or why there is none."""
        url = f"{self._stack.ingest_url}{PATHS[post.request.source]}"
        headers = post.request.headers(url, self._time.at)
        try:
            async with session.post(url, data=post.request.body, headers=headers) as answer:
                text = await answer.text()
        except ClientConnectorError:
            return f"nobody answers at {self._stack.ingest_url}"
        except (ClientError, TimeoutError) as error:
            return str(error) or "no answer in time"
        if answer.status == ACCEPTED:
            refused = json.loads(text).get("refused")
            return f"{ACCEPTED}, but refused: {refused[0]}" if refused else str(ACCEPTED)
        return str(UNAUTHORIZED) if answer.status == UNAUTHORIZED else f"{answer.status} {text[:SHOWN]}"

    async def _seen(self, wanted: Sequence[Awaited]) -> None:
        """Hold the clock until all of them have come, or for as long as that may take."""
        missing = wanted
        deadline = clock.elapsed() + self._effect_seconds
        while missing and clock.elapsed() < deadline and not self._stopping.is_set():
            self._stack.check()
            await asyncio.sleep(LOOK_SECONDS)
            missing = self._lacking(missing)
        if missing:
            self._effect_seconds = IMPATIENCE_SECONDS
