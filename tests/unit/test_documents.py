"""Documents an operator writes: what they become, and one sentence with its line per mistake."""

from datetime import date, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.policies import Policy
from services.runtime.documents import DocumentError, load

ROOT = Path(__file__).parents[2]


class Leg(BaseModel):
    model_config = ConfigDict(strict=True)

    hours: float = Field(gt=0)
    calendar: str | None = None


class Rule(BaseModel):
    model_config = ConfigDict(strict=True)

    version: int
    since: date | None = None
    seen: datetime | None = None
    open: bool = True
    legs: dict[str, Leg] = Field(default_factory=dict)
    steps: tuple[Leg, ...] = ()

    @model_validator(mode="after")
    def _calendars_are_known(self) -> "Rule":
        for name, leg in self.legs.items():
            if leg.calendar not in {None, "always"}:
                raise ValueError(f"legs.{name}.calendar names calendar '{leg.calendar}', which is not there")
        return self


def read(folder: Path, text: str | bytes) -> Rule:
    path = folder / "rule.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, Rule)


def refusal(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read(folder, text)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


MISTAKES: dict[str, tuple[str | bytes, list[str]]] = {
    "a misspelt key": (
        "version: 1\nlegs:\n  accept: {hourz: 4}\n",
        ["rule.yaml:3: 'hourz' is not a key here; did you mean 'hours'?"],
    ),
    "a key like no other": (
        "version: 1\ncolour: red\n",
        ["rule.yaml:2: 'colour' is not a key here; remove it"],
    ),
    "a key in the wrong place": (
        "version: 1\nhours: 4\n",
        ["rule.yaml:2: 'hours' is not a key here, but elsewhere in this file; is it indented as it should be?"],
    ),
    "a missing key": (
        "version: 1\nlegs:\n  accept:\n    calendar: always\n",
        ["rule.yaml:3: legs.accept.hours: field required"],
    ),
    "a missing key of an item": (
        "version: 1\nsteps:\n  - hours: 1\n  - calendar: always\n",
        ["rule.yaml:4: steps.1.hours: field required"],
    ),
    "a missing key of the document": ("# first\nopen: true\n", ["rule.yaml:2: version: field required"]),
    "a wrong value": (
        "version: 1\nlegs:\n  accept:\n    hours: -4\n",
        ["rule.yaml:4: legs.accept.hours: input should be greater than 0 (found -4)"],
    ),
    "a value on the line after its key": (
        "version: 1\nlegs:\n  accept:\n    hours:\n      -4\n",
        ["rule.yaml:5: legs.accept.hours: input should be greater than 0 (found -4)"],
    ),
    "a value that is not there": (
        "legs: {}\nversion:\nopen: true\n",
        ["rule.yaml:2: version: input should be a valid integer (found None)"],
    ),
    "a word for a number": (
        'version: "1"\n',
        ["rule.yaml:1: version: input should be a valid integer (found '1')"],
    ),
    "an alias of a wrong value": (
        "version: &x true\nopen: *x\nlegs: *x\n",
        [
            "rule.yaml:1: version: input should be a valid integer (found True)",
            "rule.yaml:3: legs: input should be an object (found True)",
        ],
    ),
    "a check over the document": (
        "version: 1\nlegs:\n  accept:\n    hours: 4\n    calendar: never\n",
        ["rule.yaml:5: legs.accept.calendar names calendar 'never', which is not there"],
    ),
    "several mistakes in order of their lines": (
        "legs:\n  accept: {hours: 0}\nvers: 1\n",
        [
            "rule.yaml:2: legs.accept.hours: input should be greater than 0 (found 0)",
            "rule.yaml:3: 'vers' is not a key here; did you mean 'version'?",
        ],
    ),
    "a key that stands twice": (
        "version: 1\nopen: true\nversion: 2\n",
        ["rule.yaml:3: the key 'version' stands here a second time; keep one of them"],
    ),
    "a bracket that is not closed": (
        "version: 1\nsteps: [1\nopen: true\n",
        ["rule.yaml:3: this is not readable YAML: expected ',' or ']', but got ':', while parsing a flow sequence"],
    ),
    "a tab": (
        "version: 1\n\topen: true\n",
        [
            (
                "rule.yaml:2: this is not readable YAML: found character '\\t' that cannot start any token, "
                "while scanning for the next token"
            )
        ],
    ),
    "two documents": (
        "version: 1\n---\nversion: 2\n",
        [
            (
                "rule.yaml:2: this is not readable YAML: but found another document, "
                "expected a single document in the stream"
            )
        ],
    ),
    "a control character": (
        "version: 1\nopen: \x07\n",
        ["rule.yaml:2: this is not readable YAML: a control character stands here"],
    ),
    "another encoding": (
        "version: 1\n# für\n".encode("latin-1"),
        ["rule.yaml:2: this is not readable YAML: the file is not in UTF-8"],
    ),
    "a tag": (
        "version: 1\nopen: !maybe yes\n",
        ["rule.yaml:2: the tag of this value means nothing here; write open without it"],
    ),
    "a set": (
        "version: 1\nlegs: !!set {a, b}\n",
        ["rule.yaml:2: the tag of this value means nothing here; write legs without it"],
    ),
    "a key that is a list": ("version: 1\n? [a]\n: 1\n", ["rule.yaml:1: the key ('a',) is not a word"]),
    "a value inside itself": (
        "version: 1\nsteps: " + "[" * 60 + "]" * 60,
        ["rule.yaml:1: values stand more than 50 levels deep under 'steps'"],
    ),
    "an empty file": (
        "",
        ["rule.yaml:1: the file is empty; keys and their values belong here, such as 'version: …'"],
    ),
    "comments only": (
        "# nothing yet\n",
        ["rule.yaml:1: the file is empty; keys and their values belong here, such as 'version: …'"],
    ),
    "a list": (
        "- version: 1\n",
        ["rule.yaml:1: this is not a mapping; keys and their values belong here, such as 'version: …'"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_has_a_sentence_and_its_line(text: str | bytes, expected: list[str], tmp_path: Path) -> None:
    assert refusal(tmp_path, text) == expected


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(DocumentError) as caught:
        load(path, Rule)
    assert str(caught.value) == f"{path}: there is no such file"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, Rule)
    assert str(caught.value) == f"{tmp_path}: this cannot be read: Is a directory"


GOOD = {
    "dates and times without quotes": (
        "version: 1\nsince: 2026-02-06\nseen: 2026-02-06T16:00:00+01:00\n",
        Rule(version=1, since=date(2026, 2, 6), seen=datetime.fromisoformat("2026-02-06T16:00:00+01:00")),
    ),
    "anchors and merged keys": (
        "version: 1\nlegs:\n  accept: &usual {hours: 4, calendar: always}\n  answer: {<<: *usual, hours: 8}\n",
        Rule(version=1, legs={"accept": Leg(hours=4, calendar="always"), "answer": Leg(hours=8, calendar="always")}),
    ),
    "a byte order mark": ("\ufeffversion: 1\n", Rule(version=1)),
    "numbers as names": ("version: 1\nlegs: {24: {hours: 24}}\n", Rule(version=1, legs={"24": Leg(hours=24)})),
}


@pytest.mark.parametrize(("text", "expected"), GOOD.values(), ids=GOOD)
def test_what_a_document_becomes(text: str, expected: Rule, tmp_path: Path) -> None:
    assert read(tmp_path, text) == expected


def test_a_time_of_day_stays_a_word(tmp_path: Path) -> None:
    class Hours(BaseModel):
        opens: str

    path = tmp_path / "hours.yaml"
    path.write_text("opens: 17:00\n")
    assert load(path, Hours) == Hours(opens="17:00")


def test_the_policy_in_the_repository_is_good() -> None:
    assert load(ROOT / "deploy/policy/steward.yaml", Policy).version == 1
