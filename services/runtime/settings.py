"""What an operator sets, from environment variables `STEWARD_*` or files of the same names in a secrets folder."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as Unparsed

from schemas.codec import sentences
from schemas.topics import Topic
from services.core.errors import OperatorError

PREFIX = "STEWARD_"
SECRET = {"redis", "source_secrets", "alert_secrets", "alert_url"}  # what they hold is never shown
JSON_EXAMPLES = '{"hubspot": ["its secret"]} or ["whsec_…"]'


class SettingsError(OperatorError):
    """One sentence per setting that is wrong."""


Secrets = Annotated[tuple[SecretStr, ...], Field(min_length=1, max_length=2)]  # two while one replaces the other


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    kafka: str = Field(default="127.0.0.1:9092", pattern=r"^[^:,\s]+:\d+(,[^:,\s]+:\d+)*$", description="host:port, …")
    redis: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(rediss?|unix)://", description="Redis address.")
    prefix: str = Field(default="", pattern=r"^[a-z0-9-]*$", description="Put before every topic, group and id.")
    partitions: int = Field(default=12, ge=1, le=1000, description="Of every topic; chosen once.")
    replication: int = Field(default=1, ge=1, le=9, description="Replicas of each topic that Steward creates.")
    policy: Path = Field(default=Path("deploy/policy/steward.yaml"), description="First version of the policy.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info")
    http_port: int | None = Field(
        default=None, ge=0, le=65535, description="Serves /metrics /live /ready; 0: any port."
    )
    http_host: str = Field(default="127.0.0.1", min_length=1, description="Where they are served; 0.0.0.0: everywhere.")
    clock_interval_ms: int = Field(default=100, ge=10, le=10_000, description="Between two marks of the clock.")
    grace_seconds: int = Field(default=60, ge=0, le=3600, description="How late an event may be and not be missed.")
    redelivery_seconds: int = Field(default=600, ge=0, description="How long vendors queue after an outage of ours.")
    flush_ms: int = Field(default=50, ge=0, le=5000, description="Least time between two flushes of a partition.")
    session_seconds: int = Field(default=10, ge=3, le=60, description="Silence after which a worker counts as dead.")
    transaction_seconds: int = Field(default=30, ge=5, le=900, description="Life of a flush's transaction.")

    simulated: bool = Field(default=False, description="Follow the marks on cs.clock instead of the wall clock.")
    ingest_host: str = Field(default="127.0.0.1", description="Where webhooks are received.")
    ingest_port: int = Field(default=8080, ge=0, le=65535, description="0: any free port.")
    public_url: str | None = Field(
        default=None, pattern=r"^https?://[^/]+$", description="Under which senders reach us; some sign it."
    )
    source_secrets: dict[str, Secrets] = Field(
        default_factory=dict, description='JSON: {"hubspot": ["its secret"]}; two while one replaces the other.'
    )
    mappings: Path = Field(default=Path("deploy/mapping"), description="Folder of the maps of webhooks.")
    body_bytes: int = Field(default=4 << 20, ge=1024, description="Largest body taken in over HTTP.")
    inflight_bytes: int = Field(default=64 << 20, ge=1024, description="Bodies taken in at once, together.")
    alert_url: str | None = Field(
        default=None, pattern=r"^https?://", description="Where alerts are posted; absent: they are only logged."
    )
    alert_secrets: tuple[SecretStr, ...] = Field(
        default=(), max_length=2, description='JSON: ["whsec_…"]; alerts are signed with each.'
    )
    alert_allow_private: bool = Field(
        default=False, description="Post alerts also without TLS and to private addresses."
    )

    def environment(self) -> dict[str, str]:
        """The variables with which another process gets the same settings, secrets included."""
        values = {name: _plain(getattr(self, name)) for name in type(self).model_fields}
        return {
            f"{PREFIX}{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
            if value is not None
        }

    def topic(self, topic: Topic | str) -> str:
        """The topic's name on the broker."""
        return f"{self.prefix}{topic}"


def _json_variable(text: str) -> str:
    """The variable that pydantic-settings speaks of."""
    named = [name for name in Settings.model_fields if f'"{name}"' in text]
    return f"{PREFIX}{named[0].upper()}" if named else "a setting"


def _plain(value: Any) -> Any:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case Path():
            return str(value)
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case tuple():
            return [_plain(one) for one in value]
        case _:
            return value


def load(**overrides: object) -> Settings:
    """Settings from the environment.

    Raises SettingsError naming each variable at fault.
    """
    folder = os.environ.get(f"{PREFIX}SECRETS")
    if folder is not None and not Path(folder).is_dir():
        raise SettingsError(f"{PREFIX}SECRETS names {folder}, which is no folder")
    try:
        return Settings(_secrets_dir=folder, **overrides)  # type: ignore[arg-type]  # keywords are validated
    except ValidationError as error:
        raise SettingsError("\n".join(_named(sentence) for sentence in sentences(error))) from None
    except Unparsed as error:  # its cause may quote a secret
        raise SettingsError(f"{_json_variable(str(error))} holds no JSON; write it like {JSON_EXAMPLES}") from None


def unknown() -> list[str]:
    """Variables that look like settings but are none, most likely misspelt."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {f"{PREFIX}SECRETS"}
    folder = os.environ.get(f"{PREFIX}SECRETS")
    files = [path.name for path in Path(folder).iterdir()] if folder and Path(folder).is_dir() else []
    return sorted(
        name for name in (*os.environ, *files) if name.upper().startswith(PREFIX) and name.upper() not in known
    )


def _named(sentence: str) -> str:
    field, _, rest = sentence.partition(":")
    name = field.partition(".")[0]
    if name in SECRET:
        rest = rest.partition(" (found ")[0]
    return f"{PREFIX}{name.upper()}{field.removeprefix(name)}:{rest}"
