"""Who may import whom: the contracts hold, and each of them refuses what it is there to refuse."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}

# contract -> one violation: the module that commits it, and the line
PLANTS = {
    "schemas-alone": ("schemas/envelope.py", "import services.core"),
    "schemas-third-party": ("schemas/envelope.py", "import msgspec"),
    "core-alone": ("services/core/processor.py", "import services.runtime.clock"),
    "pure-shell": ("services/handoff/decide.py", "import services.runtime.clock"),
    "pure-third-party": ("services/handoff/policy.py", "import rich"),
    "pure-io": ("services/handoff/machine.py", "import socket"),
    "slices": ("services/handoff/app.py", "import services.ingest.app"),
    "layers": ("services/runtime/clock.py", "import services.handoff.model"),
    "slice-layers": ("services/handoff/model.py", "import services.handoff.decide"),
    "door-faust": ("services/handoff/app.py", "import faust"),
    "door-aiokafka": ("services/runtime/http.py", "import aiokafka.errors"),
    "door-redis": ("services/ingest/app.py", "import redis.asyncio"),
    "door-prometheus": ("services/runtime/engine/worker.py", "import prometheus_client"),
    "door-aiohttp": ("services/ingest/decide.py", "import aiohttp"),
    "door-fastapi": ("services/board/query.py", "import fastapi"),
    "door-structlog": ("services/runtime/kafka/topics.py", "import structlog"),
}


def lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache", *arguments]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def copy_of_the_tree(folder: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", folder)
    for part in ("schemas", "services", "tests/arch"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/__init__.py", folder / "tests")
    return folder


def plant(folder: Path, path: str, line: str) -> None:
    """Add the line, and every module that it or the path names and that is not there yet."""
    imported = line.removeprefix("import ").replace(".", "/")
    wanted = [path] if not line.startswith("import services") else [path, f"{imported}.py"]
    for name in wanted:
        module = folder / name
        if not module.with_suffix("").is_dir():
            module.parent.mkdir(parents=True, exist_ok=True)
            (module.parent / "__init__.py").touch()
            module.touch()
    with (folder / path).open("a") as module_text:
        module_text.write(f"\n{line}\n")


def test_every_contract_holds() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_contract_has_a_planted_violation() -> None:
    assert sorted(PLANTS) == sorted(CONTRACTS)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_planted_violation_is_refused(contract: str, tmp_path: Path) -> None:
    folder = copy_of_the_tree(tmp_path)
    plant(folder, *PLANTS[contract])
    result = lint(folder, "--contract", contract)
    assert result.returncode == 1
    assert f"{CONTRACTS[contract]} BROKEN" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("contract", "path"), [("layers", "services/stray.py"), ("slice-layers", "services/handoff/stray.py")]
)
def test_a_module_without_a_place_in_the_layers_is_refused(contract: str, path: str, tmp_path: Path) -> None:
    folder = copy_of_the_tree(tmp_path)
    (folder / path).touch()
    result = lint(folder, "--contract", contract)
    assert result.returncode == 1
    assert "not listed as layers" in result.stdout


def products_imported_by(source: str) -> set[str]:
    """What a test oracle must not import: the product, and tests that may import it in turn."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    ours = {name for name in names if name.partition(".")[0] in {"", "schemas", "services", "tests"}}
    return {name for name in ours if not name.startswith(("tests.oracle", "tests.fault.oracle"))}


def test_oracles_share_no_code_with_the_product() -> None:
    found = {
        path.name: imported
        for path in sorted((ROOT / "tests").rglob("*oracle*.py"))
        if (imported := products_imported_by(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "import services",
        "from schemas.envelope import Envelope",
        "from . import builders",
        "import tests.timeline",
    ],
)
def test_an_oracle_that_imports_the_product_is_refused(line: str) -> None:
    assert products_imported_by(f"import datetime\n{line}\n")
    assert not products_imported_by("import datetime\nfrom tests.oracle_calendar import Calendar\n")
