"""The rules of health in a policy: a mistake is one sentence that names the place and the value at fault."""

import json
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from schemas.codec import SchemaError
from schemas.policies import MEASURED, Policy, PolicyPublished
from schemas.topics import POLICY
from services.runtime.documents import DocumentError, load
from tests.schemas.golden import golden

SHIPPED = Path(__file__).parents[2] / "deploy/policy/steward.yaml"
RULES: dict[str, Any] = golden("steward.policy.published.v1", "health").json["data"]["policy"]["health"]
GONE = object()


def published(changes: Mapping[str, object]) -> bytes:
    """The golden policy with values of its health changed, by their paths, or taken away."""
    record = golden("steward.policy.published.v1", "health").json
    for path, value in changes.items():
        *outer, name = path.split(".")
        part = reduce(dict.__getitem__, outer, record["data"]["policy"]["health"])
        if value is GONE:
            del part[name]
        else:
            part[name] = value
    return json.dumps(record).encode()


def refusal(changes: Mapping[str, object]) -> str:
    with pytest.raises(SchemaError) as refused:
        codec.decode(POLICY, published(changes))
    return str(refused.value).removeprefix("data.policy.health: ").removeprefix("data.policy.health.")


CURVE = RULES["curves"]["breadth"]
ALL_GROUPS = "commercial, engagement, ownership, renewal, sentiment, support"
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "a profile of an unknown group": (
        {"profiles.crm-only.groups": {"engagement": 45, "ownership": 30, "renewals": 25}},
        f"profiles.crm-only.groups names 'renewals', but there is only {ALL_GROUPS}",
    ),
    "weights below 100": (
        {"profiles.contract.groups.engagement": 24},
        "profiles.contract.groups has weights that sum to 99; make it 100",
    ),
    "weights above 100": (
        {"profiles.crm-only.groups.renewal": 25.5},
        "profiles.crm-only.groups has weights that sum to 100.5; make it 100",
    ),
    "a weight of nothing": (
        {"profiles.crm-only.groups.renewal": 0},
        "profiles.crm-only.groups.renewal: input should be greater than 0 (found 0)",
    ),
    "an unknown profile": (
        {"resolve": [{"profile": "contracts"}]},
        "resolve.0.profile names 'contracts', but there is only contract, crm-only",
    ),
    "evidence of an unknown group": (
        {"resolve": [{"profile": "contract", "fed": ["support", "sales"]}, {"profile": "crm-only"}]},
        f"resolve.0.fed names 'sales', but there is only {ALL_GROUPS}",
    ),
    "nothing for those that fit nowhere": (
        {"resolve": [{"profile": "contract", "fed": ["support", "sentiment"]}]},
        "resolve.0.fed names support, sentiment, but the last rule must fit every account; leave it out",
    ),
    "no profile for anybody": ({"resolve": []}, "resolve: tuple should have at least 1 item after validation, not 0"),
    "a signal in two groups": (
        {"groups.support": ["open_load", "activity"]},
        "groups has activity more than once; keep one",
    ),
    "a signal twice in one group": (
        {"groups.support": ["open_load", "reopened", "open_load"]},
        "groups has open_load more than once; keep one",
    ),
    "a signal nobody knows": (
        {"groups.renewal": ["ready"]},
        "groups.renewal.0: input should be 'activity', 'two_way_contact', ",
    ),
    "a measured signal without a curve": (
        {"curves.owner": GONE, "curves.open_load": GONE},
        "curves lacks open_load, owner; what is measured needs a curve",
    ),
    "an anchor that falls back": (
        {"curves.breadth": [*CURVE, [4, 90]]},
        "curves.breadth has x 4 after 5; its anchors must rise in x",
    ),
    "an anchor twice": (
        {"curves.breadth": [[0.5, 0], [0.5, 50]]},
        "curves.breadth has x 0.5 after 0.5; its anchors must rise in x",
    ),
    "an anchor at no place": (
        {"curves.breadth": [[0, 0], [float("inf"), 50]]},
        "curves.breadth.1.0: input should be a finite number (found inf)",
    ),
    "an anchor that is no number": (
        {"curves.breadth": [[float("nan"), 0]]},
        "curves.breadth.0.0: input should be a finite number (found nan)",
    ),
    "a curve without anchors": (
        {"curves.breadth": []},
        "curves.breadth: tuple should have at least 1 item after validation, not 0 (found [])",
    ),
    "yellow at green": ({"bands.yellow": 75}, "bands.yellow is 75; it must lie below green, 75"),
    "trend as long as short": (
        {"trend.short_days": 28},
        "trend.short_days is 28; it must be less than long_days, 28",
    ),
    "yellow above green": ({"bands.green": 49.5}, "bands.yellow is 50; it must lie below green, 49.5"),
    "a prior above 100": ({"prior": 101}, "prior: input should be less than or equal to 100 (found 101)"),
    "three severities": ({"severity_weights": [8, 4, 2]}, "severity_weights.3: field required"),
    "a half-life that is too short": (
        {"trend.short_days": 6},
        "trend.short_days: input should be greater than or equal to 7 (found 6)",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_the_rules_of_health_is_one_sentence(changes: dict[str, object], sentence: str) -> None:
    assert refusal(changes).startswith(sentence)


RIGHT: dict[str, dict[str, object]] = {
    "as they are": {},
    "thirds that sum to 100 but for the last digit": {
        "profiles.crm-only.groups": {"engagement": 100 / 3, "ownership": 100 / 3, "renewal": 33.333333334}
    },
    "no caps": {"caps": {}},
    "nothing about caps": {"caps": GONE},
    "a signal that nothing measures needs no curve": {"groups.sentiment": ["csat"], "groups.renewal": ["readiness"]},
    "a curve of one anchor": {"curves.breadth": [[0, 50]]},
    "anchors close together": {"curves.breadth": [[0, 0], [5e-324, 50]]},
    "one profile for all": {"resolve": [{"profile": "crm-only"}]},
    "yellow just below green": {"bands.yellow": 74.999},
}


@pytest.mark.parametrize("changes", RIGHT.values(), ids=RIGHT)
def test_rules_on_this_side_of_the_bounds_are_taken(changes: dict[str, object]) -> None:
    event = codec.decode(POLICY, published(changes))
    assert isinstance(event, PolicyPublished)
    assert codec.decode(POLICY, codec.encode(event)) == event


def test_a_policy_without_health_scores_nothing() -> None:
    event = codec.decode(POLICY, golden("steward.policy.published.v1", "full").value)
    assert isinstance(event, PolicyPublished)
    assert event.data.policy.health is None


def test_the_shipped_policy_has_a_curve_for_all_that_is_measured_by_value_and_for_nothing_else() -> None:
    health = load(SHIPPED, Policy).health
    assert health is not None
    assert set(health.curves) == set(MEASURED) - {"handoff"}


def test_a_mistake_in_the_shipped_policy_is_told_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(SHIPPED.read_text().replace("green: 75, yellow: 50", "green: 75, yellow: 80"))
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "yellow: 80" in text)
    told = rf"policy\.yaml:{line}: health: bands\.yellow is 80; it must lie below green"
    with pytest.raises(DocumentError, match=told):
        load(path, Policy)
