"""The registry of jobs, as the database's own door sees it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.sql.expression import bindparam

_UPSERT = text(
    """
    INSERT INTO job_definitions AS d (job, queue, scope, is_public, max_attempts, priority, parameters, unique_by,
                                      description)
    VALUES (:job, :queue, :scope, :is_public, :max_attempts, :priority, :parameters, :unique_by, :description)
    ON CONFLICT (job) DO UPDATE SET queue = excluded.queue, scope = excluded.scope, is_public = excluded.is_public,
        max_attempts = excluded.max_attempts, priority = excluded.priority, parameters = excluded.parameters,
        unique_by = excluded.unique_by, description = excluded.description, updated_at = now()
    WHERE (d.queue, d.scope, d.is_public, d.max_attempts, d.priority, d.parameters, d.unique_by, d.description)
       IS DISTINCT FROM (excluded.queue, excluded.scope, excluded.is_public, excluded.max_attempts, excluded.priority,
                         excluded.parameters, excluded.unique_by, excluded.description)
    """
).bindparams(bindparam("parameters", type_=JSONB), bindparam("unique_by", type_=ARRAY(TEXT)))
_REMOVE = text("DELETE FROM job_definitions WHERE NOT job = ANY(:jobs)").bindparams(
    bindparam("jobs", type_=ARRAY(TEXT))
)


def write_definitions(connection: Connection, definitions: Sequence[dict[str, Any]]) -> int:
    """Make the table equal to the given definitions. Returns how many rows changed."""
    changed = sum(connection.execute(_UPSERT, definition).rowcount for definition in definitions)
    return changed + connection.execute(_REMOVE, {"jobs": [each["job"] for each in definitions]}).rowcount
