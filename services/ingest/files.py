"""Files of history: read, checked and brought into order of time, on disk where they are large.

FileError    the file cannot be taken as it is; nothing of it was sent
"""

import codecs
import csv
import gzip
import json
import sqlite3
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from typing import Self

from services.core.errors import OperatorError
from services.core.instants import Instant
from services.ingest.mapping import Draft, MapError, MapFile, Plan, Reject, RowFacts, fit

Progress = Callable[[int, float], None]  # rows read, and which part of the file that was: 0 to 1

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 16
_REPORT_EVERY = 2_000  # rows

_TABLES = """
CREATE TABLE origin (row INTEGER PRIMARY KEY, line INTEGER, cells TEXT, home TEXT, grp TEXT);
CREATE TABLE fact (row INTEGER, part INTEGER, at INTEGER, id TEXT, type TEXT, data TEXT, PRIMARY KEY (row, part))
    WITHOUT ROWID;
CREATE TABLE first (grp TEXT PRIMARY KEY, at INTEGER, home TEXT) WITHOUT ROWID;
CREATE TABLE refused (row INTEGER PRIMARY KEY, reason TEXT);
CREATE TABLE reject (line INTEGER, reason TEXT, ids TEXT, cells TEXT);
"""
# Rows come in order, so of equal times the first one stays.
_FIRST = """
INSERT INTO first VALUES (?, ?, ?)
    ON CONFLICT (grp) DO UPDATE SET at = excluded.at, home = excluded.home WHERE excluded.at < first.at
"""
_SETTLE = "UPDATE origin SET home = (SELECT home FROM first WHERE first.grp = origin.grp) WHERE grp IS NOT NULL"
_HOMELESS = """
INSERT INTO refused SELECT row, 'no row with the same account.first_of says whose it is: ' || grp
    FROM origin WHERE home IS NULL
"""
_TWICE = """
INSERT OR IGNORE INTO refused SELECT fact.row, 'line ' || origin.line || ' has given the same id before'
    FROM (SELECT id, min(row) AS row FROM fact GROUP BY id HAVING count(*) > 1) AS earlier
    JOIN fact ON fact.id = earlier.id AND fact.row > earlier.row
    JOIN origin ON origin.row = earlier.row
"""
_STRANGERS = """
INSERT INTO refused SELECT row, 'the home ' || home || ' is mapped to no account' FROM origin
    WHERE home IN (SELECT value FROM json_each(?))
"""
_DROP_REFUSED = """
INSERT INTO reject SELECT line, reason, (SELECT group_concat(id, ' ') FROM fact WHERE fact.row = origin.row), cells
    FROM refused JOIN origin ON origin.row = refused.row;
DELETE FROM fact WHERE row IN (SELECT row FROM refused);
DELETE FROM origin WHERE row IN (SELECT row FROM refused);
DELETE FROM refused;
"""
_IN_ORDER = """
SELECT home, part, id, type, at, data FROM fact JOIN origin ON origin.row = fact.row
    ORDER BY at, fact.row, part LIMIT -1 OFFSET ?
"""


class FileError(OperatorError):
    """The file cannot be taken as it is; one sentence, with the line where there is one."""


@dataclass(frozen=True, slots=True)
class Homed:
    """A fact and the home it belongs to."""

    home: str
    draft: Draft


