"""The settings of each server, from the JSON object on its command line: python serverDB.py '{"id": 2}'.

Names without a mark are the course's, and other people's harnesses pass them. Those marked *ours* are optional,
and a server started without them behaves as the course says. PORT in the environment overrides the port.
An unknown setting is named in a warning; a bad value stops the start with one line.
"""

import os
import sys
from ipaddress import ip_address
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from emporium import jsonlog, wire
from emporium.environment import ROOT

Port = Annotated[int, Meta(ge=1, le=65535)]
Index = Annotated[int, Meta(ge=0)]
HowMany = Annotated[int, Meta(ge=1)]
HowManyBytes = Annotated[int, Meta(ge=1, le=2**60)]
Fsync = Literal["group", "always", "interval", "never"]
LogFormat = Literal["text", "json"]
Events = Annotated[int, Meta(ge=0, le=100_000)]
Threads = Annotated[int, Meta(ge=1, le=512)]
Lab = bool | Literal["held"]


class RedisAddress(msgspec.Struct, frozen=True):
    """Where a Redis server listens."""

    host: str = "localhost"
    port: Port = 6379


class LBSettings(msgspec.Struct, frozen=True, rename="kebab"):
    """Of serverLB.py.

    id            which load balancer this is; it only names the process
    port          where it listens
    ndb           how many shards there are; a tea's primary is its hash modulo this
    db-base-port  shard i is at this port + i
    logfile       a file that gets the log besides standard error, rotated at 5 MB; null for none
    log-format    ours: text, or json: one object a line, its events those of docs/events.md
    host          ours: the address to listen on; anything but 127.0.0.1 opens the store to the network
    threads       ours: how many requests it carries at once; at most half of them wait for one shard, to be sent or to
                  be answered
    gather        ours: whether requests that wait for a shard together travel together; false sends each by itself
    trace         ours: how many of the newest events are kept in memory for GET /trace; 0 for none
    view-port     ours: the port of the view on this machine, where GET / leads; null: there is none, and GET / is a 404
    """

    id: Index = 0
    port: Port = 2500
    ndb: HowMany = 1
    db_base_port: Port = 3000
    logfile: str | None = None
    log_format: LogFormat = "text"
    host: str = "127.0.0.1"
    threads: Threads = 144
    gather: bool = True
    trace: Events = 0
    view_port: Port | None = None


class DBSettings(msgspec.Struct, frozen=True, rename="kebab"):
    """Of serverDB.py.

    id             which shard this is: its channel is db<id>, it takes from db<id - 1 modulo ndb>
    hostport       where it listens
    servers        its Redis, a list of one; of a longer list the one at index id
    ndb            how many shards are in the ring; with 1 nothing is sent or taken
    qport          where the queue listens
    digest-length  how many records make a digest full, and so have it sent
    baseDBport     where shard 0 listens; the course passes it, and only a shard with a data-dir calls another
    logfile        a file that gets the log besides standard error, rotated at 5 MB; null for none
    log-format     ours: text, or json: one object a line, its events those of docs/events.md
    host           ours: the address to listen on; anything but 127.0.0.1 opens the shard to the network
    threads        ours: how many requests it accepts at once; at most half of them wait for their turn
    slowed-to      ours, for tests of overload: at most so many teas are loaded in a second; null for no such limit
    trace          ours: how many of the newest events are kept in memory for GET /trace; 0 for none
    gossip-ids     ours: whether a gossip record says which request it tells of, beyond the course's five fields
    lab            ours: whether people may hold up its comparisons with others, to see gossip alone (POST /lab/hold);
                   "held": they are held up from the start

    Ours, for a shard that is to survive what the course assumes away; ./tea up gives them (docs/guarantees.md):

    data-dir       the folder of the note beside Redis: a second process is fenced off, Redis must be one that keeps
                   what it stores, values carry checksums, and a memory that was lost is taken back from the others,
                   which are at baseDBport + their index; null for none of this
    anti-entropy-s how many seconds from one comparison with the next shard to the next, while nothing differs; needs a
                   data-dir; null for none
    tombstones     whether a delete leaves a tombstone, and so stays a delete
    coalesce       whether a newer record of a tea takes the place of an older one that waits to be told, and gossip
                   that waits is bounded
    durability     1: a write is answered when this shard's Redis has it; 2: when the queue has it, too; that needs
                   tombstones
    """

    id: Index = 0
    hostport: Port = 3000
    servers: Annotated[tuple[RedisAddress, ...], Meta(min_length=1)] = (RedisAddress(),)
    ndb: HowMany = 1
    qport: Port = 6000
    digest_length: HowMany = 1
    base_db_port: Port = msgspec.field(default=3000, name="baseDBport")
    logfile: str | None = None
    log_format: LogFormat = "text"
    host: str = "127.0.0.1"
    threads: Threads = 128
    slowed_to: HowMany | None = None
    trace: Events = 0
    gossip_ids: bool = False
    lab: Lab = False
    data_dir: Annotated[str, Meta(min_length=1)] | None = None
    anti_entropy_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    tombstones: bool = False
    coalesce: bool = False
    durability: Literal[1, 2] = 1

    @property
    def redis(self):
        return self.servers[0] if len(self.servers) == 1 else self.servers[self.id]


