"""The fault proxy: what each of its modes does to a client and a server that talk through it."""

import asyncio
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from harness import eventually

from emporium.ports import Ports
from emporium.storm.links import Links, Proxy, ProxyFailed
from emporium.storm.proxy import DELAY, DROP, HALF_OPEN, PASS, RESET, Link

LINK = "db0>q"
NO_SERVER = 1  # a port on which nothing listens, ever
SOON_S = 10
SILENT_S = 0.2  # for what would otherwise come at once


class Server:
    """Accepts connections on a port, and can end and come back."""

    def __init__(self, port):
        self.port = port
        self.begin()

    def begin(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.listener.settimeout(SOON_S)

    def accept(self):
        """The next connection on which somebody says hello: the proxy only looks whether anyone is here."""
        while True:
            connection, _ = self.listener.accept()
            connection.settimeout(SOON_S)
            if connection.recv(100) == b"hello":
                return connection
            connection.close()


@pytest.fixture
def link():
    layout = Ports.find_free(1)
    port = layout.q
    with Proxy({LINK: [port, layout.lb]}) as proxy:
        server = Server(layout.lb)
        yield proxy, port, server
        server.listener.close()


@contextmanager
def connected(link):
    """(the client's end, the server's end) of a connection over the link, on which each has heard the other."""
    _, port, server = link
    with socket.create_connection(("127.0.0.1", port), SOON_S) as client:
        client.sendall(b"hello")
        with server.accept() as accepted:
            accepted.sendall(b"welcome")
            assert client.recv(100) == b"welcome"
            yield client, accepted


def is_silent(connection):
    connection.settimeout(SILENT_S)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(SOON_S)


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), SOON_S).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was taken, and reset before connect returned: nobody listens behind the link
        return False
    return False


def received(connection, many):
    parts = b""
    while len(parts) < many and (part := connection.recv(65536)):
        parts += part
    return parts


def test_bytes_pass_both_ways_in_any_number(link):
    many = bytes(range(256)) * 20_000
    with connected(link) as (client, server):
        for sender, receiver in ((client, server), (server, client)):
            sender.settimeout(SOON_S)
            sent = many[: 1024 * 1024]
            with ThreadPoolExecutor(1) as meanwhile:  # the system need not keep all of it on its way
                sending = meanwhile.submit(sender.sendall, sent)
                assert received(receiver, len(sent)) == sent
                sending.result()
        server.close()
        assert client.recv(1) == b""

    assert link[0].set(LINK) == 0


def test_a_link_that_drops_swallows_both_ways_and_tells_nobody(link):
    proxy, port, _ = link
    with connected(link) as (client, accepted):
        proxy.set(LINK, DROP)
        client.sendall(b"lost")
        accepted.sendall(b"gone too")
        assert is_silent(client)
        assert is_silent(accepted)
        with socket.create_connection(("127.0.0.1", port), SOON_S) as another:
            another.sendall(b"never")
            assert is_silent(another)

            assert eventually(lambda: proxy.set(LINK, DROP) == len(b"lostgone toonever"), "all is counted")

            proxy.set(LINK, PASS)
            client.sendall(b"after a hole")  # TCP has none
            assert is_silent(accepted)
    with connected(link):
        pass


def test_who_closes_while_the_link_drops_is_missed_when_it_heals(link):
    proxy, _, _ = link
    with connected(link) as (client, accepted):
        proxy.set(LINK, DROP)
        client.close()
        assert is_silent(accepted)
        accepted.settimeout(SILENT_S)
        with pytest.raises(TimeoutError):
            accepted.recv(1)

        proxy.set(LINK, PASS)

        accepted.settimeout(SOON_S)
        assert accepted.recv(1) == b""


