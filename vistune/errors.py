"""The one exception that a user is meant to read."""


class VistuneError(Exception):
    """A problem the user can act on. The message is one paragraph: what was expected, what came, for which id
    or file, and what to do. The command line prints it without a traceback and exits with status 1."""
