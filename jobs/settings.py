"""The settings: every variable starts with `FLEET_`; secrets may also be files. Only entry points read them."""

import os
import sys
from email.utils import parseaddr
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from integrations.errors import PermanentError
from integrations.mail import MailServer
from integrations.mime import check_mailbox


def _database_url(value: SecretStr) -> SecretStr:
    try:
        url = make_url(value.get_secret_value())
    except ArgumentError:
        raise ValueError("must look like postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from None
    if url.get_backend_name() != "postgresql" or not url.database:
        raise ValueError("must look like postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://")):
        raise ValueError("must start with redis:// or rediss://")
    return value


def _smtp_url(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    try:
        MailServer.from_url(value.get_secret_value())
    except PermanentError as error:
        raise ValueError(str(error)) from None
    return value


def _mail_address(value: str | None) -> str | None:
    if not value:
        return None
    try:
        check_mailbox(*parseaddr(value if value.isprintable() else ""))
    except PermanentError as error:
        raise ValueError(f"must look like Fleet <fleet@example.com>: {error}") from None
    return value


DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
SmtpUrl = Annotated[SecretStr | None, AfterValidator(_smtp_url)]
MailAddress = Annotated[str | None, AfterValidator(_mail_address)]


class ReceiverSettings(BaseSettings):
    """What the receiver of webhooks needs to know. It faces the internet: it is told of no other role and no Redis."""

    model_config = SettingsConfigDict(
        env_prefix="FLEET_", env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    database_url: DatabaseUrl
    """Tenant work, as role fleet_worker; may go through PgBouncer in transaction mode."""
    encryption_keys: Annotated[list[SecretStr], NoDecode] = Field(default_factory=list)
    """Keys of 32 bytes, base64, comma separated: the first encrypts, all decrypt. `fleet-jobs keygen` makes one."""
    webhook_per_s: int = Field(50, ge=1)
    """Verified deliveries a second and connection that one receiver keeps; the provider sends the others again."""
    log_format: Literal["console", "json"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        for name in ("encryption_keys", "provider_origins", "schedule_every"):
            if isinstance(value := values.get(name), str):
                values[name] = [part.strip() for part in value.split(",") if part.strip()]
        return values


class Settings(ReceiverSettings):
    """What every other process needs to know. Times are in seconds."""

    system_database_url: DatabaseUrl
    """Ledger, relay, partitions, as role fleet_system; direct, because LISTEN and DETACH need a session."""
    migration_database_url: DatabaseUrl | None = None
    """`fleet-jobs migrate` only, as role fleet_migrator; direct."""
    admin_database_url: DatabaseUrl | None = None
    """`fleet-jobs bootstrap` only, as a superuser; nothing else ever needs one."""
    read_database_url: DatabaseUrl | None = None
    """A read replica, as role fleet_readonly; the primary is read where this is absent."""

    redis_url: RedisUrl
    redis_key_prefix: str = "fleet:"
    provider_origins: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """Origins besides the providers' own that a connection may name, for a self-hosted or simulated provider."""
    webhook_origin: str | None = Field(None, pattern=r"^(https?://[^/\s?#@]+)?$")
    """Where the internet reaches the receiver of webhooks: what `fleet-jobs webhooks url` begins with."""

    smtp_url: SmtpUrl = None
    """Where mail is handed over: smtps://USER:PASSWORD@HOST:PORT, smtp+starttls:// or smtp://; mail waits without."""
    mail_from: MailAddress = None
    """The sender of every mail, `Fleet <fleet@example.com>`; its domain is that of the Message-IDs."""
    mail_unsubscribe_to: MailAddress = None
    """A mailbox that people may write to instead of following the link to unsubscribe."""
    app_url: str | None = Field(None, pattern=r"^(https?://[^\s?#@]+)?$")
    """The application that the buttons of mails lead to; they have none without it."""
    loopback_webhooks: bool = False
    """Let webhooks go to this machine, without TLS: for demos and tests only."""

    heartbeat_s: float = Field(2.0, gt=0)
    rescue_after_s: float = Field(8.0, gt=0)
    republish_after_s: float = Field(15.0, gt=0)
    window: int = Field(64, ge=1)
    """Published and unclaimed messages per queue: what a flushed Redis can delay."""
    poll_s: float = Field(0.5, gt=0)
    visibility_timeout_s: int = Field(1800, gt=0)
    slice_s: float = Field(20.0, gt=0)
    """How long one slice of a long job may take before it queues behind the other tenants."""
    schedule_every: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """Entries of the timetable that tick at another interval here: `telematics.sync_connection=60`, seconds."""

    data_dir: Path = Path(".fleet")
    """Where the embedded servers keep their data."""

    @model_validator(mode="after")
    def _order_of_times(self) -> "Settings":
        if self.rescue_after_s < 3 * self.heartbeat_s:
            raise ValueError("rescue_after_s must be at least three times heartbeat_s")
        if self.smtp_url is not None and self.mail_from is None:
            raise ValueError("mail_from must be set where smtp_url is")
        return self


Kind = TypeVar("Kind", bound=ReceiverSettings)


class SettingsError(Exception):
    """The environment is not usable; the message names each variable and what it must look like, never its value."""


def load_settings() -> Settings:
    """Read the environment, `.env` and `FLEET_SECRETS_DIR`.

    Raises:
        SettingsError: one line per variable that is missing or wrong.
    """
    return _load(Settings)


def load_receiver_settings() -> ReceiverSettings:
    """Read what the receiver of webhooks needs, from the same places.

    Raises:
        SettingsError: as `load_settings`.
    """
    return _load(ReceiverSettings)


def _load(kind: type[Kind]) -> Kind:
    secrets_dir = os.environ.get("FLEET_SECRETS_DIR") or None
    if secrets_dir is not None and not Path(secrets_dir).is_dir():
        raise SettingsError("FLEET_SECRETS_DIR: there is no such directory")
    try:
        return kind(_secrets_dir=secrets_dir)  # type: ignore[call-arg]
    except UnicodeDecodeError:
        raise SettingsError("a file of settings is not UTF-8 text") from None
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = "_".join(["FLEET", *(str(part) for part in problem["loc"][:1])]).upper()
            lines.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
        raise SettingsError("; ".join(lines)) from None


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()


def exit_on_bad_settings(error: SettingsError) -> None:
    """Say what is wrong in one line and leave with status 2."""
    sys.stderr.write(f"fleet-jobs: bad settings: {error} (environment or .env)\n")
    raise SystemExit(2)
