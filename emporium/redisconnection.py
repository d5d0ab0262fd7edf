"""Connections to one Redis server, and a question over one: many commands, one round trip."""

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, ResponseError
from redis.retry import Retry

DEADLINE_S = 0.5
CONNECT_S = 0.25
MOST_CONNECTIONS = 100_000  # never reached: there are as many as threads that ask at once


def connections_to(host, port):
    """() -> a connection to this Redis."""
    client = redis.Redis(
        host=host,
        port=port,
        socket_timeout=DEADLINE_S,
        socket_connect_timeout=CONNECT_S,
        # Whether to try again is for the client to decide: only it knows its deadline.
        retry=Retry(NoBackoff(), 0),
        max_connections=MOST_CONNECTIONS,
    )
    client.connection_pool.connection_kwargs["command_packer"] = _Packer()
    return client.connection_pool.make_connection


class _Packer:
    """Packs a command for the library, at a tenth of the CPU of its own: there are seven and more in a step."""

    def pack(self, *words):
        name = words[0]
        if type(name) is str and " " in name:  # the library's own, when it connects
            words = (*name.split(), *words[1:])
        return [hiredis.pack_command(words)]


def is_fresh(connection):
    """Whether Redis has neither closed it nor left an answer on it that belongs to somebody else."""
    try:
        return connection.is_connected and not connection.can_read()
    except ConnectionError:
        return False


def round_trip(connection, commands):
    """The answer to each of these commands, or the ResponseError that it came to, in one round trip.

    A pipeline of the library does the same and takes three times the CPU, much of it to convert answers.
    """
    connection.send_packed_command(connection.pack_commands(commands))
    return [_answer(connection) for _ in commands]


def _answer(connection):
    try:
        return connection.read_response()
    except ResponseError as error:  # Redis's own word, and the next answer follows
        return error
