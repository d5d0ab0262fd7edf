"""Ports: which are free, and which process holds one that is not."""

import socket

import psutil


def is_free(port, host="127.0.0.1"):
    """True when a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder_of(port):
    """Who listens on the port, in words: 'it is held by pid 4711 (redis-server *:5555)'; None when nobody does."""
    try:
        listeners = [
            connection
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ]
        if not listeners:
            return None
        pid = listeners[0].pid
        if pid is None:
            return "it is held by a process of another user"
        command = " ".join(psutil.Process(pid).cmdline()).strip()
        return f"it is held by pid {pid} ({command[:120]})"
    except psutil.Error as error:
        return f"who holds it could not be found out: {error}"
