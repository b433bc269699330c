"""Take webhooks, and believe only what is signed: `python receive_webhook.py`. Needs nothing but Python.

WEBHOOK_SECRET is what `fleet-jobs notifications endpoints add-webhook` printed; PORT is 8000 unless set. TLS ends
before it: webhooks are sent to https only. The library `standardwebhooks` verifies them as well.
"""

import base64
import binascii
import hmac
import json
import os
import sys
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300
MOST_BYTES = 64 * 1024
SECRET = os.environ["WEBHOOK_SECRET"]
taken: set[str] = set()  # yours is a table, with the id as its key


def is_ours(headers: Message, body: bytes, now: float) -> bool:
    """Tell whether a message was signed with the secret, lately: what is older was recorded by somebody."""
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (sent_at.isascii() and sent_at.isdecimal() and abs(now - int(sent_at[:15])) <= TOLERANCE_S):
        return False
    key = base64.b64decode(SECRET.removeprefix("whsec_"), validate=True)
    expected = hmac.digest(key, f"{message_id}.{sent_at}.".encode() + body, "sha256")
    for signature in headers.get("webhook-signature", "").split():  # while a secret is replaced there are two
        version, _, given = signature.partition(",")
        try:
            if version == "v1" and hmac.compare_digest(base64.b64decode(given, validate=True), expected):
                return True
        except (binascii.Error, ValueError):
            continue
    return False


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is ours, once or again, and 400 to all else."""

    timeout = 10

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdecimal() and int(length[:15]) <= MOST_BYTES):
            self._answer(413)
            return
        body = self.rfile.read(int(length))  # as it came: what is parsed and written again has another signature
        if not is_ours(self.headers, body, time.time()):
            self._answer(400)
            return
        message_id = self.headers["webhook-id"]
        if message_id not in taken:  # an answer that is lost on the way is asked for again
            taken.add(message_id)
            told = json.loads(body)
            sys.stdout.write(f"{told['type']} {told['data']['subject']}\n")
            sys.stdout.flush()
        self._answer(204)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Receiver).serve_forever()
