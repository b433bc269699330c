"""Structured logs: a constant event and its fields. The run that a line belongs to is bound once, by its executor."""

import logging
import sys

import structlog
from structlog.typing import Processor

from jobs.settings import ReceiverSettings

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(settings: ReceiverSettings) -> None:
    """Send every log line of this process, libraries' included, to standard error in one format."""
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ]
        if settings.log_format == "json"
        else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for noisy in ("celery.worker.strategy", "celery.app.trace", "alembic"):  # one line a message: the ledger has them
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    for talkative in ("apprise", "urllib3"):  # at DEBUG they say whole URLs, and that of a chat is its secret
        logging.getLogger(talkative).setLevel(max(logging.INFO, root.level))
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
