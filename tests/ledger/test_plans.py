"""What the relay asks every second costs as much as what is on its way, not as what waits or is over."""

import psycopg

from db.queries import relay
from tests.factories import make_tenant
from tests.servers import Database


def test_looking_for_what_redis_lost_reads_what_is_published_and_not_the_backlog(database: Database) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        tenant_id = make_tenant(admin)
        admin.execute(
            "INSERT INTO job_runs (job, queue, tenant_id) SELECT 'j', 'q', %s FROM generate_series(1, 100000)",
            [tenant_id],
        )
        admin.execute("ANALYZE job_runs")
        admin.execute("UPDATE job_runs SET published_at = now() WHERE id IN (SELECT id FROM job_runs LIMIT 6400)")
        for _ in range(2):  # when the planner's figures are out of date, and when they are not
            statement = str(relay._REPUBLISH.text).replace(":after_s", "15").replace(":queues", "NULL")
            plan = "\n".join(row[0] for row in admin.execute(f"EXPLAIN {statement}".encode()))
            assert "ix_job_runs_published" in plan, plan
            assert "Seq Scan" not in plan, plan
            admin.execute("ANALYZE job_runs")
