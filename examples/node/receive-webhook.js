// Take webhooks, and believe only what is signed: node receive-webhook.js
// WEBHOOK_SECRET is what `fleet-jobs notifications endpoints add-webhook` printed; PORT is 8000 unless set. TLS ends
// before it: webhooks are sent to https only. The package `standardwebhooks` verifies them as well.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const TOLERANCE_S = 300;
const MOST_BYTES = 64 * 1024;
const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const taken = new Set(); // yours is a table, with the id as its key

// Whether a message was signed with the secret, lately: what is older was recorded by somebody.
function isOurs(headers, body) {
  const id = headers["webhook-id"] ?? "";
  const sentAt = headers["webhook-timestamp"] ?? "";
  if (!/^\d{1,15}$/.test(sentAt) || Math.abs(Date.now() / 1000 - Number(sentAt)) > TOLERANCE_S) return false;
  const expected = createHmac("sha256", key).update(`${id}.${sentAt}.`).update(body).digest();
  // While a secret is replaced there are two signatures.
  return (headers["webhook-signature"] ?? "").split(" ").some((signature) => {
    const [version, given] = signature.split(",");
    const bytes = Buffer.from(given ?? "", "base64");
    return version === "v1" && bytes.length === expected.length && timingSafeEqual(bytes, expected);
  });
}

createServer(async (request, response) => {
  const parts = [];
  let length = 0;
  try {
    for await (const part of request) {
      length += part.length;
      if (length > MOST_BYTES) return void response.writeHead(413, { Connection: "close" }).end();
      parts.push(part);
    }
  } catch {
    return; // it went away
  }
  const body = Buffer.concat(parts); // as it came: what is parsed and written again has another signature
  if (request.method !== "POST" || !isOurs(request.headers, body)) return void response.writeHead(400).end();
  const id = request.headers["webhook-id"];
  if (!taken.has(id)) {
    taken.add(id); // an answer that is lost on the way is asked for again
    const told = JSON.parse(body);
    console.log(`${told.type} ${told.data.subject}`);
  }
  response.writeHead(204).end();
}).listen(Number(process.env.PORT ?? 8000), "127.0.0.1");
