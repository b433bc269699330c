"""Asking a mail server whether it would take our mails, without sending one."""

import smtplib

from integrations.http_deadline import deadline
from integrations.mail import MailServerAway, MailSession, is_refusal_of_mailbox, without_addresses

_LONGEST_NAME = 100


class MailProbe(MailSession):
    """A session that hands nothing over."""

    @property
    def name(self) -> str:
        """The server's own name, as it greets (RFC 5321, 4.2); what follows it on the line is anything."""
        words = (self._smtp.ehlo_resp or self._smtp.helo_resp or b"").decode("ascii", "replace").split()
        return "".join(c for c in words[0] if c.isprintable())[:_LONGEST_NAME] if words else "?"

    def try_sender(self, sender: str) -> None:
        """Begin a mail from the sender to itself and take it back: many servers judge a sender beside a recipient.

        That there is no mailbox of this name is no refusal.

        Raises:
            MailServerAway: the server refuses the sender, or ended the session.
        """
        try:
            with deadline(self._longest_s):
                code, _ = self._smtp.docmd(f"MAIL FROM:<{sender}>")
                to, said = self._smtp.docmd(f"RCPT TO:<{sender}>")
                self._smtp.rset()
        except (smtplib.SMTPException, OSError) as error:
            raise MailServerAway(f"the mail server ended the session: {type(error).__name__}") from None
        if code != 250:
            raise MailServerAway(f"the mail server refuses the sender: {code}")
        if to >= 500 and not is_refusal_of_mailbox(said):
            raise MailServerAway(f"the mail server takes no mail of the sender: {to} {without_addresses(said, sender)}")
