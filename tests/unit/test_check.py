"""What `steward check` says of the policy; the rest of it needs a broker and Redis."""

from pathlib import Path

import pytest

from services import check

SHIPPED = Path(__file__).parents[2] / "deploy/policy/steward.yaml"


def told(path: Path, monkeypatch: pytest.MonkeyPatch) -> check.Finding:
    """The finding about this policy. Nothing is looked at beyond it: broker and Redis come later."""
    monkeypatch.setenv("STEWARD_POLICY", str(path))
    return next(finding for finding in check.findings() if str(path) in finding[1])


def before_health(text: str) -> str:
    """The policy as it was before anything was scored."""
    return text.partition("\nhealth:")[0] + "\n"


def test_the_policy_is_told_with_its_kinds_legs_and_health_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"policy {SHIPPED}: version 1, 6 kinds, 8 legs, 2 health profiles"
    assert told(SHIPPED, monkeypatch) == (True, said)


def test_a_policy_without_health_is_told_to_score_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(before_health(SHIPPED.read_text()))
    said = f"policy {path}: version 1, 6 kinds, 8 legs, no health: nothing is scored"
    assert told(path, monkeypatch) == (True, said)


def test_a_mistake_in_the_rules_of_health_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(SHIPPED.read_text().replace("engagement: 25", "engagement: 26"))
    is_well, said = told(path, monkeypatch)
    assert not is_well
    assert "profiles.contract.groups has weights that sum to 101; make it 100" in said
