"""What a person sees of the demo: on a terminal a picture that changes in place, elsewhere one line after the other."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from services.core.instants import Instant
from services.demo import effects
from services.demo.company import CURRENCY, Agreement
from services.demo.effects import Outcome
from services.demo.receiver import Entry

WIDTH = 100
NEEDS, ALERTS, NEWS = 10, 9, 4  # the most lines of each part
TITLES = 8  # lines of a picture that are none of its parts'
DAY = "%a %H:%M"
LABELS = {
    ("raised", "at_risk"): ("AT RISK", "yellow"),
    ("raised", "breached"): ("BREACH", "red"),
    ("raised", "passed_125"): ("125 %", "red"),
    ("raised", "passed_200"): ("200 %", "red"),
    ("retracted", "breached"): ("TAKEN BACK", "green"),
    ("resolved", "breached"): ("OVER", "green"),
}


@dataclass(frozen=True, slots=True)
class Need:
    """A line of the attention list."""

    account: str
    state: str
    when: str
    owner: str
    worth: str
    reasons: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message at the receiver: the simulated instant, and the seconds since its cause."""

    at: Instant
    entry: Entry
    seconds: float | None


class Screen:
    """Takes what happens in and shows it. `now` is the simulated time, `whole` how many messages the story brings."""

    def __init__(self, console: Console, agreed: Agreement, now: Callable[[], Instant], whole: int) -> None:
        self.needs: Sequence[Need] = ()
        self.trouble = ""  # why there is no attention list
        self._console = console
        self._agreed = agreed
        self._now = now
        self._whole = whole
        self._arrived = 0
        self._alerts: deque[Arrival] = deque(maxlen=ALERTS)
        self._news: deque[tuple[Instant, str]] = deque(maxlen=NEWS)
        self._is_live = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the picture while the block runs, where there is a terminal to show it on."""
        if not self._console.is_terminal:
            yield
            return
        self._is_live = True
        with Live(get_renderable=self._picture, console=self._console, refresh_per_second=8):
            yield
        self._is_live = False

    def say(self, sentence: str) -> None:
        """Something about the demo itself."""
        self._console.print(sentence, soft_wrap=True, markup=False, highlight=False)

    def news(self, text: str) -> None:
        """Something happens in the company, now."""
        self._news.append((self._now(), text))
        if not self._is_live:
            self.say(f"{self._clock(self._now())}  {text}")

    def alert(self, arrival: Arrival) -> None:
        """A message has arrived at the receiver."""
        self._arrived += 1
        self._alerts.append(arrival)
        if not self._is_live:
            label, _, text, seconds = self._told(arrival)
            recipient = str(arrival.entry.data.get("recipient", "?"))
            self.say(f"{self._clock(arrival.at)}    -> {recipient:<6} {label:<10}  {text}  {seconds}".rstrip())

    def turned(self, at: Instant, account: str, text: str) -> None:
        """The band of an account has changed, or a cap of its score began or ended."""
        if self._news:  # a change by an event bears the time of the mark before it
            at = max(at, self._news[-1][0])
        self._news.append((at, f"{account}: {text}"))
        if not self._is_live:
            self.say(f"{self._clock(at)}    ** {account}: {text}")

    def attention(self) -> None:
        """The list as it is now; on a terminal it stands in the picture anyway."""
        if not self._console.is_terminal:
            self._console.print(Rule("Who needs somebody now", align="left", style=""), width=WIDTH)
            self._console.print(self._list(NEEDS), width=WIDTH)

    def outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """What was seen and what was not, with the seconds from cause to effect."""
        self._console.print(Rule("Effects, with the seconds from cause to effect", align="left", style=""), width=WIDTH)
        for outcome in outcomes:
            seconds = "" if outcome.seconds is None else f"{outcome.seconds:.2f}"
            mark = f"{seconds:>7}" if outcome.seen else "MISSING"
            self._console.print(
                Text(f"{mark}  {outcome.sentence}", style="" if outcome.seen else "red"), soft_wrap=True
            )

    # -- the picture ---------------------------------------------------------------------------------------------

    def _picture(self) -> RenderableType:
        room = max(6, self._console.height - TITLES)
        news = min(NEWS, room // 4)
        alerts = min(ALERTS, (room - news) // 2)
        needs = min(NEEDS, room - news - alerts)
        now = self._agreed.local(self._now())
        title = f"Steward   {now:%a %d %b %Y %H:%M} (simulated)"
        parts: list[RenderableType] = [
            Text(f"{title}   {self._arrived} of {self._whole} messages arrived", style="bold"),
            self._rule("Who needs somebody now"),
            self._list(needs),
            self._rule("Alerts as they arrive at the customer's endpoint"),
            self._arrivals(alerts),
            self._rule("What happens"),
            *[
                Text(f"{self._clock(at)}  {text}", no_wrap=True, overflow="ellipsis")
                for at, text in list(self._news)[-news:]
            ],
        ]
        return Group(*parts)

    def _rule(self, title: str) -> RenderableType:
        return Rule(title, align="left", style="dim")

    def _list(self, most: int) -> RenderableType:
        if self.trouble:
            return Text(self.trouble)
        if not self.needs:
            return Text("nobody")
        grid = _grid(self._console.width - 58, None, None, None, None)  # the others need so much
        for number, need in enumerate(self.needs):
            if number == most - 1 and len(self.needs) > most:
                grid.add_row(f"and {len(self.needs) - number} more")
                break
            grid.add_row(need.account, need.state, need.when, need.owner, need.worth)
        return grid

    def _arrivals(self, most: int) -> RenderableType:
        if not self._alerts:
            return Text("none yet")
        grid = _grid(None, None, None, self._console.width - 39, None)
        for arrival in list(self._alerts)[-most:]:
            label, style, text, seconds = self._told(arrival)
            recipient = str(arrival.entry.data.get("recipient", "?"))
            grid.add_row(self._clock(arrival.at), recipient, Text(label, style=style), text, seconds)
        return grid

    def _told(self, arrival: Arrival) -> tuple[str, str, str, str]:
        data = arrival.entry.data
        if not arrival.entry.is_authentic:
            return "REFUSED", "red", arrival.entry.why, ""
        label, style = LABELS.get((str(data.get("what")), str(data.get("stage"))), (str(data.get("what")), ""))
        took = "" if arrival.seconds is None else f"{arrival.seconds:.2f} s"
        return label, style, f"{data.get('account_name')}: {self._state(data)}", took

    def _state(self, data: Mapping[str, Any]) -> str:
        due, accepted = (effects.instant_in(data, field) for field in ("due", "accepted"))
        if due is not None and accepted is not None:
            late = "in time" if accepted <= due else "late"
            return f"accepted {self._clock(accepted)}, {late}"
        owed = "" if due is None else f"due {self._clock(due)}, "
        worth = worth_of(data.get("amount"), data.get("currency"))
        return f"{owed}next step {data.get('owner')}{worth and ', ' + worth}"

    def _clock(self, at: Instant) -> str:
        return f"{self._agreed.local(at):{DAY}}"


def _grid(*widest: int | None) -> Table:
    """Columns that are as wide as what stands in them, but not wider than this."""
    grid = Table.grid(padding=(0, 2))
    for width in widest:
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=None if width is None else max(8, width))
    return grid


def worth_of(amount: str | None, currency: str | None) -> str:
    """A yearly amount as people read it."""
    return "" if amount is None else f"{currency or CURRENCY} {float(amount):,.0f} a year"
