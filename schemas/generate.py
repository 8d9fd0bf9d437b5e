"""Writes what follows from the schemas: one JSON Schema per event type, and docs/events.md."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from schemas.codec import STATED
from schemas.envelope import CONTENT_TYPE, Event, Id, Line, Name
from schemas.topics import CATALOGUE, HELD, Compacted, Topic

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "schemas/json"
EVENTS = ROOT / "docs/events.md"

KEYS = ("$schema", "$id", "title", "description", "type", "properties", "required", "$defs")
BOUNDS = {  # JSON Schema's word -> ours
    "pattern": "like",
    "minLength": "length ≥",
    "maxLength": "length ≤",
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
}
NAMED: dict[str, Any] = {"id": Id, "name": Name, "line": Line}
NOTE = "<!-- Written by `python -m {module}`; change what it reads, then run it again. -->"

Json = dict[str, Any]


class Untitled(GenerateJsonSchema):
    """JSON Schema without a title for each field: it would only repeat the field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401  # pydantic's own core schema
        del schema
        return False


def json_schema(kind: type[Event]) -> Json:
    """The JSON Schema of records of this type. Fields it does not name are allowed: readers ignore them."""
    schema = kind.model_json_schema(schema_generator=Untitled)
    schema["$schema"] = GenerateJsonSchema.schema_dialect
    schema["$id"] = kind.name()
    schema["required"] = [name for name in schema["properties"] if name in STATED or name in schema["required"]]
    return {key: schema[key] for key in KEYS if key in schema}


def files() -> dict[Path, str]:
    """Every generated file and its text."""
    kinds = [kind for topic in CATALOGUE for kind in topic.types]
    wanted = {
        SCHEMAS / f"{kind.name()}.schema.json": json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"
        for kind in kinds
    }
    return wanted | {EVENTS: "\n".join(_events()) + "\n"}


# ---------------------------------------------------------------- docs/events.md


def _events() -> Iterator[str]:
    yield from (NOTE.format(module="schemas.generate"), "", "# Events and topics", "")
    yield "Every record is one CloudEvent 1.0 in structured JSON. A topic without types is planned and not created yet."
    yield "Readers ignore fields they do not know. All topics have `message.timestamp.type=LogAppendTime`; when a thing"
    yield "happened stands in the envelope. What a service refuses goes to `dlq.<service>`, unchanged, for 30 days."
    yield from ("", "## Topics", "")
    yield from table(("topic", "key", "types", "kept", "written by", "read by"), map(_topic_row, CATALOGUE))
    yield from ("", "## Event types", "", "Some types of fields have names:", "")
    yield from (f"- {name}: {_bounded(TypeAdapter(kind).json_schema())}" for name, kind in NAMED.items())
    yield "- time: RFC 3339 with its offset, such as `2026-01-05T10:00:00+01:00`, from 1990 to 2199"
    yield ""
    shown: dict[object, str] = {}
    for topic in CATALOGUE:
        for kind in topic.types:
            if topic is not HELD:
                yield from _event(topic, kind, shown)
    yield from _envelope()


def _topic_row(topic: Topic) -> Sequence[str]:
    types = "<br>".join(_link(kind.name()) for kind in topic.types) or "planned"
    name = f"`{topic.name}`" + (", read whole by every worker" if topic.whole else "")
    return name, topic.key, types, _kept(topic), ", ".join(topic.producers), ", ".join(topic.consumers)


def _kept(topic: Topic) -> str:
    if isinstance(topic.retention, Compacted):
        return "the last of each key"
    return "for ever" if topic.retention.days is None else f"{topic.retention.days} days"


def _event(topic: Topic, kind: type[Event], shown: dict[object, str]) -> Iterator[str]:
    """The section of one type; data that another type has already shown is referred to."""
    schema = json_schema(kind)
    until = f", before its account is known `{HELD.name}`" if kind in HELD.types else ""
    yield from (f"### {kind.name()}", "", f"{schema['description']} Topic `{topic.name}`{until}.", "")
    data = kind.model_fields["data"].annotation
    if data in shown:
        yield from (f"`data` as in {_link(shown[data])}.", "")
        return
    shown[data] = kind.name()
    outermost, *inner = _parts(schema["$defs"], next(_references(schema["properties"]["data"])))
    yield from _part(schema["$defs"][outermost])
    for name in inner:
        yield from (f"**{name}**", "", *_part(schema["$defs"][name]))


