"""What Traccar's refusals mean: it answers 400 or 500 with a stack trace to nearly everything.

Source: github.com/traccar/traccar at 9e5c458, api/ResourceErrorHandler.java, api/security/SecurityRequestFilter.java,
api/signature/TokenManager.java, read 2026-11. An expired, revoked or wrongly signed token is 401; text that is no token
at all fails while it is read. A user who may not do something is a SecurityException, a database that is away a
StorageException, both with status 400.
"""

from integrations.errors import CredentialsRejected, IntegrationError, PermanentError, TransientError
from integrations.http import Refusal


def judge(refusal: Refusal) -> IntegrationError | None:
    """Return what a refusal means; None where its status says it all."""
    told = f"{refusal.request}: status {refusal.status}"
    if refusal.status not in (400, 500):
        return None
    if b"StorageException" in refusal.body:
        return TransientError(f"{told}, Traccar's database failed")
    if b"TokenManager" in refusal.body:
        return CredentialsRejected(f"{told}, that is no token of this Traccar")
    if b"SecurityException" in refusal.body:
        return PermanentError(f"{told}, the token's user may not read this: reports must be allowed")
    return TransientError(told)
