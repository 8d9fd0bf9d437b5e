"""The verbs of the case: what a verdict, a retraction and the end of a handoff do to an alert, and who hears it.

A fold: the same verdicts in the same order say the same words, however they are cut into batches.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from msgspec.structs import replace

from schemas.handoffs import Stage, Verdict
from schemas.policies import Policy
from services.alerting.model import Alert, Status, Step, Why
from services.alerting.policy import recipients
from services.core.instants import Instant, instant

ALERTING: tuple[Stage, ...] = ("at_risk", "breached", "passed_125", "passed_200")  # in order of severity
SEVERE = ALERTING[1:]


@dataclass(frozen=True, slots=True)
class Heard:
    """A verdict as the stages of the pipeline see it; `step` is what is known of its stage, `over` of its handoff."""

    said: Verdict
    stage: Stage
    at: Instant
    is_history: bool
    is_aged: bool
    step: Step | None
    over: Instant | None
    rules: Policy


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a verdict, whom it is told, and why."""

    what: Literal["dropped", "raised", "corrected", "held"]
    why: Why
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """Something to publish of an alert; `to` says of which stage each recipient is told."""

    what: Literal["raised", "corrected", "held", "resolved", "retracted"]
    stage: Stage
    step: Step
    why: Why
    to: dict[str, Stage] = field(default_factory=dict)


def dedupe(heard: Heard) -> Answer | None:
    """What was said before is dropped; what is said anew of the same transition goes to whom it was told."""
    if heard.stage not in ALERTING:
        return Answer("dropped", Why.NO_ALERT)
    step, said = heard.step, heard.said
    if step is None or said.n > step.n:
        return None
    if said.n == step.n and said.correction > step.correction and not step.retracted:
        return Answer("corrected", Why.TOLD if heard.over is None else Why.OVER, step.told)
    return Answer("dropped", Why.DUPLICATE)


def silence(heard: Heard) -> Answer | None:
    """History is told to nobody; nor that something may be late, or is very late, which is over already."""
    if heard.is_history:
        return Answer("held", Why.HISTORY)
    if heard.over is not None and heard.stage != "breached":
        return Answer("held", Why.OVER)
    return None


def route(heard: Heard) -> Answer:
    """To whom the policy sends it; what is too old to be told singly waits for their digest."""
    why, people = recipients(heard.stage, heard.said.owner, heard.rules)
    if people and heard.is_aged:
        return Answer("held", Why.AGED, people)
    return Answer("raised" if people else "held", why, people)


PIPELINE: tuple[Callable[[Heard], Answer | None], ...] = (dedupe, silence, route)


def answer(heard: Heard) -> Answer:
    """The first answer of the pipeline; its last stage always has one."""
    return next(said for stage in PIPELINE if (said := stage(heard)) is not None)


def with_verdict(alert: Alert, heard: Heard) -> tuple[Alert, Answer, list[Word]]:
    """The alert with a verdict taken in. A dropped one leaves it as it is."""
    found = answer(heard)
    if found.what == "dropped":
        return alert, found, []
    said, stage = heard.said, heard.stage
    step = Step(
        said.transition,
        said.n,
        said.correction,
        heard.at,
        instant_of(said.due),
        said.owner,
        found.to,
        said.accepted is not None,
    )
    alert = replace(
        alert,
        steps={**alert.steps, stage: step},
        status=_status(alert, heard, found),
        over=heard.over,
        accepted=instant_of(said.accepted),
    )
    concluded, words = conclude(alert)
    return concluded, found, [Word(found.what, stage, step, found.why, dict.fromkeys(found.to, stage)), *words]


def _status(alert: Alert, heard: Heard, found: Answer) -> Status:
    """Of a handoff that is over only the breach opens its alert once more, so that its end is said after it."""
    if found.what != "corrected" and (heard.over is None or heard.stage == "breached"):
        return Status.OPEN
    return alert.status if alert.steps and alert.status is not Status.RETRACTED else Status.RESOLVED


def with_retraction(alert: Alert, stage: Stage, said: Verdict) -> tuple[Alert, list[Word]]:
    """The alert without a stage that turned out not to be true; nothing new when that was known."""
    step = alert.steps.get(stage)
    if step is None or step.retracted or said.n != step.n:
        return alert, []
    taken_back = replace(step, retracted=True, due=instant_of(said.due))
    concluded, words = conclude(replace(alert, steps={**alert.steps, stage: taken_back}))
    return concluded, [Word("retracted", stage, taken_back, Why.TOLD, dict.fromkeys(step.told, stage)), *words]


def with_end(alert: Alert, over: Instant, accepted: Instant | None, due: Instant | None) -> tuple[Alert, list[Word]]:
    """The alert of a handoff that was accepted or cancelled; `due` is what its clock says now."""
    if (alert.over, alert.accepted) == (over, accepted):
        return alert, []
    return conclude(replace(alert, over=over, accepted=accepted), due)


def conclude(alert: Alert, due: Instant | None = None) -> tuple[Alert, list[Word]]:
    """The alert with the status that its steps and the end of its handoff give it, and its end where that is new.

    The state of a handoff comes before the retractions it brings. A stage that it disproves is therefore not ended:
    the retraction will say so, and whoever heard of the breach hears one word and not two.
    """
    standing = [stage for stage in ALERTING if stage in alert.steps and not alert.steps[stage].retracted]
    if not standing:
        return replace(alert, status=Status.RETRACTED), []
    if alert.over is None or alert.status is not Status.OPEN:
        return alert, []
    ended = [stage for stage in standing if _reached(alert, stage, due) < alert.over]
    if not ended:
        return alert, []
    last = ended[-1]
    # By the first stage of which they heard: a later one may yet be taken back alone.
    hearing = {
        person: stage
        for stage in reversed(ended)
        if stage in SEVERE and not alert.steps[stage].knew
        for person in alert.steps[stage].told
    }
    return replace(alert, status=Status.RESOLVED), [Word("resolved", last, alert.steps[last], Why.TOLD, hearing)]


def _reached(alert: Alert, stage: Stage, due: Instant | None) -> Instant:
    """When a stage was reached, moved as the due time has been since."""
    step = alert.steps[stage]
    if due is None or step.due is None:
        return step.at
    return step.at + due - step.due


def instant_of(at: datetime | None) -> Instant | None:
    return None if at is None else instant(at)
