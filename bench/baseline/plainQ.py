"""The queue of the baseline: named lists in memory, one message a call.

python bench/baseline/plainQ.py '{"port": 6000}'
"""

import json
import sys
from collections import deque

from flask import Flask, request

config = {"id": 0, "port": 6000, "nq": 1, "ndb": 1}
if len(sys.argv) > 1:
    config.update(json.loads(sys.argv[1]))

app = Flask(__name__)
channels = {}  # {name: messages, oldest first}


@app.route("/q/<channel>", methods=["PUT"])
def put(channel):
    waiting = channels.setdefault(channel, deque())
    waiting.append(request.get_json())
    return {"channel": channel, "length": len(waiting)}


@app.route("/q/<channel>", methods=["GET"])
def get(channel):
    try:
        return channels[channel].popleft()
    except (KeyError, IndexError):  # nothing waits, or another thread was first
        return {}


@app.route("/clear", methods=["DELETE"])
def clear():
    waited = {name: len(waiting) for name, waiting in channels.items()}
    for waiting in channels.values():
        waiting.clear()
    return waited


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=config["port"], threaded=True)
