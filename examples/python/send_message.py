"""Ask for a job by a plain Celery message: `python send_message.py TENANT_ID CONNECTION_ID`. Needs celery[redis].

For those who cannot reach the database. The run exists when a worker has taken the message, not before; a message that
Redis loses is lost. The message's id becomes the run's: sent twice with the same id, it is one run.
"""

import os
import sys
from uuid import uuid4

from celery import Celery

app = Celery(broker=os.environ["REDIS_URL"])
app.conf.broker_transport_options = {"global_keyprefix": "fleet:", "visibility_timeout": 1800}
app.conf.task_ignore_result = True


def main(tenant_id: str, connection_id: str) -> None:
    """Ask for a sync, and print the id that its run will have."""
    run_id = str(uuid4())
    app.send_task(
        "telematics.sync_connection",
        kwargs={"tenant_id": tenant_id, "connection_id": connection_id},
        queue="telematics",
        task_id=run_id,
    )
    sys.stdout.write(f"{run_id}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
