"""A stand-in for a stranger's queue server in our tests, written from the assignment alone.

It knows three paths, the course's, and keeps its channels in memory. Nothing here comes from `emporium/`, so that
what works with it works with the queue that the course gave out.

    python test/plain/plainQ.py '{"port": 6000}'
"""

import json
import sys

from flask import Flask, abort, request

config = {"id": 0, "port": 6000, "nq": 1, "ndb": 1}
if len(sys.argv) > 1:
    config.update(json.loads(sys.argv[1]))

app = Flask(__name__)
channels = {}  # channel name -> list of the waiting messages, oldest first


@app.put("/q/<channel>")
def put_message(channel):
    if request.headers.get("Content-Type") != "application/json":
        abort(415)
    message = request.get_json()
    if not isinstance(message, dict):
        abort(400)
    waiting = channels.setdefault(channel, [])
    waiting.append(message)
    return {"channel": channel, "length": len(waiting)}


@app.get("/q/<channel>")
def get_message(channel):
    waiting = channels.get(channel)
    return waiting.pop(0) if waiting else {}


@app.delete("/clear")
def clear():
    counts = {channel: len(waiting) for channel, waiting in channels.items()}
    for waiting in channels.values():
        waiting.clear()
    return counts


if __name__ == "__main__":
    # One request at a time, so that no two of them touch a channel at once.
    app.run(host="127.0.0.1", port=config["port"], threaded=False)
