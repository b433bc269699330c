"""What can go wrong with an embedded server."""


class EmbeddedServerError(Exception):
    """A server cannot be started; the message is one line that names what and where."""
