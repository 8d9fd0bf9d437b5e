"""Files of history: what is refused and why, the order of their facts, and the chunks they are sent in."""

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from services.core.instants import DAY, SECOND, Instant, moment
from services.ingest import importer
from services.ingest.files import FileError, History, Homed, read
from services.ingest.importer import Chunk, chunks
from services.ingest.mapping import Draft, MapFile
from services.ingest.model import account_of
from services.runtime.documents import load

ROOT = Path(__file__).parents[2]
NOW: Instant = 1_790_000_000 * SECOND
TODAY: Instant = NOW - NOW % DAY
HEADER = "ticket,event,agent,at,customer"
MAP: dict[str, Any] = {
    "source": "desk",
    "account": {"home": "desk:customer:{customer}", "create": True},
    "facts": (
        {
            "when": {"event": "assigned"},
            "type": "handoff.opened",
            "time": "{at}",
            "data": {"handoff": "{ticket}", "kind": "ticket", "owner": "{agent}"},
        },
        {
            "when": {"event": "taken"},
            "type": "handoff.accepted",
            "time": "{at}",
            "data": {"handoff": "{ticket}", "owner": "{agent}"},
        },
    ),
}
GROUPED = {"account": {"home": "desk:customer:{customer}", "first_of": "{ticket}"}}
Reading = Callable[..., History]


def row(ticket: str, event: str, second: int, customer: str = "c1", agent: str = "ann") -> str:
    return f"{ticket},{event},{agent},{moment(TODAY + second * SECOND).isoformat()},{customer}"


def text(*rows: str) -> bytes:
    return "".join(f"{line}\n" for line in (HEADER, *rows)).encode()


GOOD = text(row("T1", "assigned", 1), row("T1", "taken", 2))


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    """Reads bytes as a file named log.csv."""
    opened: list[History] = []

    def reads(content: bytes, name: str = "log.csv", **changes: Any) -> History:
        path = tmp_path / name
        path.write_bytes(content)
        history = read(path, MapFile.model_validate(MAP | changes), NOW)
        opened.append(history)
        return history

    yield reads
    for history in opened:
        history.__exit__()