class QSettings(msgspec.Struct, frozen=True, rename="kebab"):
    """Of serverQ.py.

    id            which queue this is; it only names the process
    port          where it listens
    nq            how many queues there are; always 1, the course passes it
    ndb           how many shards use it; channels appear when they are first written to
    logfile       ours: a file that gets the log besides standard error, rotated at 5 MB; null for none
    log-format    ours: text, or json: one object a line, its events those of docs/events.md
    host          ours: the address to listen on; anything but 127.0.0.1 opens the queue to the network
    threads       ours: how many requests it answers at once
    data-dir      ours: the folder in which the channels are kept; null for in memory
    fsync         ours: when a record counts as stored there: group, always, interval or never (docs/log.md)
    segment-bytes ours: how large a file of a channel grows before the next one begins; what is done with goes by files
    most-records  ours: how many may wait in a channel; beyond that its oldest are dropped, and counted
    most-bytes    ours: how many bytes of them, likewise
    trace         ours: how many of the newest events are kept in memory for GET /trace; 0 for none
    lab           ours: whether people may hold back what waits, and let it through one by one (POST /lab/hold); "held":
                  it is held back from the start
    """

    id: Index = 0
    port: Port = 6000
    nq: HowMany = 1
    ndb: HowMany = 1
    logfile: str | None = None
    log_format: LogFormat = "text"
    host: str = "127.0.0.1"
    threads: Threads = 128
    data_dir: str | None = None
    fsync: Fsync = "group"
    segment_bytes: HowManyBytes = 16 * 2**20
    most_records: HowMany = 1_000_000
    most_bytes: HowMany = 256 * 2**20
    trace: Events = 0
    lab: Lab = False


class LogSettings(msgspec.Struct, frozen=True, rename="kebab"):
    """Of serverLog.py. All of them are ours.

    id               which log this is; it only names the process
    port             where it listens
    logfile          a file that gets the log of the process besides standard error, rotated at 5 MB; null for none
    log-format       text, or json: one object a line, its events those of docs/events.md
    host             the address to listen on; anything but 127.0.0.1 opens the log to the network
    threads          how many requests it answers at once; a quarter of them may wait for records to come
    data-dir         the folder of the log; null for var/log-service in the project
    fsync            when a record counts as stored: group, always, interval or never (emporium/commitlog/config.py)
    segment-bytes    how large a file of records gets before the next one begins
    retention-bytes  while the records have more bytes than this, the oldest segment is dropped; null for never
    retention-s      records that are older than this, in seconds, are dropped; null for never
    """

    id: Index = 0
    port: Port = 8080
    logfile: str | None = None
    log_format: LogFormat = "text"
    host: str = "127.0.0.1"
    threads: Threads = 128
    data_dir: Annotated[str, Meta(min_length=1)] | None = None
    fsync: Fsync = "group"
    segment_bytes: HowManyBytes = 64 * 2**20
    retention_bytes: HowManyBytes | None = None
    retention_s: Annotated[float, Meta(gt=0, lt=2**31)] | None = None

    @property
    def folder(self):
        return str(ROOT / "var" / "log-service") if self.data_dir is None else self.data_dir