def _part(schema: Json) -> Iterator[str]:
    if "description" in schema:
        yield from (schema["description"], "")
    yield from (*_fields(schema), "")


def _parts(definitions: Json, name: str) -> list[str]:
    """The names of a definition and of those it needs, in the order in which the fields name them."""
    found = [name]
    for field in definitions[name]["properties"].values():
        for inner in _references(field):
            found += [part for part in _parts(definitions, inner) if part not in found]
    return found


def _references(schema: object) -> Iterator[str]:
    match schema:
        case {"$ref": str(reference)}:
            yield reference.rpartition("/")[2]
        case dict():
            for value in schema.values():
                yield from _references(value)
        case list():
            for value in schema:
                yield from _references(value)
        case _:
            return


def _fields(schema: Json) -> Iterator[str]:
    required = schema.get("required", [])
    rows = (
        (f"`{name}`", _type(field), "yes" if name in required else "no", _described(field))
        for name, field in schema["properties"].items()
    )
    return table(("field", "type", "required", "description"), rows)


def _described(field: Json) -> str:
    default = field.get("default")
    told: str = field.get("description", "")
    if default in (None, [], {}) or "const" in field:
        return told
    return f"{told} `{json.dumps(default)}` when absent.".strip()


def _envelope() -> Iterator[str]:
    schema = Event.model_json_schema(schema_generator=Untitled)
    properties = {name: field for name, field in schema["properties"].items() if name != "data"}
    required = [*schema["required"], *STATED]
    yield from ("## The envelope", "", f"Content type `{CONTENT_TYPE}`. {schema['description']}", "")
    yield from _fields({"properties": properties, "required": required})


def _type(field: Json) -> str:
    """The field's type in words."""
    match field:
        case {"$ref": reference}:
            return str(reference).rpartition("/")[2]
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return " or ".join(f"`{value}`" for value in values)
        case {"anyOf": choices}:
            return " or ".join(_type(choice) for choice in choices if choice != {"type": "null"})
        case {"type": "array" | "object"}:
            return _collection(field)
        case {"format": "date-time"}:
            return "time"
        case _:
            return NAMES.get(_bare(field)) or _bounded(field)


def _collection(field: Json) -> str:
    match field:
        case {"prefixItems": items}:
            return f"[{', '.join(_type(item) for item in items)}]"
        case {"items": item}:
            return f"list of {_type(item)}"
        case {"additionalProperties": dict(value)}:
            key = {"type": "string", **field.get("propertyNames", {})}
            return f"map of {_type(key)} to {_type(value)}"
        case {"patternProperties": values}:
            keys = ((_type({"type": "string", "pattern": key}), value) for key, value in values.items())
            return " or ".join(f"map of {key} to {_type(value)}" for key, value in keys)
        case _:
            raise ValueError(f"the documentation has no words for {field}; add them to schemas/generate.py")


def _bounded(field: Json) -> str:
    name = "text" if field["type"] == "string" else str(field["type"])
    bounds = [f"{words} `{field[key]}`" for key, words in BOUNDS.items() if key in field]
    return ", ".join([name, *bounds])


def _bare(field: Json) -> str:
    return json.dumps({key: field[key] for key in sorted(field) if key == "type" or key in BOUNDS})


# How a field of one of the named types looks in a schema -> its name.
NAMES = {_bare(TypeAdapter(kind).json_schema()): name for name, kind in NAMED.items()}


def _link(name: str) -> str:
    return f"[{name}](#{name.replace('.', '')})"


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    for cells in (head, ["---"] * len(head), *rows):
        escaped = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
        yield f"| {' | '.join(escaped)} |"


# ---------------------------------------------------------------- command


def stale(wanted: Mapping[Path, str]) -> list[Path]:
    """Files that are absent, differ, or stand in schemas/json although no event type wants them."""
    differing = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    folders = {path.parent for path in wanted if path.suffix == ".json"}
    left = [path for folder in folders for path in folder.glob("*.json") if path not in wanted]
    return sorted([*differing, *left])


def main(wanted: Mapping[Path, str], arguments: Sequence[str]) -> int:
    """Write the files, or with --check only name those that are stale; the exit code."""
    found = stale(wanted)
    check = list(arguments) == ["--check"]
    if arguments and not check:
        print("only --check is understood here")
        return 2
    for path in found:
        name = path.relative_to(ROOT)
        if check:
            print(f"{name} is stale")
        elif path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], "utf-8")
            print(f"{name} written")
        else:
            path.unlink()
            print(f"{name} removed")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main(files(), sys.argv[1:]))
