"""The commands in the README run as they stand there."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.runtime.embedded.ports import pick_port
from services.runtime.embedded.server import Server
from services.runtime.settings import Settings
from tests.pipeline import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_readmes_shell_blocks_import_a_log_find_its_breach_go_live_and_explain_a_score(
    noida: Server, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    port = str(pick_port())
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "STEWARD_KAFKA": noida.bootstrap,
        "STEWARD_REDIS": redis_url,
        "STEWARD_PREFIX": prefix,
        "STEWARD_INGEST_PORT": port,
        "STEWARD_MAPPINGS": str(ROOT / "deploy/mapping"),
        "STEWARD_SESSION_SECONDS": "6",
        "STEWARD_POLICY": str(ROOT / "deploy/policy/steward.yaml"),
    }
    said = tmp_path / "said"
    with said.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", "\n".join(BLOCKS).replace(":8080", f":{port}")],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = shell.wait(240)
    finally:
        os.killpg(shell.pid, signal.SIGKILL)  # the services that the script left in the background
    lines = said.read_text().splitlines()
    assert code == 0, lines
    row = next(line for line in lines if "sale_to_onboarding" in line)
    assert re.findall(r"\d+", row) == ["2", "1", "1", "1", "0"]
    assert any(line.startswith("ok") and "policy" in line for line in lines)
    assert any("D-3" in line for line in lines)
    assert any("48,000" in line for line in lines)
    assert any("raw score" in line for line in lines)


def test_the_readme_lists_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(STEWARD_\w+)` \|([^|]*)\|", README, re.MULTILINE))
    defaults = {
        f"STEWARD_{name.upper()}": "" if default is None else str(default)
        for name, field in Settings.model_fields.items()
        for default in [field.get_default(call_default_factory=True, validated_data={})]
    }
    assert {name: value.strip() for name, value in rows.items()} == defaults
