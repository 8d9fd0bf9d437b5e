"""docs/engine.md: every symbol, file, metric, setting, step and test that it names is there."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from services.runtime.engine.steps import Step
from services.runtime.metrics import Metrics
from services.runtime.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/engine.md").read_text()
SYMBOLS = sorted(set(re.findall(r"`([\w/]+\.py)::([\w.]+)`", PAGE)))
CRASHES = PAGE.partition("| dies at |")[2].partition("\n\n")[0]


@pytest.mark.parametrize(("path", "name"), SYMBOLS, ids=[f"{path}::{name}" for path, name in SYMBOLS])
def test_a_symbol_that_the_page_names_is_there(path: str, name: str) -> None:
    found: Any = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = getattr(found, part)
    assert found is not None


def test_a_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:deploy|tests|docs|services)/[\w./-]+)`", PAGE))
    assert named
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_a_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    defined = {name for path in (ROOT / "tests").rglob("test_*.py") for name in _tests(path)}
    assert named
    assert sorted(named - defined) == []


def _tests(path: Path) -> list[str]:
    return re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)


def test_a_metric_that_the_page_names_is_counted() -> None:
    named = set(re.findall(r"`(steward_\w+)`", PAGE))
    declared = {
        f"{metric.name}{'_total' if metric.type == 'counter' else ''}" for metric in Metrics().registry.collect()
    }
    assert named
    assert sorted(named - declared) == []


def test_a_setting_that_the_page_names_is_one() -> None:
    named = {name.removeprefix(PREFIX).lower() for name in re.findall(rf"`({PREFIX}\w+)`", PAGE)}
    assert named
    assert sorted(named - set(Settings.model_fields)) == []


def test_the_page_says_what_happens_at_each_step() -> None:
    told = [name for line in CRASHES.splitlines()[2:] for name in line.split("|")[1].strip().split(", ")]
    assert sorted(told) == sorted(step.name for step in Step)