def test_a_half_open_link_carries_what_is_asked_and_not_the_answer(link):
    proxy, _, _ = link
    with connected(link) as (client, accepted):
        proxy.set(LINK, HALF_OPEN)
        client.sendall(b"do it")
        assert accepted.recv(100) == b"do it"
        accepted.sendall(b"done")
        eventually(lambda: proxy.set(LINK, HALF_OPEN) == len(b"done"), "the answer is swallowed")
        assert is_silent(client)


def test_a_link_that_resets_cuts_what_stands_and_what_comes(link):
    proxy, port, _ = link
    with connected(link) as (client, accepted):
        proxy.set(LINK, RESET)
        for end in (client, accepted):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    # While it connects, or a moment later: that is for the kernel to say.
    with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", port), SOON_S) as another:
        another.recv(1)

    assert proxy.set(LINK) == 2
    with connected(link):
        pass


def test_a_link_that_delays_keeps_order_also_when_it_heals(link):
    proxy, _, _ = link
    with connected(link) as (client, accepted):
        proxy.set(LINK, DELAY, 0.3)
        began = time.monotonic()
        client.sendall(b"first ")
        eventually(lambda: proxy.set(LINK, DELAY, 0.3) == len(b"first "), "the first is on its way")
        client.sendall(b"second ")
        eventually(lambda: proxy.set(LINK, DELAY, 0.3) == len(b"first second "), "both are on their way")
        proxy.set(LINK, PASS)
        client.sendall(b"third")

        first = received(accepted, 1)
        assert time.monotonic() - began >= 0.3
        assert first + received(accepted, 18 - len(first)) == b"first second third"


def test_a_link_refuses_connections_as_long_as_nobody_listens_behind_it(link):
    proxy, port, server = link
    with connected(link) as (client, accepted):
        server.listener.close()
        accepted.close()
        assert client.recv(1) == b""
        eventually(lambda: is_refused(port), "connections are refused")

        server.begin()

        eventually(lambda: not is_refused(port), "connections are taken again")
    server.listener.close()  # with what came to it meanwhile
    eventually(lambda: is_refused(port), "connections are refused again")
    server.begin()
    eventually(lambda: not is_refused(port), "and taken again")
    assert proxy.set(LINK) == 0


def test_who_looks_for_a_target_can_be_told_to_end_at_any_moment():
    """Else the proxy, which waits for that when it ends, may have to be killed."""

    async def ends_after(steps):
        link = Link(port, NO_SERVER)
        looking = asyncio.create_task(link._target_listens())
        for _ in range(steps):
            await asyncio.sleep(0)
        was_looking = looking.cancel()
        [outcome] = await asyncio.gather(looking, return_exceptions=True)
        link._listener.close()
        return isinstance(outcome, asyncio.CancelledError) == was_looking

    port = Ports.find_free(1).q
    assert [steps for steps in range(10) if not asyncio.run(ends_after(steps))] == []


def test_every_link_has_a_port_of_its_own_and_the_services_count_from_its_base():
    links = Links.find_free(4)

    assert len({port for port, _ in links.ports.values()}) == len(links.ports) == 4 + 4 + 4 + 12
    for index in range(4):
        told = links.of_shard(index)
        assert links.ports[f"lb>db{index}"] == (links.of_balancer()["db-base-port"] + index, links.layout.db(index))
        assert links.ports[f"db{index}>r{index}"] == (told["servers"][0]["port"], links.layout.redis(index))
        assert links.ports[f"db{index}>q"] == (told["qport"], links.layout.q)
        for other in set(range(4)) - {index}:
            assert links.ports[f"db{index}>db{other}"] == (told["baseDBport"] + other, links.layout.db(other))


@pytest.mark.parametrize("dead", [True, False], ids=["dead", "dying"])
def test_a_proxy_that_has_ended_is_named(dead):
    with Proxy({}) as proxy:
        proxy.process.kill()
        if dead:
            os.waitid(os.P_PID, proxy.process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProxyFailed):
            proxy.set(LINK)

    assert proxy.process.returncode == -signal.SIGKILL
