"""The exceptions that a user is meant to read."""


class VistuneError(Exception):
    """A problem the user can act on. The message is one paragraph: what was expected, what came, for which id
    or file, and what to do. The command line prints it without a traceback and exits with status 1."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the work where it can go on. The message is one paragraph, as VistuneError's; `status` is the
    exit status by which shells and schedulers know the signal (143 for SIGTERM, 130 for SIGINT)."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.status = 128 + signal
