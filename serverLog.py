"""The log as a service: records in the order in which they came, each at an offset, kept on disk.

    curl -X POST localhost:8080 -d '{"record": {"value": "TGV0J3MgR28gIzEK"}}'    {"offset":0}
    curl -X GET localhost:8080 -d '{"offset": 0}'              {"record":{"value":"TGV0J3MgR28gIzEK","offset":0}}

It promises that a record that was answered with an offset is read there, byte for byte, whatever becomes of this
process in between; with `fsync` group or always the machine may lose its power, too. Offsets are dense, and the oldest
records go only when retention is asked for. Whoever reads keeps count alone: the log does not know its readers.

    python serverLog.py '{"port": 8080, "data-dir": "var/log-service"}'

Source: Travis Jeffery, Distributed Services with Go, chapter 1. The log itself is in emporium/commitlog/.
"""

import sys

from flask import request

from emporium import logproblems, logwire, measures, serving, web, wire
from emporium.bulkhead import Bulkhead
from emporium.commitlog import Config, Log
from emporium.commitlog.errors import Damaged, LogError, OffsetOutOfRange
from emporium.settings import LogSettings, from_command_line, service_of

APPEND_LIMIT_BYTES = 2 * 2**20  # of a body: a value of some 1.5 MiB


def create_app(settings, disk=None):
    """The App. Raises the log's errors and OSError when the log in `data-dir` cannot be opened.

    disk  the one to keep it on (emporium/commitlog/files.py); None for the real one
    """
    log = Log(settings.folder, config_of(settings), disk=disk)
    app = web.create_app_for(
        "log", settings.threads, checks=lambda: {"append": log.failure}, status=lambda: status_of(log, settings)
    )
    app.at_stop, app.at_end = log.wait_no_more, log.close
    app.metrics.add(lambda: measures.of_log(log))
    waiters = Bulkhead(app.threads // 4, lambda: web.unavailable("as many as may be wait for records already"))
    logproblems.add_to(app)

    @app.errorhandler(OffsetOutOfRange)
    def not_there(error):
        return web.answer_problem(web.Problem(404, str(error), members={"lowest": error.lowest, "next": error.next}))

    @app.post("/")
    def append():
        value = understood(logwire.decode_append, web.any_body(APPEND_LIMIT_BYTES))
        return web.answer({"offset": log.append(value)})

    @app.post("/batch")
    def append_batch():
        values = understood(logwire.decode_batch, web.any_body(APPEND_LIMIT_BYTES))
        return web.answer({"offset": log.append_many(values), "count": len(values)})

    @app.get("/")
    def read():
        asked = what_to_read()
        if asked.max is None:
            return web.answer(logwire.encode_record(read_one(asked.offset, asked.wait)))
        return web.answer(logwire.encode_records(read_many(asked.offset, asked.max, asked.wait)))

    def read_one(offset, wait_s):
        if wait_s and offset == log.next_offset:
            wait_for(offset, wait_s)
        return log.read(offset)

    def read_many(offset, most, wait_s):
        end = log.next_offset
        found = log.read_many(offset, most, logwire.MOST_BYTES)
        if wait_s and not found:  # all from `offset` to `end` may be records that were lost: what comes next counts
            wait_for(end, wait_s)
            found = log.read_many(offset, most, logwire.MOST_BYTES)
        return found

    def wait_for(offset, wait_s):
        """Returns when the log has a record at this offset, after so many seconds, or when this process is to end."""
        with waiters:
            log.wait_for(offset, wait_s)

    return app


def config_of(settings):
    return Config(
        fsync=settings.fsync,
        segment_bytes=settings.segment_bytes,
        retention_bytes=settings.retention_bytes,
        retention_s=settings.retention_s,
    )


def status_of(log, settings):
    return {
        "lowest": log.lowest_offset,
        "next": log.next_offset,
        "bytes": log.size,
        "segments": log.segments,
        "identity": log.identity,
        "fsync": settings.fsync,
        "data-dir": settings.folder,
        "failure": log.failure,
    }


def what_to_read():
    """The logwire.Read of this request, from its query or else from its body. Raises a Problem 400."""
    body = web.any_body(web.BODY_LIMIT_BYTES)
    is_in_query = any(name in request.args for name in ("offset", "max", "wait"))
    if is_in_query and body:
        raise web.Problem(400, "the query says what to read, and so does the body: one of them is enough")
    if body:
        return understood(logwire.decode_read, body)
    offset = web.whole_argument("offset", None, logwire.OFFSETS)
    if offset is None:
        raise web.Problem(400, 'offset is missing: GET /?offset=0 says it, or the body {"offset": 0}')
    return logwire.Read(
        offset,
        web.whole_argument("max", None, range(1, logwire.MOST_RECORDS + 1)),
        web.seconds_argument("wait", 0, logwire.MOST_WAIT_S),
    )


def understood(decode, body):
    """decode(body). Raises a Problem 400, also for JSON that says something else: so does the log of the source."""
    try:
        return decode(body)
    except (wire.BadJSON, wire.BadShape) as error:
        raise web.Problem(400, str(error)) from error


def main():
    settings = from_command_line(LogSettings)
    serving.log_to(settings.logfile, settings.log_format, service_of(settings))
    try:
        app = create_app(settings)
    except Damaged as error:
        sys.exit(f"log: {error}; see ./tea log verify {settings.folder}")
    except (LogError, OSError) as error:
        sys.exit(f"log: cannot open the log in {settings.folder}: {error}")
    serving.serve(app, "log", settings.host, settings.port)


if __name__ == "__main__":
    main()
