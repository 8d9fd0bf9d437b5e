"""Who is told of which stage, by the people and the fallback of one version of the policy."""

from typing import assert_never

from schemas.handoffs import Stage
from schemas.policies import Policy
from services.alerting.model import Why
from services.core.instants import HOUR, Instant


def recipients(stage: Stage, owner: str | None, rules: Policy) -> tuple[Why, tuple[str, ...]]:
    """Whom a stage concerns, each once, and why these; nobody where nobody is meant to hear of it."""
    accountable = owner or rules.alerts.fallback
    above = _above(accountable, rules)
    match stage:
        case "at_risk":
            return _why(owner, Why.ACCOUNTABLE), (accountable,)
        case "breached":
            why = Why.AND_MANAGER if above else Why.ACCOUNTABLE
            return _why(owner, why), (accountable, *above[:1])
        case "passed_125":
            return (Why.ABOVE, above[:1]) if above else (Why.NOBODY_ABOVE, ())
        case "passed_200":
            return (Why.ABOVE, above[1:2]) if above[1:] else (Why.NOBODY_ABOVE, ())
        case "noticed" | "met":
            return Why.NO_ALERT, ()
        case _:
            assert_never(stage)


def is_aged(due: Instant, at: Instant, rules: Policy) -> bool:
    """Is it too long ago at `at` to be told singly?"""
    return at - due > round(rules.alerts.max_age_hours * HOUR)


def name_of(person: str | None, rules: Policy) -> str | None:
    known = None if person is None else rules.people.get(person)
    return None if known is None else known.name


def _why(owner: str | None, why: Why) -> Why:
    return why if owner else Why.NOBODY_ACCOUNTABLE


def _above(person: str, rules: Policy) -> tuple[str, ...]:
    """The manager and the manager's manager, as far as there are any; a circle of managers ends it."""
    found: list[str] = []
    rule = rules.people.get(person)
    while rule is not None and rule.manager is not None and len(found) < 2:
        if rule.manager in (person, *found):
            break
        found.append(rule.manager)
        rule = rules.people.get(rule.manager)
    return tuple(found)
