"""One sync to its end in a process of its own; prints its outcome and the process's peak memory, as JSON."""

import json
import resource
import sys
from uuid import UUID


def main() -> None:
    from jobs import execution, process
    from jobs.client import enqueue
    from jobs.job import load_jobs

    job = load_jobs()["telematics.sync_connection"]
    tenant_id, connection_id = UUID(sys.argv[1]), UUID(sys.argv[2])
    with process.get_database().system_transaction() as connection:
        run_id = enqueue(connection, job, {"connection_id": connection_id}, tenant_id=tenant_id)
    execution.execute(job, [run_id])
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    process.close()
    sys.stdout.write(json.dumps({"run_id": str(run_id), "peak_mb": round(peak_mb, 1)}))


if __name__ == "__main__":
    main()
