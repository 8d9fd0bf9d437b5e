"""HubSpot: what one event of its webhooks says, by the rules of a map and by what is fixed in HubSpot itself."""

import re
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from schemas.codec import sentences
from schemas.envelope import EARLIEST, LATEST, Name
from schemas.topics import HELD
from services.core.instants import instant
from services.ingest.model import Customer, Fact, Heard, Link, Said, Unfit
from services.ingest.policy import Part, check_data, data_of, full_type, pieces

TYPES = {kind.name(): kind for kind in HELD.types}  # facts of homes; what may wait until its account is known

WHAT_LENGTH = 200

_MS = 1_000
Number = Annotated[int, Field(ge=0, lt=1 << 63)]
Text = Annotated[str, StringConstraints(max_length=65_536)]
Moment = Annotated[int, Field(ge=instant(EARLIEST) // _MS, lt=instant(LATEST) // _MS)]


class Change(BaseModel):
    """One event as HubSpot sends it. `attemptNumber` and `eventId` say nothing of what happened and are not read."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    subscriptionType: Annotated[str, StringConstraints(pattern=r"^[\w-]+\.\w+$", max_length=100)]
    portalId: Number
    occurredAt: Moment
    objectId: Number | None = None
    objectTypeId: Text | None = None
    propertyName: Text | None = None
    propertyValue: Text | None = None
    changeSource: Text | None = None
    changeFlag: Text | None = None
    associationType: Text | None = None
    fromObjectId: Number | None = None
    toObjectId: Number | None = None
    associationRemoved: bool | None = None
    isPrimaryAssociation: bool | None = None

    @property
    def kind(self) -> str:
        """The kind of object that changed: deal, company, contact."""
        return self.subscriptionType.partition(".")[0]

    @property
    def what(self) -> str:
        """What it is about, for people."""
        parts = (self.subscriptionType, self.propertyName, self.propertyValue, self.associationType)
        return "/".join(part for part in parts if part)[:WHAT_LENGTH]

    @property
    def fields(self) -> dict[str, str]:
        """Its fields as text; those that are absent or empty are left out."""
        return {name: _text(value) for name, value in self if value is not None and value != ""}

    @property
    def digest(self) -> str:
        """What happened, hashed: a redelivery has the same, whatever its number."""
        if self.fromObjectId is None:
            changed: tuple[object, ...] = (self.objectId, self.propertyName, self.propertyValue)
        else:
            ends = (self.fromObjectId, self.toObjectId)
            changed = (*ends, self.associationType, self.associationRemoved)
        content = msgspec.json.encode([self.portalId, self.kind, *changed, self.occurredAt])
        return blake2b(content, digest_size=16).hexdigest()

    @property
    def at(self) -> int:
        return self.occurredAt * _MS


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# ---------------------------------------------------------------- the map

FIELDS = tuple(Change.model_fields)
_PLAIN = f"must hold plain fields of an event in braces; those are {', '.join(FIELDS)}"


def _template(text: str) -> str:
    for _, name in pieces(text, _PLAIN):
        if name is not None:
            _field(name)
    return text


def _field(name: str) -> str:
    if name not in FIELDS:
        raise ValueError(f"'{name}' is no field of an event; those are {', '.join(FIELDS)}")
    return name


def _type(name: str) -> str:
    return full_type(name, TYPES, "an event")


Template = Annotated[str, AfterValidator(_template)]
FieldName = Annotated[str, AfterValidator(_field)]


class AccountRule(Part):
    """`create`: a company that nobody has mapped becomes an account."""

    create: bool = False


class FactRule(Part):
    """A fact that every event gives whose fields equal those of `when`."""

    when: dict[FieldName, str] = Field(min_length=1)
    home: Template
    type: Annotated[str, AfterValidator(_type)]
    data: dict[str, Template] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_the_type(self) -> "FactRule":
        check_data(TYPES[self.type], self.data)
        return self


class Rules(Part):
    """The map of one HubSpot portal."""

    source: Name
    vendor: Literal["hubspot"]
    account: AccountRule = AccountRule()
    facts: tuple[FactRule, ...] = ()

    @model_validator(mode="after")
    def _homes_are_of_the_source(self) -> "Rules":
        for number, rule in enumerate(self.facts):
            if not re.match(rf"{self.source}:[a-z0-9_-]+:.", rule.home):
                begin = f"'{self.source}:deal:', with this source and a kind of its objects"
                raise ValueError(f"facts.{number}.home must begin like {begin}")
        return self


# ---------------------------------------------------------------- what an event says


class _Absent(Exception):
    """A field that a rule needs is absent or empty."""


def read(item: bytes, rules: Rules) -> Heard:
    """What an event says. Raises Unfit when it is no event of HubSpot."""
    try:
        change = Change.model_validate_json(item)
    except ValidationError as error:
        where, _, why = sentences(error, limit=1)[0].partition(": ")
        raise Unfit(where, why) from None
    said, fields = _fixed(change, rules), change.fields
    why = "no rule of the map fits it"
    for number, rule in enumerate(rules.facts):
        if all(fields.get(name, "") == value for name, value in rule.when.items()):
            try:
                said.append(_fact(change, fields, rule))
            except _Absent as absent:
                why = f"facts.{number} {absent}"
    return Heard(change.what, tuple(said), "" if said else why)


def _fixed(change: Change, rules: Rules) -> list[Said]:
    """Companies are customers, and a deal belongs to its primary company."""
    match change:
        case Change(subscriptionType="company.creation", objectId=int(company)):
            return [Customer(change.digest, change.at, f"{rules.source}:company:{company}", None)]
        case Change(subscriptionType="company.propertyChange", propertyName="name", objectId=int(company)):
            name = change.propertyValue or None
            return [Customer(change.digest, change.at, f"{rules.source}:company:{company}", name)]
        case Change(
            subscriptionType="deal.associationChange",
            associationType="DEAL_TO_COMPANY",
            associationRemoved=False,
            fromObjectId=int(deal),
            toObjectId=int(company),
        ):
            homes = (f"{rules.source}:deal:{deal}", f"{rules.source}:company:{company}")
            return [Link(change.digest, change.at, *homes, change.isPrimaryAssociation is not False)]
        case _:
            return []


def _fact(change: Change, fields: dict[str, str], rule: FactRule) -> Fact:
    required = data_of(TYPES[rule.type])
    data = {}
    for key, template in rule.data.items():
        value = _filled(template, fields)
        if value is not None:
            data[key] = value
        elif required[key]:
            raise _Absent(f"needs '{template}', and a field that it names is empty")
    home = _filled(rule.home, fields)
    if home is None:
        raise _Absent(f"needs '{rule.home}', and a field that it names is empty")
    return Fact(change.digest, rule.type, change.at, home, data)


def _filled(template: str, fields: dict[str, str]) -> str | None:
    """The text for this event; None when a field that it names is absent or empty."""
    found = []
    for text, name in pieces(template, _PLAIN):
        found.append(text)
        if name is not None:
            if name not in fields:
                return None
            found.append(fields[name])
    return "".join(found)
