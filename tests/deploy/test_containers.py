"""The image and docker-compose.yml: valid, pinned, with no more rights than they need, and in step with the code."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from services.runtime import http, settings
from services.runtime.embedded.ports import pick_port
from services.runtime.embedded.server import Server
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from tests.pipeline import running, wait_until

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = YAML(typ="safe").load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("steward:")}
ONE_SHOT = "topics"


def as_started(command: list[str]) -> tuple[str, ...]:
    """The command with the values that compose takes where a variable is not set."""
    return tuple(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in command)


PROCESSES = {name: as_started(service["command"]) for name, service in OURS.items() if name != ONE_SHOT}
SECRETS = {  # as the files may look that compose mounts
    "steward_source_secrets": '{"hubspot": ["new", "old"]}\n',
    "steward_alert_secrets": '["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]\n',
}

each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)
each_process = pytest.mark.parametrize("command", PROCESSES.values(), ids=PROCESSES)


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, in order, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest.strip()) for line in lines if line for word, _, rest in [line.partition(" ")]]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    begin = max(at for at, (word, _) in enumerate(found) if word == "FROM")
    return found[begin:]


def stated(word: str) -> str:
    """The arguments of an instruction that the last stage must have once."""
    (found,) = [rest for name, rest in last_stage() if name == word]
    return found


def health_check() -> list[str]:
    """What the image's health check runs, with this interpreter for the image's."""
    python, *rest = json.loads(stated("HEALTHCHECK").partition("CMD ")[2])
    assert python == "python"
    return [sys.executable, *rest]


def is_healthy(port: int, **environment: str) -> bool:
    environment["STEWARD_HTTP_PORT"] = str(port)
    return subprocess.run(health_check(), env=environment, capture_output=True, check=False).returncode == 0


# ---------------------------------------------------------------- as their own tools see them


def test_compose_keeps_to_the_compose_specification() -> None:
    found = find_spec(
        "check_jsonschema"
    )  # its schemas, not its command: that one needs a newer click than Faust allows
    assert found is not None
    (folder,) = list(found.submodule_search_locations or [])
    schema = json.loads(Path(folder, "builtin_schemas/vendor/compose-spec.json").read_text())
    errors = Draft202012Validator(schema).iter_errors(COMPOSE)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_hadolint_has_nothing_against_the_dockerfile() -> None:
    command = [str(Path(sys.executable).with_name("hadolint")), "deploy/Dockerfile"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


# ---------------------------------------------------------------- in step with the code


def test_compose_runs_the_processes_of_a_small_installation() -> None:
    assert set(PROCESSES.values()) == {
        ("clock",),
        ("ingest", "serve"),
        ("identity",),
        ("handoff", "--workers", "1"),
        ("health", "--workers", "1"),
        ("alerting-case",),
        ("alerting-desk",),
        ("view", "serve"),
    }
    assert set(SERVICES) - set(PROCESSES) == {"kafka", "valkey", ONE_SHOT}


@each_of_ours
def test_a_service_runs_a_command_that_exists(name: str) -> None:
    command = [sys.executable, "-m", "services", *as_started(OURS[name]["command"]), "--help"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    words = takewhile(lambda word: not word.startswith("--"), OURS[name]["command"])
    assert " ".join(words) in ended.stdout


def test_every_variable_is_a_setting() -> None:
    known = {f"STEWARD_{name.upper()}" for name in Settings.model_fields} | {"STEWARD_SECRETS"}
    named = set(re.findall(r"\bSTEWARD_[A-Z_]+", DOCKERFILE + COMPOSE_TEXT))
    assert named - known == set()


def test_the_image_has_the_version_of_the_project() -> None:
    tag = f"steward:{PROJECT['version']}"
    assert {service["image"] for service in OURS.values()} == {tag}
    assert tag in DOCKERFILE
    assert [name for name, service in SERVICES.items() if "build" in service] == [ONE_SHOT]


def test_what_the_image_copies_exists_and_is_let_through() -> None:
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    sources = {source for group in copied for source in group}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == sources
    assert lines.index("*") < min(at for at, line in enumerate(lines) if line.startswith("!"))


def test_the_image_leaves_out_what_only_the_embedded_servers_need() -> None:
    entries = re.split(r"^(?=[a-z])", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    wanted_by = {
        entry.partition("==")[0]: set(re.findall(r"^    #(?: via)? +(\S+)", entry, re.MULTILINE))
        for entry in entries
        if entry
    }
    roots = {requirement.partition("==")[0] for requirement in PROJECT["optional-dependencies"]["embedded"]}
    unneeded = roots | {name for name, wanting in wanted_by.items() if wanting and wanting <= roots}
    (left_out,) = re.findall(r"!/\^\(([\w|-]+)\)==/", DOCKERFILE)
    assert set(left_out.split("|")) == unneeded


def test_the_policy_and_the_maps_stand_where_the_image_says() -> None:
    environment = dict(word.split("=", 1) for word in stated("ENV").split())
    copied = dict(rest.split() for word, rest in last_stage() if word == "COPY" and not rest.startswith("--from"))
    places = {target: ROOT / source for source, target in copied.items()}
    policy = Path(environment["STEWARD_POLICY"])
    assert (places[str(policy.parent)] / policy.name).is_file()
    assert list(places[environment["STEWARD_MAPPINGS"]].glob("*.yaml"))


# ---------------------------------------------------------------- no more rights than needed


def test_every_image_is_pinned_to_a_version() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    pinned = re.compile(r"[\w./-]+:\d+\.\d+\.\d+(-[\w.-]+)?")
    assert [image for image in images if not pinned.fullmatch(image)] == []


@each_service
def test_a_service_has_no_privileges(name: str) -> None:
    service = SERVICES[name]
    wanted = {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"} & service.keys()
    assert wanted == set()
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    mounts = [mount for mount in service.get("volumes", ()) if mount.partition(":")[0] not in COMPOSE["volumes"]]
    assert mounts == []


@each_service
def test_a_service_is_bounded_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "pids_limit"} <= service.keys()
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["restart"] == ("on-failure" if name == ONE_SHOT else "unless-stopped")


def test_all_file_systems_are_read_only_but_that_of_kafka_which_writes_its_configuration() -> None:
    assert [name for name, service in SERVICES.items() if service.get("read_only") is not True] == ["kafka"]


def test_only_ingest_is_published_and_to_this_machine_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"ingest"}
    assert [port for ports in published.values() for port in ports if not port.startswith("127.0.0.1:")] == []


def test_only_what_deals_with_the_world_has_a_way_out() -> None:
    inside = {name for name, network in COMPOSE["networks"].items() if network.get("internal") is True}
    assert {name for name, service in SERVICES.items() if not {*service["networks"]} <= inside} == {
        "ingest",
        "alerting-desk",
    }


def test_the_image_runs_as_a_user_with_a_number_and_starts_steward() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", stated("USER"))
    assert json.loads(stated("ENTRYPOINT")) == ["steward"]


def test_packages_are_checked_against_their_hashes_and_the_last_stage_installs_none() -> None:
    runs = [rest for word, rest in instructions() if word == "RUN"]
    assert [
        run for run in runs if "pip install" in run and "--require-hashes" not in run and "--no-deps" not in run
    ] == []
    assert [rest for word, rest in last_stage() if word == "RUN"] == [
        "python -m pip uninstall --yes setuptools wheel pip"
    ]


# ---------------------------------------------------------------- secrets


def test_a_secret_is_mounted_only_where_it_is_read() -> None:
    mounted = {name: service["secrets"] for name, service in SERVICES.items() if "secrets" in service}
    assert mounted == {"ingest": ["steward_source_secrets"], "alerting-desk": ["steward_alert_secrets"]}
    reading = {name for name, service in OURS.items() if "STEWARD_SECRETS" in service["environment"]}
    assert reading == set(mounted)


def test_a_secret_is_a_file_named_like_its_setting() -> None:
    assert set(COMPOSE["secrets"]) == set(SECRETS)
    files = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
    assert files == {name: f"${{STEWARD_SECRETS:-./deploy/secrets}}/{name}" for name in SECRETS}


def test_secrets_are_read_from_the_files_that_compose_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("STEWARD_SECRETS", str(tmp_path))
    loaded = settings.load()
    assert [secret.get_secret_value() for secret in loaded.source_secrets["hubspot"]] == ["new", "old"]
    assert [secret.get_secret_value() for secret in loaded.alert_secrets] == json.loads(
        SECRETS["steward_alert_secrets"]
    )


@pytest.mark.parametrize("name", SECRETS)
def test_git_never_takes_a_secret(name: str) -> None:
    command = ["git", "check-ignore", "--quiet", "--no-index", f"deploy/secrets/{name}"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


# ---------------------------------------------------------------- health


@each_of_ours
def test_a_process_is_asked_how_it_is(name: str) -> None:
    service = OURS[name]
    assert service["healthcheck"].get("disable", False) is (name == ONE_SHOT)
    assert "test" not in service["healthcheck"]  # the image's
    assert service["environment"]["STEWARD_HTTP_PORT"] == "9100"


def test_the_health_check_asks_the_process_itself_and_no_proxy() -> None:
    nobody = f"http://127.0.0.1:{pick_port()}"
    with http.serve(Settings(http_port=0), Metrics(), http.ready_when(lambda: False, "it never is")) as port:
        assert port is not None
        assert is_healthy(port, http_proxy=nobody, HTTP_PROXY=nobody)
    assert not is_healthy(port)


@pytest.mark.slow
@each_process
def test_a_process_answers_the_health_check_and_ends_when_asked(
    command: tuple[str, ...], noida: Server, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    port = pick_port()
    ports = {"steward_http_port": str(port), "steward_ingest_port": "0"}
    with running(noida.bootstrap, prefix, tmp_path, steward_redis=redis_url, **ports) as pipeline:
        pipeline.done("topics", "apply")
        process = pipeline.start(*command)
        wait_until(lambda: is_healthy(port), f"{' '.join(command)} is healthy", 60, process)
        assert process.stop() == 0