class History:
    """What a file says, in order of time. Lives in a private temporary database until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Sequence[str] = ()
        self.rows = 0
        self.sha256 = ""
        # An empty name: SQLite keeps the database in memory and moves it to a private file when it grows.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES + "BEGIN;")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._db.close()

    @property
    def facts(self) -> int:
        return self._count("SELECT count(*) FROM fact")

    @property
    def rejects(self) -> int:
        return self._count("SELECT count(*) FROM reject")

    def homes(self) -> set[str]:
        """Every home that a fact belongs to."""
        return {home for (home,) in self._db.execute("SELECT DISTINCT home FROM origin")}

    def in_order(self, skip: int = 0) -> Iterator[Homed]:
        """The facts by time, then row, then part, without the first `skip` of them."""
        for home, part, id, type, at, data in self._db.execute(_IN_ORDER, (skip,)):
            yield Homed(home, Draft(part, id, type, at, json.loads(data)))

    def keep(self, known: Container[str]) -> None:
        """Refuse the rows whose home is not among these."""
        strangers = [home for home in self.homes() if home not in known]
        self._db.execute(_STRANGERS, (json.dumps(strangers),))
        self._db.executescript(_DROP_REFUSED)

    def write_rejects(self, path: Path | None = None) -> Path | None:
        """The refused rows, their lines, reasons and ids as a CSV file; None when there are none.

        Without a path it is `<file name>.rejects.csv` in the current directory. Raises FileError.
        """
        if not self.rejects:
            return None
        name = f"{self.path.name}.rejects.csv"
        target = Path(name) if path is None else path / name if path.is_dir() else path
        try:
            with target.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["line", "reason", "ids", *self.header])
                found = self._db.execute("SELECT line, reason, ids, cells FROM reject ORDER BY line")
                writer.writerows([line, reason, ids, *json.loads(cells)] for line, reason, ids, cells in found)
        except OSError as error:
            raise FileError(f"the rejects cannot be written to {target}: {error.strerror}") from None
        return target

    def add(self, line: int, cells: Sequence[str], said: RowFacts | Reject | None) -> None:
        """Take the next row in."""
        match said:
            case Reject(_, reason):
                self._db.execute("INSERT INTO reject VALUES (?, ?, '', ?)", (line, reason, json.dumps(cells)))
            case RowFacts(drafts, home, group, at):
                if home is not None and group is not None:
                    self._db.execute(_FIRST, (group, at, home))
                if drafts:
                    origin = (self.rows, line, json.dumps(cells), home, group)
                    self._db.execute("INSERT INTO origin VALUES (?, ?, ?, ?, ?)", origin)
                for draft in drafts:
                    fact = (self.rows, draft.part, draft.at, draft.id, draft.type, json.dumps(draft.data))
                    self._db.execute("INSERT INTO fact VALUES (?, ?, ?, ?, ?, ?)", fact)
            case None:
                return

    def settle(self) -> None:
        """All rows are in: find out whose each group is, and refuse what only all rows together show."""
        for statement in (_SETTLE, _HOMELESS, _TWICE):
            self._db.execute(statement)
        self._db.executescript(_DROP_REFUSED)

    def _count(self, query: str) -> int:
        (number,) = self._db.execute(query).fetchone()
        return int(number)


def read(path: Path, mapping: MapFile, arrival: Instant, progress: Progress = lambda _rows, _part: None) -> History:
    """The whole file, checked against the map. `arrival` is now: a fact dated later is refused.

    Raises FileError. What `progress` raises ends the reading.
    """
    with _opened(path) as raw, ExitStack() as undo:
        history = undo.enter_context(History(path))
        text = _Text(path, raw, mapping.encoding)
        try:
            _fill(history, mapping, text, arrival, lambda rows: progress(rows, text.part))
        except (EOFError, gzip.BadGzipFile, zlib.error):
            after = f"after {history.rows:,} rows; nothing was sent"
            raise FileError(f"{path}: this gzip file is truncated or damaged {after}") from None
        history.sha256 = text.sha256.hexdigest()
        undo.pop_all()
    return history


def stem(name: str) -> str:
    """The name of a file without what says how it is packed."""
    return name.removesuffix(".gz").removesuffix(".csv")


def _fill(history: History, mapping: MapFile, text: "_Text", arrival: Instant, progress: Callable[[int], None]) -> None:
    records = _records(history.path, text, mapping.delimiter)
    plan = _headed(history, records, mapping)
    for line, cells in records:
        history.rows += 1
        history.add(line, cells, plan.read(history.rows, line, cells, arrival))
        if history.rows % _REPORT_EVERY == 0:
            progress(history.rows)
    if not history.rows:
        raise FileError(f"{history.path}: there is a header and no row")
    history.settle()
    progress(history.rows)


def _headed(history: History, records: Iterator[tuple[int, list[str]]], mapping: MapFile) -> Plan:
    path = history.path
    _, cells = next(records, (0, None))
    if cells is None:
        raise FileError(f"{path}: the file is empty; a header and rows belong here")
    history.header = [name.strip() for name in cells]
    try:
        return fit(mapping, history.header, stem(path.name))
    except MapError as error:
        raise FileError("\n".join(f"{path}: {sentence}" for sentence in str(error).splitlines())) from None


def _records(path: Path, text: "_Text", delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Header and rows, each with the line it begins on; blank lines are skipped."""
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileError(f"{path}:{line}: this is no CSV: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        raise FileError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise FileError(f"{path}: this is a directory; name the file in it") from None
    except OSError as error:
        raise FileError(f"{path}: this cannot be read: {error.strerror}") from None
    with raw:
        yield raw


class _Text:
    """The lines of a file, plain or gzip, and the hash of the bytes behind them."""

    def __init__(self, path: Path, raw: BufferedReader, encoding: str) -> None:
        self.sha256 = sha256()
        self._path = path
        self._raw = raw
        self._size = max(1, path.stat().st_size)
        self._named = encoding
        # Spreadsheets write a byte order mark.
        self._encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        self._lines = 0

    @property
    def part(self) -> float:
        """Which part of the file has been read, 0 to 1."""
        return min(1.0, self._raw.tell() / self._size)

    def __iter__(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(self._encoding)()
        rest = ""
        for chunk in self._chunks():
            *lines, rest = (rest + self._decoded(decoder, chunk)).split("\n")
            for line in lines:
                self._lines += 1
                yield line + "\n"
        if rest:
            yield rest

    def _chunks(self) -> Iterator[bytes]:
        """The bytes, unpacked, and an empty chunk at the end."""
        packed = self._raw.peek(len(_GZIP)).startswith(_GZIP)
        stream = gzip.GzipFile(fileobj=self._raw) if packed else self._raw
        while chunk := stream.read1(_CHUNK):
            self.sha256.update(chunk)
            yield chunk
        yield b""

    def _decoded(self, decoder: codecs.IncrementalDecoder, chunk: bytes) -> str:
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(self._encoding, "ignore")
            raise self._refusal(before, f"this is not text in {self._named}; name its encoding in the map") from None
        if "\0" in text:
            problem = "a NUL byte stands here, so this is no CSV in this encoding; is it a spreadsheet or utf-16?"
            raise self._refusal(text.partition("\0")[0], problem)
        return text

    def _refusal(self, before: str, problem: str) -> FileError:
        return FileError(f"{self._path}:{self._lines + before.count(chr(10)) + 1}: {problem}")