def said(history: History) -> list[tuple[str, str, int]]:
    """Id, home and second of each fact, in order."""
    return [(one.draft.id, one.home, (one.draft.at - TODAY) // SECOND) for one in history.in_order()]


def rejected(history: History, folder: Path) -> list[list[str]]:
    path = history.write_rejects(folder / "rejects.csv")
    if path is None:
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


# ---------------------------------------------------------------- what is refused as a whole

CUT = gzip.compress(text(*(row(f"T{n}", "assigned", n, agent=str(n * 7919)) for n in range(5000))))
THERE = "there are ticket, event, agent, at, customer"
REFUSED: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "an empty file": (b"", {}, ": the file is empty; a header and rows belong here"),
    "blank lines only": (b"\n \n\r\n", {}, ": the file is empty; a header and rows belong here"),
    "a header only": (text(), {}, ": there is a header and no row"),
    "another encoding": (
        text(row("T1", "assigned", 1), row("T2", "assigned", 2, agent="Zoë")).decode().encode("cp1252"),
        {},
        ":3: this is not text in utf-8; name its encoding in the map",
    ),
    "another encoding far into the file": (
        text(*(row(f"T{n}", "assigned", n) for n in range(4000))) + "Zoë".encode("cp1252") + b",x\n",
        {},
        ":4002: this is not text in utf-8; name its encoding in the map",
    ),
    "utf-16": (
        GOOD.decode().encode("utf-16-le"),
        {},
        ":1: a NUL byte stands here, so this is no CSV in this encoding; is it a spreadsheet or utf-16?",
    ),
    "a NUL byte": (
        text(row("T1", "assigned", 1), "T2,\0"),
        {},
        ":3: a NUL byte stands here, so this is no CSV in this encoding; is it a spreadsheet or utf-16?",
    ),
    "a quote that is not closed": (
        text(row("T1", "assigned", 1), '"T2,taken', row("T3", "assigned", 1)),
        {},
        ":3: this is no CSV: unexpected end of data",
    ),
    "text after a quote": (
        text(row("T1", "assigned", 1), '"T2"x,taken,,,'),
        {},
        ":3: this is no CSV: ',' expected after '\"'",
    ),
    "a gzip file that breaks off at once": (
        gzip.compress(GOOD)[:15],
        {},
        ": this gzip file is truncated or damaged after 0 rows; nothing was sent",
    ),
    "a gzip file that is damaged": (
        gzip.compress(GOOD)[:-6] + b"xxxxxx",
        {},
        ": this gzip file is truncated or damaged after 2 rows; nothing was sent",
    ),
    "a column that the map names": (
        GOOD,
        {"account": {"home": "desk:customer:{client}"}},
        ": account.home: 'desk:customer:{client}' names the column 'client', which is not there; " + THERE,
    ),
    "another delimiter": (
        GOOD.replace(b",", b";"),
        {"columns": {"when": "at"}, "id": "{row}"},
        ": columns.when: the column 'at' is not there; there are ticket;event;agent;at;customer",
    ),
}


@pytest.mark.parametrize(("content", "changes", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_taken_says_why(
    content: bytes, changes: dict[str, Any], expected: str, reading: Reading, tmp_path: Path
) -> None:
    with pytest.raises(FileError) as caught:
        reading(content, **changes)
    assert str(caught.value).splitlines()[0] == f"{tmp_path / 'log.csv'}{expected}"


def test_a_gzip_file_that_breaks_off_says_after_how_many_rows(reading: Reading, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"truncated or damaged after [1-4],\d{3} rows; nothing was sent$"):
        reading(CUT[: len(CUT) * 3 // 4])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        read(tmp_path / "none.csv", MapFile.model_validate(MAP), NOW)
    assert str(caught.value) == f"{tmp_path / 'none.csv'}: there is no such file"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        read(tmp_path, MapFile.model_validate(MAP), NOW)
    assert str(caught.value) == f"{tmp_path}: this is a directory; name the file in it"


# ---------------------------------------------------------------- what is read

FORMS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": (GOOD, {}),
    "gzip": (gzip.compress(GOOD), {}),
    "gzip in two members": (gzip.compress(GOOD[:40]) + gzip.compress(GOOD[40:]), {}),
    "lines as Windows ends them": (GOOD.replace(b"\n", b"\r\n"), {}),
    "no end of the last line": (GOOD.rstrip(b"\n"), {}),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, {}),
    "blank lines between": (GOOD.replace(b"\n", b"\n\n  \n"), {}),
    "blanks around the header": (GOOD.replace(b"event,", b" event ,", 1), {}),
    "semicolons": (GOOD.replace(b",", b";"), {"delimiter": ";"}),
    "utf-16": (GOOD.decode().encode("utf-16"), {"encoding": "utf-16"}),
    "quotes": (GOOD.replace(b"ann", b'"ann"'), {}),
}


@pytest.mark.parametrize(("content", "changes"), FORMS.values(), ids=FORMS)
def test_a_file_may_be_written_in_many_ways(content: bytes, changes: dict[str, Any], reading: Reading) -> None:
    history = reading(content, **changes)
    assert (history.rows, history.rejects) == (2, 0)
    assert said(history) == [("log:1.0", "desk:customer:c1", 1), ("log:2.1", "desk:customer:c1", 2)]


def test_a_cell_may_span_lines(reading: Reading) -> None:
    history = reading(text('"T\n1",assigned,ann,never,c1', row("T2", "assigned", 1)))
    assert [one.draft.id for one in history.in_order()] == ["log:2.0"]


@pytest.mark.parametrize("name", ["log", "log.csv", "log.gz", "log.csv.gz"])
def test_ids_do_not_tell_how_a_file_was_packed(name: str, reading: Reading) -> None:
    assert [one.draft.id for one in reading(GOOD, name).in_order()] == ["log:1.0", "log:2.1"]


def test_the_hash_is_that_of_the_content_however_it_is_packed(reading: Reading) -> None:
    plain, packed = reading(GOOD), reading(gzip.compress(GOOD, 1), "log.csv.gz")
    assert plain.sha256 == packed.sha256 == sha256(GOOD).hexdigest()


def test_facts_come_in_order_of_time_then_row_then_part(reading: Reading) -> None:
    both = tuple(rule | {"when": {}} for rule in MAP["facts"])
    history = reading(text(row("T1", "x", 3), row("T2", "x", 1), row("T3", "x", 3), row("T4", "x", 2)), facts=both)
    expected = ["log:2.0", "log:2.1", "log:4.0", "log:4.1", "log:1.0", "log:1.1", "log:3.0", "log:3.1"]
    assert [one.draft.id for one in history.in_order()] == expected
    assert [one.draft.id for one in history.in_order(skip=5)] == expected[5:]
    assert history.facts == 8


def test_a_group_belongs_to_the_home_of_its_first_row_in_time(reading: Reading) -> None:
    rows = (
        row("T1", "assigned", 5, "late"),
        row("T1", "closed", 2, "first"),  # gives no fact, and decides
        row("T1", "taken", 2, "same-time-later-row"),
        row("T2", "assigned", 3, "other"),
    )
    assert said(reading(text(*rows), **GROUPED)) == [
        ("log:3.1", "desk:customer:first", 2),
        ("log:4.0", "desk:customer:other", 3),
        ("log:1.0", "desk:customer:first", 5),
    ]


def test_a_row_without_group_belongs_to_its_own_home(reading: Reading) -> None:
    grouped = {"account": {"home": "desk:customer:{customer}", "first_of": "{agent}"}}
    rows = (row("T1", "assigned", 1, "own", agent=""), row("T2", "assigned", 2, "other", agent=""))
    assert said(reading(text(*rows), **grouped)) == [
        ("log:1.0", "desk:customer:own", 1),
        ("log:2.0", "desk:customer:other", 2),
    ]


def test_progress_is_told_and_may_end_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(text(*(row(f"T{n}", "assigned", n) for n in range(4500))))
    told: list[tuple[int, float]] = []
    with read(path, MapFile.model_validate(MAP), NOW, lambda rows, part: told.append((rows, part))):
        assert [rows for rows, _ in told] == [2000, 4000, 4500]
        assert 0 < told[0][1] <= told[1][1] <= told[2][1] == 1

    def stop(_rows: int, _part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(path, MapFile.model_validate(MAP), NOW, stop)


# ---------------------------------------------------------------- rows that are refused


def test_refused_rows_are_written_with_line_reason_and_fields(reading: Reading, tmp_path: Path) -> None:
    early = "T2,assigned,ann,1989-01-01T00:00:00Z,c1"
    history = reading(text(row("T1", "assigned", 1), "", early, "T3,assigned", row("T4", "assigned", 2, "")))
    assert said(history) == [("log:1.0", "desk:customer:c1", 1)]
    assert rejected(history, tmp_path) == [
        ["line", "reason", "ids", "ticket", "event", "agent", "at", "customer"],
        ["4", "the time '1989-01-01T00:00:00Z' lies before 1990", "", *early.split(",")],
        ["5", "the row has 2 fields, the header 5", "", "T3", "assigned"],
        [
            "6",
            "account.home needs 'desk:customer:{customer}', and a cell that it names is empty",
            "",
            *row("T4", "assigned", 2, "").split(","),
        ],
    ]


def test_without_refused_rows_nothing_is_written(
    reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reading(GOOD).write_rejects() is None
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize(
    ("place", "expected"),
    [(None, "log.csv.gz.rejects.csv"), ("sub", "sub/log.csv.gz.rejects.csv"), ("sub/why.csv", "sub/why.csv")],
    ids=["the current directory", "another directory", "a file"],
)
def test_rejects_are_written_where_they_are_wanted(
    place: str | None, expected: str, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    history = reading(text("T1,assigned"), "log.csv.gz")
    assert history.write_rejects(None if place is None else Path(place)) == Path(expected)
    assert (tmp_path / expected).read_text().startswith("line,reason,ids,ticket,")


def test_rejects_that_cannot_be_written_are_a_sentence(reading: Reading, tmp_path: Path) -> None:
    target = tmp_path / "none" / "why.csv"
    with pytest.raises(FileError) as caught:
        reading(text("T1,assigned")).write_rejects(target)
    assert str(caught.value) == f"the rejects cannot be written to {target}: No such file or directory"


def test_a_row_whose_id_was_given_before_is_refused(reading: Reading, tmp_path: Path) -> None:
    rows = (row("T1", "assigned", 9), row("T2", "assigned", 1), row("T1", "assigned", 2), row("T1", "taken", 3))
    history = reading(text(*rows), id="{ticket}")
    assert said(history) == [
        ("T2.0", "desk:customer:c1", 1),
        ("T1.1", "desk:customer:c1", 3),
        ("T1.0", "desk:customer:c1", 9),
    ]
    assert rejected(history, tmp_path)[1:] == [
        ["4", "line 2 has given the same id before", "T1.0", *rows[2].split(",")]
    ]


def test_a_group_without_any_home_is_refused(reading: Reading, tmp_path: Path) -> None:
    rows = (row("T1", "assigned", 1, ""), row("T1", "closed", 2, ""), row("T2", "assigned", 1, ""), row("T2", "x", 2))
    history = reading(text(*rows), **GROUPED)
    assert said(history) == [("log:3.0", "desk:customer:c1", 1)]
    assert rejected(history, tmp_path)[1:] == [
        ["2", "no row with the same account.first_of says whose it is: T1", "log:1.0", *rows[0].split(",")]
    ]


def test_rows_of_unknown_homes_are_refused_with_their_ids(reading: Reading, tmp_path: Path) -> None:
    rows = (row("T1", "assigned", 1, "known"), row("T2", "assigned", 2, "new"), row("T2", "taken", 3, "new"))
    history = reading(text(*rows))
    assert history.homes() == {"desk:customer:known", "desk:customer:new"}
    history.keep({"desk:customer:known"})
    assert said(history) == [("log:1.0", "desk:customer:known", 1)]
    assert (history.facts, history.rejects) == (1, 2)
    why = "the home desk:customer:new is mapped to no account"
    assert rejected(history, tmp_path)[1:] == [
        ["3", why, "log:2.0", *rows[1].split(",")],
        ["4", why, "log:3.1", *rows[2].split(",")],
    ]


# ---------------------------------------------------------------- how facts are sent


def at(*seconds: int) -> Iterator[Homed]:
    for number, second in enumerate(seconds):
        draft = Draft(0, str(number), "steward.handoff.opened.v1", second * SECOND, {})
        yield Homed("desk:customer:c1", draft)


def cut(facts: Iterable[Chunk]) -> list[tuple[list[int], bool]]:
    return [([one.draft.at // SECOND for one in chunk.facts], chunk.whole) for chunk in facts]


CHUNKS = {
    "nothing": ((), 9, []),
    "room for none": ((1, 2), 0, []),
    "each time ends a full chunk": ((1, 2, 3, 4, 5), 9, [([1, 2], True), ([3, 4], True), ([5], True)]),
    "a chunk waits for the end of its time": ((1, 2, 2, 3), 9, [([1, 2, 2], True), ([3], True)]),
    "a time with too many facts is cut": (
        (1, 2, 2, 2, 2, 2, 3),
        9,
        [([1, 2, 2, 2], False), ([2, 2], True), ([3], True)],
    ),
    "a stop between two times": ((1, 2, 3), 1, [([1], True)]),
    "a stop within a time": ((1, 2, 2, 3), 2, [([1, 2], False)]),
    "a stop at the end": ((1, 2, 2), 3, [([1, 2, 2], True)]),
}


@pytest.mark.parametrize(("seconds", "most", "expected"), CHUNKS.values(), ids=CHUNKS)
def test_chunks_end_where_the_time_changes(
    seconds: tuple[int, ...], most: int, expected: list[tuple[list[int], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "CHUNK", 2)
    monkeypatch.setattr(importer, "LARGEST_CHUNK", 4)
    assert cut(chunks(at(*seconds), most)) == expected


THROUGH = {
    "all of the last time": ((3, 4, 4), True, 2, 4),
    "a part of the last time": ((3, 4, 4), False, 2, 3),
    "a part of one time": ((4, 4), False, 2, 2),
    "a part of the first time": ((4, 4), False, None, None),
}


@pytest.mark.parametrize(("seconds", "whole", "before", "expected"), THROUGH.values(), ids=THROUGH)
def test_a_run_promises_only_times_it_has_sent_whole(
    seconds: tuple[int, ...], whole: bool, before: int | None, expected: int | None
) -> None:
    until = [None if second is None else moment(second * SECOND) for second in (before, expected)]
    assert Chunk(list(at(*seconds)), whole).through(until[0]) == until[1]


def test_the_account_of_a_home_is_the_same_for_everyone() -> None:
    assert account_of("desk:customer:c1") == "acc_b4bbb9ba58abd21b"


# ---------------------------------------------------------------- real data


@pytest.mark.data
def test_the_help_desk_log_becomes_openings_and_acceptances_in_order_of_time(shared_data: Path) -> None:
    mapping = load(ROOT / "deploy/mapping/helpdesk.yaml", MapFile)
    with read(shared_data / "handoffs/helpdesk.csv.gz", mapping, NOW) as history:
        facts = list(history.in_order())
        assert (history.rows, history.facts, history.rejects) == (21_348, 9_998, 0)
    types = Counter(fact.draft.type for fact in facts)
    assert types == {"steward.handoff.opened.v1": 4_938, "steward.handoff.accepted.v1": 5_060}
    order = [(fact.draft.at, int(fact.draft.id.split(":")[1].split(".")[0]), fact.draft.part) for fact in facts]
    assert order == sorted(order)
    assert len({fact.draft.id for fact in facts}) == len(facts)
    homes = {(fact.draft.data["handoff"], fact.home) for fact in facts}
    assert len(homes) == len({ticket for ticket, _ in homes})
    opened = {fact.draft.data["handoff"] for fact in facts if fact.draft.part == 0}
    assert len(opened) == 4_580 - 85
