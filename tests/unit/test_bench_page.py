"""docs/benchmarks.md says what the kept figures say, misses as misses."""

import json

from bench import page


def test_the_page_is_that_of_the_kept_figures() -> None:
    assert page.main(["--check"]) == 0


def test_a_missed_goal_is_told_with_its_figure_and_its_limit() -> None:
    machine = {"command": "python -m bench x", "date": "2026-11-02T09:00:00", "cores": 2, "cpu": "some"}
    goals = [
        {"what": "a", "found": 1234.56, "unit": "ms", "limit": 60.0, "at_least": False, "is_met": False},
        {"what": "b", "found": 7.0, "unit": "times", "limit": 5.0, "at_least": True, "is_met": True},
    ]
    found = {"health": {"machine": {**machine, "python": "3", "kafka": "4", "aiokafka": "0"}, "goals": goals}}
    told = page.page(json.loads(json.dumps(found)))
    assert "| a | 1,234.6 ms | ≤ 60.0 | **missed** |" in told
    assert "| b | 7.0 times | ≥ 5.0 | reached |" in told
