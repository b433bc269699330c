"""The settings and `.env.example`: the same names and defaults, and errors that name a variable, never its value."""

import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from jobs.settings import Settings, SettingsError, load_receiver_settings, load_settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"
LINE = re.compile(r"^(# )?(FLEET_[A-Z_]+)=(.*)$", re.MULTILINE)
REQUIRED = {
    "FLEET_DATABASE_URL": "postgresql://fleet_worker:secret-1@db/fleet",
    "FLEET_SYSTEM_DATABASE_URL": "postgresql://fleet_system:secret-2@db/fleet",
    "FLEET_REDIS_URL": "redis://:secret-3@redis:6379/0",
}


@pytest.fixture(autouse=True)
def _only_these_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("FLEET_")]:
        monkeypatch.delenv(name)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def in_example() -> dict[str, tuple[bool, str]]:
    """Return each variable of the example: whether it is commented out, and its value."""
    found = LINE.findall(EXAMPLE.read_text())
    assert len({name for _, name, _ in found}) == len(found), "a variable is there twice"
    return {name: (bool(comment), value) for comment, name, value in found}


def test_the_example_has_every_setting_and_no_other() -> None:
    assert set(in_example()) == {f"FLEET_{name}".upper() for name in Settings.model_fields}


def test_the_example_asks_for_what_is_required_and_shows_the_defaults_of_the_rest() -> None:
    for name, (is_comment, value) in in_example().items():
        field = Settings.model_fields[name.removeprefix("FLEET_").lower()]
        assert is_comment is not field.is_required(), name
        if not field.is_required():
            default = field.get_default(call_default_factory=True, validated_data={})
            if "change-me" in value:
                assert default is None, name
            else:
                assert value == ("" if default in (None, []) else str(default)), name


@pytest.mark.parametrize("uncommented", [False, True])
def test_the_example_loads(uncommented: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in REQUIRED:
        monkeypatch.delenv(name)
    text = EXAMPLE.read_text()
    (tmp_path / ".env").write_text(LINE.sub(r"\2=\3", text) if uncommented else text)

    settings = load_settings()

    assert settings.database_url.get_secret_value() == "postgresql://fleet_worker:change-me@localhost:5432/fleet"
    assert (settings.migration_database_url is None) is not uncommented
    assert settings.encryption_keys == settings.provider_origins == []


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROVIDER_ORIGINS", "http://a:1, http://b:2,")
    monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", "one,two")

    settings = load_settings()

    assert settings.provider_origins == ["http://a:1", "http://b:2"]
    assert settings.encryption_keys == [SecretStr("one"), SecretStr("two")]


def test_secrets_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLEET_REDIS_URL")
    monkeypatch.setenv("FLEET_SECRETS_DIR", str(tmp_path))
    (tmp_path / "fleet_redis_url").write_text("redis://from-a-file:6379/0\n")

    assert load_settings().redis_url.get_secret_value() == "redis://from-a-file:6379/0"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("FLEET_DATABASE_URL", None, "FLEET_DATABASE_URL: Field required"),
        ("FLEET_DATABASE_URL", "mysql://u:hunter2@h/d", "FLEET_DATABASE_URL: must look like postgresql://"),
        ("FLEET_DATABASE_URL", "postgresql://u:hunter2@h", "FLEET_DATABASE_URL: must look like postgresql://"),
        ("FLEET_DATABASE_URL", "hunter2", "FLEET_DATABASE_URL: must look like postgresql://"),
        ("FLEET_REDIS_URL", "http://:hunter2@h", "FLEET_REDIS_URL: must start with redis:// or rediss://"),
        ("FLEET_WINDOW", "0", "FLEET_WINDOW: "),
        ("FLEET_WINDOW", "hunter2", "FLEET_WINDOW: "),
        ("FLEET_LOG_LEVEL", "hunter2", "FLEET_LOG_LEVEL: "),
        ("FLEET_SMTP_URL", "http://u:hunter2@h", "FLEET_SMTP_URL: must look like smtps://"),
        ("FLEET_SMTP_URL", "smtp://u:hunter2@h", "mail_from must be set where smtp_url is"),
        ("FLEET_MAIL_FROM", "hunter2@h\nBcc: x@y", "FLEET_MAIL_FROM: must look like Fleet <fleet@example.com>"),
        ("FLEET_APP_URL", "javascript:hunter2", "FLEET_APP_URL: "),
        ("FLEET_HEARTBEAT_S", "0", "FLEET_HEARTBEAT_S: "),
        ("FLEET_HEARTBEAT_S", "3", "rescue_after_s must be at least three times heartbeat_s"),
    ],
)
def test_what_is_wrong_is_named_and_never_shown(
    name: str, value: str | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_text_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"FLEET_WINDOW=\xff\xfe\n")

    with pytest.raises(SettingsError, match="not UTF-8 text"):
        load_settings()


def test_a_directory_of_secrets_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_SECRETS_DIR", "/nowhere")

    with pytest.raises(SettingsError, match="FLEET_SECRETS_DIR: there is no such directory"):
        load_settings()


def test_the_receiver_needs_the_workers_url_only_and_is_told_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = repr(load_receiver_settings())
    for name in ("FLEET_SYSTEM_DATABASE_URL", "FLEET_REDIS_URL"):
        monkeypatch.delenv(name)

    assert repr(load_receiver_settings()) == shown
    assert "system" not in shown
    assert "redis" not in shown
    monkeypatch.delenv("FLEET_DATABASE_URL")
    with pytest.raises(SettingsError, match=r"^FLEET_DATABASE_URL: Field required$"):
        load_receiver_settings()


def test_no_secret_is_shown_by_the_settings() -> None:
    assert "secret-" not in repr(load_settings())
