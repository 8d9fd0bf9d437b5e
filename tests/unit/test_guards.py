"""What the engine relies on in Faust and aiokafka is checked at start, by name."""

import ast
import inspect
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from services.runtime import kafka
from services.runtime.engine import guards, worker
from services.runtime.engine.guards import HOOKS, Hook, Moved
from services.runtime.engine.transport import BatchConsumer, BatchThread, BatchTransport
from services.runtime.engine.worker import EngineApp
from services.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "services/runtime"
SOURCES = sorted(path for pattern in ("engine/*.py", "kafka*/*.py", "patience.py") for path in RUNTIME.glob(pattern))
KNOWN = {hook.place.rsplit(".", 1)[-1].rsplit(":", 1)[-1] for hook in HOOKS} | {
    name for hook in HOOKS for name in hook.names
}

every_hook = pytest.mark.parametrize("hook", HOOKS, ids=[hook.place for hook in HOOKS])


def owner_of(hook: Hook) -> tuple[Any, str]:
    """The class or module that holds a hook itself, and the hook's name in it."""
    module, _, way = hook.place.partition(":")
    *outer, name = way.split(".")
    found: Any = inspect.importlib.import_module(module)  # type: ignore[attr-defined]
    for part in outer:
        found = getattr(found, part)
    return found, name


def test_the_installed_versions_have_every_hook() -> None:
    guards.check()


def test_the_versions_are_those_that_the_project_pins() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = dict(one.split("==") for one in dependencies if "==" in one)
    assert pinned == guards.PINNED


@every_hook
def test_a_hook_that_is_gone_is_named(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = owner_of(hook)
    monkeypatch.delattr(owner, name)
    with pytest.raises(Moved) as refused:
        guards.check()
    assert f"{hook.place} is not there" in str(refused.value)


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook.takes], ids=lambda hook: hook.place)
def test_a_hook_that_takes_one_more_parameter_is_named(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = owner_of(hook)
    real = guards._function(inspect.getattr_static(owner, name))
    widened = FunctionType(real.__code__, real.__globals__, name, real.__defaults__, real.__closure__)
    parameters = inspect.signature(real)
    extra = inspect.Parameter("extra", inspect.Parameter.KEYWORD_ONLY)
    kept = [*parameters.parameters.values()]
    at = len(kept) - (bool(kept) and kept[-1].kind is inspect.Parameter.VAR_KEYWORD)
    kept.insert(at, extra)
    monkeypatch.setattr(widened, "__signature__", parameters.replace(parameters=kept), raising=False)
    monkeypatch.setattr(owner, name, widened)
    with pytest.raises(Moved) as refused:
        guards.check()
    assert f"{hook.place} must be called as {hook.takes}, but it is called as " in str(refused.value)
    assert "extra" in str(refused.value)


@pytest.mark.parametrize(
    ("hook", "name"),
    [(hook, name) for hook in HOOKS for name in hook.names],
    ids=[f"{hook.place}-{name}" for hook in HOOKS for name in hook.names],
)
def test_a_name_that_is_used_no_more_is_named(hook: Hook, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = guards._mentioned
    there = guards._function(guards._find(hook.place))

    def without(function: Any) -> Iterator[str]:
        return (found for found in real(function) if function is not there or found != name)

    monkeypatch.setattr(guards, "_mentioned", without)
    with pytest.raises(Moved, match="must use") as refused:
        guards.check()
    assert f"{hook.place} must use {name}, but it does not" in str(refused.value)


def test_names_are_found_in_code_inside_a_function_and_nowhere_else() -> None:
    def outer(one: list[object]) -> list[object]:
        one.append("remove")  # a string is no use of a name
        return [other.__class__ for other in one]

    assert set(guards._mentioned(outer)) == {"append", "__class__"}


def test_another_version_is_refused_even_where_every_hook_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda package: "0.15.0" if package == "aiokafka" else real(package))
    with pytest.raises(Moved, match=r"aiokafka must be 0\.14\.0, but 0\.15\.0 is installed") as refused:
        guards.check()
    assert "requirements.lock" in str(refused.value)


def test_a_worker_starts_nothing_when_a_hook_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: object) -> list[str]:
        pytest.fail("the broker was asked although a hook has moved")

    monkeypatch.setattr(kafka, "ensure_topics", unreachable)
    monkeypatch.delattr("faust.transport.consumer.Consumer._wait_next_records")
    with pytest.raises(Moved, match="_wait_next_records is not there"):
        worker.run(Settings(), None)  # type: ignore[arg-type]  # refused before the processor is looked at


def test_every_private_name_of_others_that_the_engine_uses_is_in_the_table() -> None:
    missing = {f"{path.name}:{line} {name}" for path in SOURCES for line, name in borrowed(path) if name not in KNOWN}
    assert sorted(missing) == []


def borrowed(path: Path) -> Iterator[tuple[int, str]]:
    """Private names read of other objects, and of `self` where the file itself never defines them."""
    tree = ast.parse(path.read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            flat = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
            defined |= {one.id for one in flat if isinstance(one, ast.Name)}
            defined |= {one.attr for one in flat if isinstance(one, ast.Attribute) and _is_self(one.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if _is_self(node.value) and node.attr in defined:
                continue
            if isinstance(node.value, ast.Name) and node.value.id == "os":  # os._exit is documented
                continue
            yield node.lineno, node.attr


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


@pytest.mark.parametrize("ours", [BatchThread, BatchConsumer, BatchTransport, EngineApp])
def test_everything_that_is_overridden_is_in_the_table(ours: type) -> None:
    overridden = {name for name in vars(ours) if not name.startswith("__") and hasattr(ours.__mro__[1], name)}
    overridden -= {"_abc_impl", "logger"}  # Python and mode give every class its own
    assert overridden
    assert sorted(overridden - KNOWN) == []
