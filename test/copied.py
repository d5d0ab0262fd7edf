"""A process that has imported the libraries of our servers, and becomes a server whenever it is asked: see prepared.py.

A line of standard input is a question, a line of standard output its answer, both JSON:

    {"argv": [program, settings], "log": FILE, "environ": {...}, "cwd": FOLDER}   the pid of the server
    {"ended": pid}                                                               its exit code, null while it runs

Nothing of ours is imported here: each server reads our own code anew.
"""

import ctypes
import gc
import json
import os
import runpy
import signal
import sys
from pathlib import Path

import flask  # noqa: F401
import granian.server.mt  # noqa: F401
import msgspec  # noqa: F401
import prometheus_client  # noqa: F401
import psutil  # noqa: F401
import pycurl  # noqa: F401
import redis  # noqa: F401
import requests  # noqa: F401

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def answer_questions():
    """Until there are no more, which ends the process. Returns in a new server: the question that it came from."""
    while line := sys.stdin.buffer.readline():
        question = json.loads(line)
        if "ended" in question:
            pid, status = os.waitpid(question["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                return question
        print(json.dumps(answer), flush=True)
    sys.exit()


def become(server, parent):
    """Be this server, as if subprocess.Popen and setpriv had started it, until it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # which died before we were bound to it
        os.kill(os.getpid(), signal.SIGKILL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(server["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for source, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, number)
    os.close(nothing)
    os.close(log)
    os.chdir(server["cwd"])
    os.environ.clear()
    os.environ.update(server["environ"])
    sys.argv = server["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    gc.freeze()  # what is there by now is never garbage, and stays shared
    me = os.getpid()
    become(answer_questions(), me)