class ViewSettings(msgspec.Struct, frozen=True, rename="kebab"):
    """Of serverView.py. All of them are ours.

    id               which view this is; it only names the process
    port             where it listens
    logfile          a file that gets the log besides standard error, rotated at 5 MB; null for none
    log-format       text, or json: one object a line, its events those of docs/events.md
    host             the address to listen on; anything but 127.0.0.1 opens the view to the network
    threads          how many requests it answers at once; an open page holds one of them, and 100 may be open
    ndb              how many shards there are
    lb-port          where the load balancer listens
    db-base-port     shard i is at this port + i
    qport            where the queue listens
    redis-base-port  the Redis of shard i is at this port + i
    lab-socket       where the launcher of the cluster is told to break and to mend, a Unix socket; null: nothing may be
    """

    id: Index = 0
    port: Port = 8000
    logfile: str | None = None
    log_format: LogFormat = "text"
    host: str = "127.0.0.1"
    threads: Threads = 160
    ndb: HowMany = 4
    lb_port: Port = 2500
    db_base_port: Port = 3000
    qport: Port = 6000
    redis_base_port: Port = 5555
    lab_socket: Annotated[str, Meta(min_length=1)] | None = None


def is_loopback(host):
    """Whether nobody but this machine can get there."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(shape):
    """The settings of one of the shapes above as they are written in the JSON argument."""
    return [field.encode_name for field in msgspec.structs.fields(shape)]


def read(shape, text, port_name="port", environ=None):
    """(settings, warnings) of the JSON text, or of no text (None). Raises ValueError, in one line, on a bad value."""
    given = wire.decode(text, dict) if text is not None else {}
    environ = os.environ if environ is None else environ
    if "PORT" in environ:
        try:
            given[port_name] = int(environ["PORT"])
        except ValueError as error:
            raise ValueError(f"PORT in the environment: {environ['PORT']!r} is no whole number") from error
    known = names_of(shape)
    warnings = [
        f"unknown setting {name!r} is ignored; known are {', '.join(known)}" for name in given if name not in known
    ]
    settings = wire.decode(wire.encode(given), shape)
    unknown_in_servers = {name for server in given.get("servers", []) for name in server} - set(names_of(RedisAddress))
    warnings += [
        f"unknown setting {name!r} in servers is ignored; known are {', '.join(names_of(RedisAddress))}"
        for name in sorted(unknown_in_servers)
    ]
    if shape is LBSettings and settings.db_base_port + settings.ndb - 1 > 65535:
        raise ValueError(f"db-base-port: {settings.ndb} shards from {settings.db_base_port} on are beyond port 65535")
    if shape is ViewSettings and max(settings.db_base_port, settings.redis_base_port) + settings.ndb - 1 > 65535:
        raise ValueError(f"ndb: the ports of {settings.ndb} shards, or of their Redis servers, are beyond 65535")
    if shape is ViewSettings and settings.lab_socket and not is_loopback(settings.host):
        raise ValueError(f"lab-socket: a view that listens on {settings.host} may break nothing: only 127.0.0.1 may")
    if shape is DBSettings and 1 < len(settings.servers) <= settings.id:
        raise ValueError(f"servers: {len(settings.servers)} are listed, and id {settings.id} is beyond them")
    if shape is DBSettings and settings.anti_entropy_s and settings.data_dir is None:
        raise ValueError("anti-entropy-s: it needs a data-dir")
    if shape is DBSettings and settings.durability == 2 and not settings.tombstones:
        raise ValueError("durability: 2 needs tombstones, since a delete must reach the queue, too")
    return settings, warnings


def from_command_line(shape, port_name="port"):
    """The settings of this process. On a bad value, or on more than one argument, says which and why, and exits 2."""
    program, *arguments = sys.argv
    try:
        if len(arguments) > 1:
            raise ValueError(f"one JSON object is expected, {len(arguments)} arguments were given")
        settings, warnings = read(shape, arguments[0] if arguments else None, port_name)
    except ValueError as error:
        print(f"{program}: bad settings: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    if settings.log_format == "json":
        jsonlog.take_over(service_of(settings))
    for warning in warnings:
        print(f"{program}: {warning}", file=sys.stderr, flush=True)
    return settings


def service_of(settings):
    """The name of the service that has these settings: lb, db2, q, log."""
    role = type(settings).__name__.removesuffix("Settings").lower()
    return f"{role}{settings.id}" if role == "db" else role
