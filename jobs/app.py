"""The Celery application: `celery -A jobs.app worker|beat|flower`."""

import sys
import threading
from typing import Any

from celery import Celery
from celery.signals import (
    beat_init,
    setup_logging,
    task_unknown,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)
from kombu.entity import Exchange, Queue

from jobs import process
from jobs.logging import configure_logging
from jobs.queues import QUEUES, queue_of
from jobs.settings import Settings, SettingsError, exit_on_bad_settings, get_settings

TASK_MODULES = (
    "jobs.telematics.tasks",
    "jobs.maintenance.tasks",
    "jobs.work_orders.tasks",
    "jobs.notifications.tasks",
    "jobs.retention.tasks",
    "jobs.platform.tasks",
)

SOFT_SHUTDOWN_S = 30

# A thread that comes back from the database waits for the interpreter until another thread, decoding a page, yields it:
# by default 5 ms, a dozen times a page. Measured on the sync: 7 to 10 % more points a second.
sys.setswitchinterval(0.0002)


def route(name: str, *_: Any, **__: Any) -> dict[str, str]:
    """Send a task to its job's queue, also when a foreign client publishes through this application."""
    return {"queue": queue_of(name)}


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return Celery's settings; every process that touches the broker uses these."""
    return {
        "broker_url": settings.redis_url.get_secret_value(),
        "broker_transport_options": {
            "visibility_timeout": settings.visibility_timeout_s,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "health_check_interval": 25,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "global_keyprefix": settings.redis_key_prefix,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_acquire_timeout": 5,
        "result_backend": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "event_serializer": "json",
        "task_acks_late": True,
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        # The ledger rescues what a lost worker held: one mechanism, not two.
        "task_retry_on_worker_lost": False,
        "task_reject_on_worker_lost": False,
        "task_track_started": True,
        "task_create_missing_queues": False,
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_default_queue": "lifecycle",
        "task_routes": (route,),
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        "worker_eta_task_limit": 500,
        "worker_max_tasks_per_child": 10_000,  # a new child stops its worker for half a second
        "worker_max_memory_per_child": 400_000,
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_S,
        "worker_enable_soft_shutdown_on_idle": False,  # it keeps ETA messages, which the ledger never sends
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "timezone": "UTC",
        "enable_utc": True,
        "beat_enable_remote_control": True,
        "beat_scheduler": "jobs.scheduler:LedgerScheduler",
        "beat_max_loop_interval": 5,
        "imports": TASK_MODULES,
    }


def _create() -> Celery:
    try:
        settings = get_settings()
    except SettingsError as error:
        exit_on_bad_settings(error)
    created = Celery("fleet-jobs", set_as_current=True)
    created.conf.update(celery_settings(settings))
    return created


app = _create()


@setup_logging.connect
def _setup_logging(**_: Any) -> None:
    configure_logging(get_settings())


@worker_init.connect
@beat_init.connect
def _refuse_bad_start(**_: Any) -> None:
    from jobs.start import refuse_bad_start

    refuse_bad_start()


@worker_process_init.connect
@worker_ready.connect
def _begin_to_beat(**_: Any) -> None:
    """Show an idle worker to `doctor`; not waited for, the first claim makes sure of it."""
    threading.Thread(target=process.try_heartbeat, name="first-beat", daemon=True).start()


@task_unknown.connect
def _keep_unknown(message: Any, name: str, id: str, **_: Any) -> None:
    from jobs.execution import keep_unknown

    keep_unknown(name, id, message.payload)


@worker_process_shutdown.connect
@worker_shutdown.connect
def _leave_in_order(**_: Any) -> None:
    process.leave()
