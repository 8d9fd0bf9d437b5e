"""Sees that the main loop turns: says where it hangs, and ends a process that hangs for good."""

import faulthandler
import os
import sys
import traceback
from collections.abc import Callable
from threading import Event, Thread, main_thread
from typing import Self

from services.runtime import clock, log

BLOCKED_SECONDS = 30.0  # without a beat: the process is no longer live, and says where it hangs
END_SECONDS = 120.0  # without a beat: the process ends
LOOK_SECONDS = 1.0
LOG_SECONDS = 5.0  # what blocks the loop may block the log, too
FRAMES = 12
STANDARD_ERROR = 2


def end_process(blocked: float, where: list[str]) -> None:
    """Say it, if the log can still be written, and end the process."""

    def say() -> None:
        why = f"the main loop has not turned for {blocked:.0f} s"
        log.get().critical("worker ends", why=why, where=where)
        sys.stderr.flush()

    saying = Thread(target=say, daemon=True)
    saying.start()
    saying.join(LOG_SECONDS)
    os._exit(1)


class Watchdog:
    """While the block runs a thread counts the seconds without a beat.

    Only seconds in which the thread itself ran count: a process that was frozen and goes on is not to blame. Where
    even the thread cannot run, because something holds the interpreter, the kernel's timer ends the process.
    """

    def __init__(self, end: Callable[[float, list[str]], None] = end_process) -> None:
        self.blocked = 0.0
        self._end = end
        self._beats = 0
        self._seen = 0
        self._said = False
        self._over = Event()

    def __enter__(self) -> Self:
        Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        faulthandler.cancel_dump_traceback_later()

    @property
    def is_live(self) -> bool:
        return self.blocked <= BLOCKED_SECONDS

    def beat(self) -> None:
        """The main loop turns; called from it about once a second."""
        self._beats += 1
        faulthandler.dump_traceback_later(END_SECONDS + 3 * LOG_SECONDS, exit=True, file=STANDARD_ERROR)

    def look(self, seconds: float) -> None:
        """So many seconds after the last look."""
        if self._beats != self._seen:
            self._seen, self.blocked, self._said = self._beats, 0.0, False
            return
        self.blocked += min(seconds, 2 * LOOK_SECONDS)
        if self.blocked > END_SECONDS:
            self._end(self.blocked, _where())
        elif not self.is_live and not self._said:
            self._said = True
            log.get().error("main loop blocked", seconds=round(self.blocked), where=_where())

    def _watch(self) -> None:
        last = clock.elapsed()
        while not self._over.wait(LOOK_SECONDS):
            now = clock.elapsed()
            self.look(now - last)
            last = now


def _where() -> list[str]:
    """The innermost frames of the main thread, `file:line function`, outermost first."""
    frame = sys._current_frames().get(main_thread().ident or 0)  # noqa: SLF001  # the documented way
    stack = traceback.extract_stack(frame)[-FRAMES:]
    return [f"{one.filename}:{one.lineno} {one.name}" for one in stack]
