"""Apache Kafka on this machine: Java, the jars, and what is prepared once so that later brokers start fast.

Everything is kept in a cache folder outside the tree and can be deleted at any time. It is filled by one
process at a time, and each part appears under its name only when it is complete.
"""

import base64
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from services.runtime.embedded.errors import StartFailed, Unavailable
from services.runtime.embedded.process import run

VERSION = "4.1.1"  # as in deploy/kafka/pom.xml

_POM = Path(__file__).parents[3] / "deploy" / "kafka" / "pom.xml"
_OLDEST_JAVA = 17
_MAKING = "making-"  # the names of folders in which a part is being made
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # any 16 bytes in base64; all brokers made from one template share it
_FETCH_SECONDS = 900.0  # 54 MB; about a minute on a usual line


@dataclass(frozen=True, slots=True)
class Distribution:
    """What is needed to run brokers; the class archive comes into being with the first of them."""

    java: str
    class_path: str
    template: Path  # a formatted data folder
    archive: Path  # may not exist yet

    def command(self, main: str, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
        return [self.java, *flags, "-cp", self.class_path, main, *arguments]


def missing() -> str | None:
    """Why Apache Kafka cannot run here, as a sentence; None if it can, perhaps after fetching its jars."""
    try:
        _java()
        _fetchable()
    except Unavailable as reason:
        return str(reason)
    return None


@contextmanager
def prepared(settings: Mapping[str, object]) -> Iterator[Distribution]:
    """The distribution, fetched and formatted where that is still to be done, for one process at a time.

    `settings` are those of any valid broker; the formatted template does not depend on them.
    """
    java = _java()
    _fetchable()
    with _alone():
        if not _libs().is_dir():
            _fetch()
        class_path = os.pathsep.join(str(jar) for jar in _jars())
        distribution = Distribution(java, class_path, _cache() / "template", _archive(java))
        if not distribution.template.is_dir():
            _format(distribution, settings)
        yield distribution


def write_properties(path: Path, settings: Mapping[str, object]) -> None:
    """In Java's format, without its escapes: names and values are plain ASCII."""
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="ascii")


def copy_template(distribution: Distribution, to: Path, node: int) -> Path:
    """A formatted data folder for the node with this id, from 1 to 999."""
    shutil.copytree(distribution.template, to, dirs_exist_ok=True)
    directory = base64.urlsafe_b64encode(f"steward-node-{node:03}".encode()).decode().rstrip("=")  # any 16 bytes
    own = {"version": 1, "cluster.id": _CLUSTER_ID, "node.id": node, "directory.id": directory}
    write_properties(to / "meta.properties", own)
    return to


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for making a part of the cache: inside it, so that the part can be renamed into place."""
    with TemporaryDirectory(dir=_cache(), prefix=_MAKING) as folder:
        yield Path(folder)


def _fetchable() -> None:
    """Unavailable if there are no jars and no way to fetch them."""
    if _libs().is_dir():
        return
    if shutil.which("mvn") is None:
        raise Unavailable(f"Apache Kafka {VERSION} is not in the cache, and there is no mvn to fetch it.")
    if not _POM.is_file():
        raise Unavailable(f"Apache Kafka {VERSION} is not in the cache; fetching it takes a source tree.")


def _fetch() -> None:
    with scratch() as folder:
        shutil.copy(_POM, folder)  # Maven may write beside the pom, and nothing may appear in the tree
        goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs")
        try:
            run("maven", ["mvn", "-q", "-B", *goal], folder, _FETCH_SECONDS)
        except StartFailed as error:
            raise Unavailable(f"Apache Kafka {VERSION} could not be fetched: {error}") from error
        (folder / "libs").rename(_libs())


def _format(distribution: Distribution, settings: Mapping[str, object]) -> None:
    with scratch() as folder:
        write_properties(folder / "server.properties", {**settings, "log.dirs": "template"})
        arguments = ("format", "-t", _CLUSTER_ID, "-c", "server.properties")
        run("storage-tool", distribution.command("kafka.tools.StorageTool", *arguments), folder, seconds=60.0)
        (folder / "template").rename(distribution.template)


@contextmanager
def _alone() -> Iterator[None]:
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the system if this process dies
        for left_by_the_dead in _cache().glob(f"{_MAKING}*"):
            shutil.rmtree(left_by_the_dead)
        yield


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).resolve() / "steward" / f"kafka-{VERSION}"


def _libs() -> Path:
    return _cache() / "libs"


def _jars() -> list[Path]:
    """Sorted, because a class archive is valid for one order only."""
    return sorted(_libs().glob("*.jar"))


def _archive(java: str) -> Path:
    """The class archive's file: one for each class path, with the jars' sizes and times, and each Java."""
    jars = [(str(jar), stat.st_size, stat.st_mtime_ns) for jar in _jars() for stat in (jar.stat(),)]
    key = hashlib.sha256(repr((jars, _version(java))).encode()).hexdigest()
    return _cache() / f"classes-{key[:16]}.jsa"


def _java() -> str:
    """The java of JAVA_HOME, else of the PATH; Unavailable if there is none or it is too old."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        where = f"in JAVA_HOME ({home})" if home else "on the PATH"
        raise Unavailable(f"Apache Kafka needs Java {_OLDEST_JAVA} or newer, and there is no java {where}.")
    found = re.search(r'version "(\d+)', _version(java))
    if found is None or int(found[1]) < _OLDEST_JAVA:
        is_now = f"is Java {found[1]}" if found else "does not tell its version"
        raise Unavailable(f"Apache Kafka needs Java {_OLDEST_JAVA} or newer, and {java} {is_now}.")
    return java


@cache
def _version(java: str) -> str:
    try:
        return subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ""
