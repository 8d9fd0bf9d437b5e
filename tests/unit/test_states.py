"""States in the changelog: what was written once is read for good."""

from typing import Any
from zlib import compress, decompress

import msgspec
import pytest

from services.alerting.case import CaseProcessor
from services.alerting.desk import DeskProcessor
from services.alerting.model import Case, Deal, Desk, Known
from services.core.processor import Processor
from services.core.states import States
from services.handoff.model import Account, Handoff, Happening, What
from services.handoff.processor import HandoffProcessor
from services.ingest.identity import Home, IdentityProcessor, Mapped, Waiting


class Thing(msgspec.Struct, frozen=True):
    name: str
    parts: tuple[int, ...] = ()


WRITTEN: list[tuple[Processor[Any], object, str, bool]] = [
    (
        HandoffProcessor(),
        Account({"deal-1": Handoff((Happening(7, What.OPENED, 0, "crm", "e1"),), wake=9)}, ("crm",)),
        "9281a66465616c2d319b9199070000a363726da26531c0c0c0c08009c000a0c200c290c091a363726d",
        False,
    ),
    (
        IdentityProcessor(),
        Home(Mapped(7, 0, "crm", "e1", "acme"), (Waiting(b"\1\2", 7, b"{}"),)),
        "92950700a363726da26531a461636d659193c402010207c4027b7d",
        False,
    ),
    (
        CaseProcessor(),
        Case("Acme", (7, 0, "crm", "e1"), {"d": Deal(True, None, "12", "EUR")}, {}, {"deal-1": (7, 8)}),
        "78019bbac4313937750a3bc3e2e4a2dc45a9868d0b53a61c3eb0c8d068b16b685043e3b294d4c41c5dc349ec1c00746410d5",
        True,
    ),
    (
        DeskProcessor(("hook",)),
        Desk({"n": Known("t", None, (), ("hook",), 9)}, {}, ("n",), 7, {"hook": 5}),
        "78019bdab8306feac2920313262ec9c8cfcfe66c98b8308fbd11cc660500cf5b0d11",
        True,
    ),
]


@pytest.mark.parametrize(
    ("processor", "state", "hexadecimal", "deflated"), WRITTEN, ids=[one[0].name for one in WRITTEN]
)
def test_version_1_stays_as_it_was_written(
    processor: Processor[Any], state: object, hexadecimal: str, deflated: bool
) -> None:
    raw, written = bytes.fromhex(hexadecimal), processor.encode(state)
    assert processor.decode(raw, 1) == state
    if deflated:  # another build of zlib may deflate otherwise
        raw, written = decompress(raw), decompress(written)
    assert written == raw


# What stood there before fields with a default were added at the end, which needs no version of its own.
SHORTER = {
    "handoff": "9281a66465616c2d31999199070000a363726da26531c0c0c0c08009c000a0c200c291a363726d",
}


@pytest.mark.parametrize("name", SHORTER)
def test_what_was_written_with_fewer_fields_is_read_for_good(name: str) -> None:
    processor, state = next((processor, state) for processor, state, *_ in WRITTEN if processor.name == name)
    assert processor.decode(bytes.fromhex(SHORTER[name]), 1) == state


@pytest.mark.parametrize("deflated", [False, True], ids=["plain", "deflated"])
def test_a_state_comes_back_as_it_was(deflated: bool) -> None:
    states = States("thing", 3, Thing, deflated=deflated)
    thing = Thing("a", (1, 2))
    assert states.decode(states.encode(thing), 3) == thing


def test_deflated_a_long_state_is_short() -> None:
    thing = Thing("a" * 10_000)
    assert len(States("thing", 1, Thing, deflated=True).encode(thing)) < 200


@pytest.mark.parametrize("version", [0, 2, 4, 255])
def test_a_version_that_is_not_known_is_refused_by_name(version: int) -> None:
    states = States("thing", 3, Thing)
    with pytest.raises(ValueError, match=f"state version {version} of the thing processor is not known; this is 3"):
        states.decode(states.encode(Thing("a")), version)


def renamed(plain: dict[str, Any]) -> dict[str, Any]:
    """From version 1, which knew a title, to 2."""
    return {"name": plain["title"], "parts": plain["parts"]}


def doubled(plain: dict[str, Any]) -> dict[str, Any]:
    """From version 2, which counted in halves, to 3."""
    return {**plain, "parts": [2 * part for part in plain["parts"]]}


@pytest.mark.parametrize("deflated", [False, True], ids=["plain", "deflated"])
@pytest.mark.parametrize(
    ("version", "written"),
    [
        (1, {"title": "a", "parts": [1, 2]}),
        (2, {"name": "a", "parts": [1, 2]}),
        (3, {"name": "a", "parts": [2, 4]}),
    ],
)
def test_what_an_older_version_wrote_is_read_by_way_of_those_in_between(
    version: int, written: dict[str, Any], deflated: bool
) -> None:
    states = States("thing", 3, Thing, deflated=deflated, upcasts={1: renamed, 2: doubled})
    raw = msgspec.msgpack.encode(written)
    assert states.decode(compress(raw) if deflated else raw, version) == Thing("a", (2, 4))


class Binary(msgspec.Struct, frozen=True, array_like=True):
    raw: bytes
    at: int = 0


def test_bytes_and_states_without_names_come_through_an_upcast() -> None:
    states = States("binary", 2, Binary, upcasts={1: lambda plain: [*plain, 7]})
    assert states.decode(msgspec.msgpack.encode([b"\xff\0"]), 1) == Binary(b"\xff\0", 7)


@pytest.mark.parametrize(
    ("version", "advice"), [(0, "start a Steward in between first"), (1, "in between"), (5, "a newer Steward wrote it")]
)
def test_versions_outside_the_chain_are_refused_with_what_to_do(version: int, advice: str) -> None:
    states = States("thing", 4, Thing, upcasts={2: renamed, 3: doubled})
    told = f"version {version} of the thing processor is not known; this is 4, which reads from 2 on: .*{advice}"
    with pytest.raises(ValueError, match=told):
        states.decode(states.encode(Thing("a")), version)


@pytest.mark.parametrize("versions", [[1], [1, 3], [2, 3, 4], [4], [5]])
def test_a_chain_with_a_gap_is_refused_when_it_is_declared(versions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"the upcasts of the thing processor begin at .* to 4 without a gap"):
        States("thing", 4, Thing, upcasts=dict.fromkeys(versions, renamed))


def test_an_upcast_that_makes_no_state_is_refused() -> None:
    states = States("thing", 2, Thing, upcasts={1: lambda _: {"name": 7}})
    with pytest.raises(msgspec.ValidationError):
        states.decode(msgspec.msgpack.encode({}), 1)


def test_what_does_not_fit_the_type_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        States("thing", 1, Thing).decode(msgspec.msgpack.encode({"name": 7}), 1)
