"""Settings from the environment and from files: what is wrong is said in a sentence that shows no secret."""

from pathlib import Path

import pytest

from services.runtime import settings
from services.runtime.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        pytest.param(
            "STEWARD_PARTITIONS", "many",
            "STEWARD_PARTITIONS: input should be a valid integer, unable to parse string as an integer (found 'many')",
            id="no number",
        ),
        pytest.param(
            "STEWARD_SOURCE_SECRETS", "hush",
            'STEWARD_SOURCE_SECRETS holds no JSON; write it like {"hubspot": ["its secret"]} or ["whsec_…"]',
            id="no JSON",
        ),
        pytest.param(
            "STEWARD_SOURCE_SECRETS", '{"hubspot": "hush"}',
            "STEWARD_SOURCE_SECRETS.hubspot: input should be a valid tuple",
            id="a secret outside a list",
        ),
        pytest.param(
            "STEWARD_ALERT_SECRETS", '["hush", "hush", "hush"]',
            "STEWARD_ALERT_SECRETS: tuple should have at most 2 items after validation, not 3",
            id="three secrets",
        ),
        pytest.param(
            "STEWARD_REDIS", "http://me:hush@there",
            "STEWARD_REDIS: string should match pattern '^(rediss?|unix)://'",
            id="an address with a password",
        ),
        pytest.param("STEWARD_SECRETS", "/nowhere", "STEWARD_SECRETS names /nowhere, which is no folder", id="folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_sentence_that_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        settings.load()
    assert str(refused.value) == sentence
    assert "hush" not in str(refused.value)


def test_a_secret_comes_from_a_file_and_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "steward_source_secrets").write_text('{"hubspot": ["hush"]}\n')
    monkeypatch.setenv("STEWARD_SECRETS", str(tmp_path))
    loaded = settings.load()
    assert loaded.source_secrets["hubspot"][0].get_secret_value() == "hush"
    assert "hush" not in repr(loaded)


def test_a_misspelt_variable_or_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "steward_alert_secret").touch()
    monkeypatch.setenv("STEWARD_SECRETS", str(tmp_path))
    monkeypatch.setenv("STEWARD_KAFKAS", "here")
    assert settings.unknown() == ["STEWARD_KAFKAS", "steward_alert_secret"]


def test_another_process_gets_the_same_settings_secrets_included(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Settings.model_validate(
        {"partitions": 3, "source_secrets": {"crm": ["a", "b"]}, "alert_secrets": ["c"], "simulated": True}
    )
    for name, value in mine.environment().items():
        monkeypatch.setenv(name, value)
    assert settings.load() == mine
