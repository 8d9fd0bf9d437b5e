"""What the tree promises about its files: sizes, silent imports, no wall clock, nothing of one machine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for part in ("schemas", "services", "tests", "bench") for path in sorted((ROOT / part).rglob("*.py"))]

# Refuses every socket, also those opened by C code, and reports each module that wants one on import.
# gethostname is let through: it reads this machine's own name, and Faust does so when it is imported.
IMPORT_ALL = """
import importlib, json, socket, sys

class Refused(socket.socket):
    def __init__(self, *arguments, **options):
        raise OSError("a module opened a socket while being imported")

def refuse(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise OSError(f"a module called {event} while being imported")

socket.socket = Refused
sys.addaudithook(refuse)
failures = {}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except BaseException as error:
        failures[name] = repr(error)
json.dump(failures, sys.stdout)
"""

BANNED = {
    "datetime.now": "import datetime\n\nstamp = datetime.datetime.now(datetime.UTC)\n",
    "datetime.utcnow": "from datetime import datetime\n\nstamp = datetime.utcnow()\n",
    "datetime.today": "from datetime import datetime\n\nstamp = datetime.today()\n",
    "date.today": "from datetime import date\n\nday = date.today()\n",
    "time.time": "import time\n\nstamp = time.time()\n",
    "time.time_ns": "from time import time_ns\n\nstamp = time_ns()\n",
    "uuid.uuid4": "import uuid\n\nname = uuid.uuid4()\n",
    "uuid.uuid1": "from uuid import uuid1\n\nname = uuid1()\n",
    "random": "import random\n\nchance = random.random()\n",
}

# Each is written with a bracket somewhere so that this file does not find itself.
OF_ONE_MACHINE = re.compile(r"(?<![\w.~-])[/](?:work|root|home)/")
OF_AN_INDEX = re.compile(
    r"[p]ypi\.(?:org|python)|[p]ythonhosted\.org|--(?:extra-)?[i]ndex-url[ =]\S*://"
    r"|[r]epo1?\.maven\.|[r]egistry\.npmjs\.|://[^\s/]+/(?:[\w-]+/)*[s]imple(?:[/\s]|$)"
)


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def ruff_on(path: str, source: str) -> subprocess.CompletedProcess[str]:
    ruff = str(Path(sys.executable).with_name("ruff"))
    command = [ruff, "check", "--no-cache", "--select", "TID251", "--stdin-filename", path, "-"]
    return subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=False)


def files_of_the_repository() -> list[Path]:
    """Tracked files, and those that the next commit would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_source_file_is_over_500_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def failures_of_import(names: list[str]) -> dict[str, str]:
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=ROOT,
        input=json.dumps(names),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    failures: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return failures


def test_every_module_imports_without_a_socket() -> None:
    product = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in {"schemas", "services"}]
    assert failures_of_import([module_name(path) for path in product]) == {}


@pytest.mark.parametrize("call", ["socket.socket()", "socket.getaddrinfo('localhost', 80)", "_socket.socket()"])
def test_a_socket_opened_on_import_is_noticed(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talkative.py").write_text(f"import _socket, socket\n{call}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert list(failures_of_import(["talkative", "this"])) == ["talkative"]


@pytest.mark.parametrize("source", BANNED.values(), ids=BANNED)
def test_the_wall_clock_ids_and_randomness_are_refused(source: str) -> None:
    result = ruff_on("services/handoff/decide.py", source)
    assert result.returncode == 1
    assert "TID251" in result.stdout
    assert "as an argument" in result.stdout


@pytest.mark.parametrize("source", BANNED.values(), ids=BANNED)
def test_the_clock_module_may_use_them(source: str) -> None:
    assert ruff_on("services/runtime/clock.py", source).returncode == 0


def test_no_file_names_one_machine_or_a_package_index() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in files_of_the_repository()
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), start=1)
        if OF_ONE_MACHINE.search(line) or OF_AN_INDEX.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "least"), [("requirements.lock", 10), ("requirements-dev.lock", 10), ("requirements-bench.lock", 1)]
)
def test_every_locked_package_has_an_exact_version_and_hashes(name: str, least: int) -> None:
    blocks = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", (ROOT / name).read_text()).strip())
    assert len(blocks) >= least
    assert [block for block in blocks if not re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", block)] == []
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
