// Enqueue a job in your own transaction: node enqueue.js TENANT_ID CONNECTION_ID
// DATABASE_URL is yours, as role fleet_app; it may lead through PgBouncer.
import pg from "pg";

const [tenantId, connectionId] = process.argv.slice(2);
const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
try {
  await client.query("BEGIN");
  // Whose transaction this is; gone at its end.
  await client.query("SELECT set_config('app.tenant_id', $1, true)", [tenantId]);
  // What you have to write yourself goes here: the run exists if and only if it commits.
  const { rows } = await client.query(
    "SELECT enqueue_job('telematics.sync_connection', $1::jsonb, requested_by => 'a Node application') AS run_id",
    [JSON.stringify({ connection_id: connectionId })],
  );
  await client.query("COMMIT");
  console.log(rows[0].run_id);
} catch (error) {
  await client.query("ROLLBACK").catch(() => {});
  // 42704: no such job. 22023: the arguments break its contract. 42501: another tenant, or none was named.
  console.error(`${error.code ?? "error"}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await client.end();
}
