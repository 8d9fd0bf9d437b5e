"""Generated files are fresh, and the JSON Schemas say what the models say."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import schemas.generate
import services.generate
from schemas.envelope import Event
from services.runtime.metrics import Metrics
from tests.schemas.golden import each_kind

each_generator = pytest.mark.parametrize(
    "files",
    [
        pytest.param(schemas.generate.files, id="schemas.generate"),
        pytest.param(services.generate.files, id="services.generate"),
    ],
)


@each_generator
def test_generated_files_are_fresh(files: Callable[[], Mapping[Path, str]]) -> None:
    assert schemas.generate.stale(files()) == []
    assert schemas.generate.main(files(), ["--check"]) == 0


@each_generator
def test_generating_twice_gives_the_same(files: Callable[[], Mapping[Path, str]]) -> None:
    assert list(files().items()) == list(files().items())


# ---------------------------------------------------------------- the command


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds one fresh, one stale and one left-over file; a fourth is wanted and absent."""
    monkeypatch.setattr(schemas.generate, "ROOT", tmp_path)
    (tmp_path / "json").mkdir()
    (tmp_path / "json/fresh.json").write_text("1")
    (tmp_path / "json/stale.json").write_text("2")
    (tmp_path / "json/gone.json").write_text("3")
    return tmp_path


def wanted(tree: Path) -> dict[Path, str]:
    return {tree / "json/fresh.json": "1", tree / "json/stale.json": "two", tree / "docs/new.md": "new"}


def test_check_names_what_is_stale_and_changes_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.generate.main(wanted(tree), ["--check"]) == 1
    assert capsys.readouterr().out == "docs/new.md is stale\njson/gone.json is stale\njson/stale.json is stale\n"
    assert (tree / "json/stale.json").read_text() == "2"


def test_without_check_stale_files_are_written_and_left_over_ones_removed(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schemas.generate.main(wanted(tree), []) == 0
    assert capsys.readouterr().out == "docs/new.md written\njson/gone.json removed\njson/stale.json written\n"
    assert {path: path.read_text() for path in tree.rglob("*.*")} == wanted(tree)
    assert schemas.generate.main(wanted(tree), ["--check"]) == 0


def test_other_arguments_are_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.generate.main(wanted(tree), ["--chekc"]) == 2
    assert capsys.readouterr().out == "only --check is understood here\n"


# ---------------------------------------------------------------- JSON Schemas


def schema_of(kind: type[Event]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((schemas.generate.SCHEMAS / f"{kind.name()}.schema.json").read_text())
    return found


def nodes(schema: object) -> Iterator[dict[str, Any]]:
    match schema:
        case dict():
            yield schema
            for value in schema.values():
                yield from nodes(value)
        case list():
            for value in schema:
                yield from nodes(value)
        case _:
            return


@each_kind
def test_a_schema_is_valid_and_named_after_its_type(kind: type[Event]) -> None:
    schema = schema_of(kind)
    Draft202012Validator.check_schema(schema)
    assert (schema["$schema"], schema["$id"]) == (Draft202012Validator.META_SCHEMA["$id"], kind.name())


@each_kind
def test_a_schema_requires_what_makes_a_cloudevent(kind: type[Event]) -> None:
    assert {"specversion", "id", "source", "type"} <= set(schema_of(kind)["required"])


@each_kind
def test_a_schema_allows_fields_it_does_not_know(kind: type[Event]) -> None:
    assert [node for node in nodes(schema_of(kind)) if node.get("additionalProperties") is False] == []


def is_bounded(text: Mapping[str, Any]) -> bool:
    return bool({"maxLength", "const", "enum", "format"} & set(text)) or not re.search(
        r"[+*]", text.get("pattern", "+")
    )


@each_kind
def test_every_text_is_bounded(kind: type[Event]) -> None:
    found = list(nodes(schema_of(kind)))
    texts = [node for node in found if node.get("type") == "string"]
    assert [text for text in texts if not is_bounded(text)] == []
    maps = [node for node in found if isinstance(node.get("additionalProperties"), dict)]
    assert [node for node in maps if "propertyNames" not in node] == []


# ---------------------------------------------------------------- documentation


def test_every_link_in_the_events_page_leads_to_a_heading() -> None:
    page = schemas.generate.EVENTS.read_text()
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    headings = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) - headings == set()


def test_every_metric_stands_in_the_metrics_page_under_its_exposed_name() -> None:
    page = (schemas.generate.ROOT / "docs/metrics.md").read_text()
    exposed = set(re.findall(r"^# TYPE (\S+) ", Metrics().text().decode(), re.MULTILINE))
    shown = {re.sub(r"_bucket$", "", name) for name in re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)}
    assert shown == exposed
