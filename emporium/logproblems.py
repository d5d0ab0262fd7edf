"""The errors of a commit log as answers, for the servers that stand on one. docs/protocol.md lists them."""

import logging

from emporium import web
from emporium.commitlog.errors import Closed, LogError, NotStored, ReadOnly, TooLarge, Unsure

log = logging.getLogger(__name__)


def add_to(app):
    """Answer a log's errors as problems. After a failed sync the App ends, since only a new start can tell what is
    stored."""

    @app.errorhandler(LogError)
    def not_logged(error):
        if isinstance(error, Unsure | ReadOnly):
            app.fail(f"a sync failed, and only a new start can tell what is stored: {error}")
        return web.answer_problem(problem_of(error))


def problem_of(error):
    """The Problem that says it."""
    match error:
        case TooLarge():
            return web.Problem(413, str(error))
        case NotStored(is_full=True):
            return web.Problem(507, f"{error}; the disk is full")
        case NotStored() | ReadOnly() | Closed():
            return web.unavailable(str(error))
        case Unsure():
            return web.Problem(504, f"{error}; it may be stored all the same, and to repeat it may store it twice")
        case _:
            log.error("%s", error, extra={"event": "log-damaged"})
            return web.Problem(500, f"{error}; ./tea log verify tells more")
