// Ask for a job by a plain Celery message: node send-message.js TENANT_ID CONNECTION_ID
// For those who cannot reach the database. The run exists when a worker has taken the message, not before; a message
// that Redis loses is lost. The message's id becomes the run's: sent twice with the same id, it is one run.
import { randomUUID } from "node:crypto";
import celery from "celery-node";

const [tenantId, connectionId] = process.argv.slice(2);
const url = process.env.REDIS_URL;
const client = celery.createClient(url, url, "telematics"); // the queue's name; nothing is read back from the second URL
client.conf.CELERY_BROKER_OPTIONS = { keyPrefix: "fleet:" };
await client.isReady();

const runId = randomUUID();
client.sendTask("telematics.sync_connection", [], { tenant_id: tenantId, connection_id: connectionId }, runId);
await client.isReady(); // sendTask does not say when it has sent: it waits for this first
await new Promise((sent) => setTimeout(sent, 50));
await client.disconnect();
console.log(runId);
