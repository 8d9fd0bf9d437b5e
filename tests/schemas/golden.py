"""The golden messages under schemas/examples, and where in the catalogue their types stand."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import Event
from schemas.topics import CATALOGUE, HELD, Topic

FOLDER = Path(__file__).parents[2] / "schemas/examples"
PLACES: dict[str, tuple[Topic, type[Event]]] = {
    kind.name(): (topic, kind) for topic in CATALOGUE if topic is not HELD for kind in topic.types
}


@dataclass(frozen=True)
class Golden:
    """One golden message: its type is the name of its folder."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.parent.name

    @property
    def topic(self) -> Topic:
        return PLACES[self.name][0]

    @property
    def kind(self) -> type[Event]:
        return PLACES[self.name][1]

    @property
    def value(self) -> bytes:
        return self.path.read_bytes()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.value)
        return found

    def __str__(self) -> str:
        return f"{self.name}/{self.path.stem}"


def golden(kind: str, name: str) -> Golden:
    return Golden(FOLDER / kind / f"{name}.json")


# The place of every file that a type owns; a file elsewhere under the folder is used by nothing.
ALL = [Golden(path) for kind in PLACES for path in sorted((FOLDER / kind).glob("*.json"))]

each_golden = pytest.mark.parametrize("example", ALL, ids=str)
each_kind = pytest.mark.parametrize("kind", [kind for _, kind in PLACES.values()], ids=PLACES)
