"""Fetches and compiles the peer on Kafka Streams into a cache folder outside the tree, and says how to start it."""

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from services.runtime.embedded.errors import Unavailable
from services.runtime.embedded.process import run

HERE = Path(__file__).parent
POM, SOURCE, MAIN = HERE / "pom.xml", HERE / "Tallies.java", "Tallies"
FETCH_SECONDS = 900.0  # 80 MB, most of them the store on disk that is not used here
COMPILE_SECONDS = 120.0
# One collector with one thread, as the broker of the bench has it: parallel ones cost more CPU on two cores.
JVM = ("-XX:+UseSerialGC", "-Xms1g", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


def missing() -> str | None:
    """Why this peer cannot be built here, as a sentence."""
    if (_cache(POM) / "libs").is_dir() and (_cache(POM, SOURCE) / "classes").is_dir():
        return None
    absent = [name for name in ("mvn", "javac") if shutil.which(name) is None]
    return f"The peer on Kafka Streams is built with {' and '.join(absent)}, not found on the PATH." if absent else None


def command() -> list[str]:
    """Java with the peer's classes; arguments follow. Builds what is not in the cache yet; raises Unavailable."""
    if reason := missing():
        raise Unavailable(reason)
    libs, classes = _cache(POM) / "libs", _cache(POM, SOURCE) / "classes"
    if not libs.is_dir():
        goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=made")
        _make("maven", ["mvn", "-q", "-B", *goal], POM, libs, FETCH_SECONDS)
    path = os.pathsep.join(str(jar) for jar in sorted(libs.glob("*.jar")))
    if not classes.is_dir():
        _make("javac", ["javac", "-cp", path, "-d", "made", SOURCE.name], SOURCE, classes, COMPILE_SECONDS)
    return ["java", *JVM, "-cp", os.pathsep.join([path, str(classes)]), MAIN]


def java() -> str:
    """The version of the Java that runs the peer and the broker."""
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=60, check=True)
    return told.stderr.partition("\n")[0]


def _make(name: str, making: list[str], given: Path, into: Path, seconds: float) -> None:
    """Run in a folder of its own, with a copy of what is given: nothing may appear in the tree, nothing in halves."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=into.parent, prefix="making-") as folder:
        shutil.copy(given, folder)
        run(name, making, Path(folder), seconds)
        Path(folder, "made").rename(into)


def _cache(*made_from: Path) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    told = sha256(b"".join(path.read_bytes() for path in made_from)).hexdigest()
    return Path(home).resolve() / "steward" / f"streams-peer-{told[:16]}"
