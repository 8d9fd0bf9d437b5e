"""Facts about identity: which account a vendor's own id stands for."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from schemas.envelope import Data, Event, Id

# Whatever is a home is also an id: it becomes the key of records, and part of the ids of handoffs.
Home = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*:[a-z0-9_-]+:[^\x00-\x1f]+$", max_length=200)]


class Mapping(Data):
    home: Home
    account: Id


class IdentityMapped(Event):
    """From now on facts of this home (`<source>:<kind>:<external id>`) belong to this account."""

    type: Literal["steward.identity.mapped.v1"] = "steward.identity.mapped.v1"
    data: Mapping
