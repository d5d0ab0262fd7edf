"""A shard of the baseline: merges and stores in Redis, gossips through the queue one message a call.

    python bench/baseline/plainDB.py '{"id": 2, "hostport": 3002, "servers": [{"host": "localhost", "port": 5557}]}'

One request at a time goes through a shard: the digest and the read-merge-write on a tea must not mix with another's.
"""

import json
import sys
import threading
from pathlib import Path

import redis
import requests
from flask import Flask, request

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for vectorclock.py

from vectorclock import VectorClock

config = {"id": 0, "hostport": 3000, "servers": [{"host": "localhost", "port": 6379}]}
config.update({"ndb": 1, "qport": 6000, "digest-length": 1})
if len(sys.argv) > 1:
    config.update(json.loads(sys.argv[1]))

ndb = config["ndb"]
me = f"db{config['id']}"
before_me = f"db{(config['id'] - 1) % ndb}"
JSON = {"Accept": "application/json", "Content-type": "application/json"}

app = Flask(__name__)
store = redis.Redis(host=config["servers"][0]["host"], port=config["servers"][0]["port"])
turn = threading.Lock()
digest_list = []


# ---- the queue


def put_in_queue(channel, message):
    requests.put(f"http://localhost:{config['qport']}/q/{channel}", headers=JSON, data=json.dumps(message))


def get_from_queue(channel):
    return requests.get(f"http://localhost:{config['qport']}/q/{channel}", headers=JSON).json()


# ---- Redis


def load(tea):
    """(rating, choices, clocks) as stored."""
    saved = store.hgetall(f"/rating/{tea}")
    if not saved:
        return 0.0, [], []
    clocks = [VectorClock.fromDict(clock) for clock in json.loads(saved[b"clocks"])]
    return json.loads(saved[b"rating"]), json.loads(saved[b"choices"]), clocks


def save(tea, rating, choices, clocks):
    fields = {"rating": rating, "choices": choices, "clocks": as_dicts(clocks)}
    store.hset(f"/rating/{tea}", mapping={name: json.dumps(value) for name, value in fields.items()})


def as_dicts(clocks):
    return [clock.asDict() for clock in clocks]


# ---- merge and gossip


def merge_one(choices, clocks, choice, clock):
    """Choices and clocks after one more rating: nothing of it when it is older, nothing of what is older than it."""
    known = list(zip(choices, clocks, strict=True))
    if any(clock < other for other in clocks) or (choice, clock) in known:
        return choices, clocks
    kept = [pair for pair in known if not pair[1] < clock]
    return [pair[0] for pair in kept] + [choice], [pair[1] for pair in kept] + [clock]


def merge(primary, tea, new_choices, new_clocks):
    """Merge these with what is stored, store that, and remember it for gossip. The new rating."""
    rating, choices, clocks = load(tea)
    for choice, clock in zip(new_choices, new_clocks, strict=True):
        choices, clocks = merge_one(choices, clocks, choice, clock)
    if choices:
        rating = sum(choices) / len(choices)
        save(tea, rating, choices, clocks)
    remember({"primary": primary, "key": tea, "rating": rating, "choices": choices, "clocks": as_dicts(clocks)})
    return rating


def remember(message):
    """Append it to the digest, and send a digest that is full."""
    if ndb == 1:
        return
    digest_list.append(message)
    if len(digest_list) >= config["digest-length"]:
        for each in digest_list:
            put_in_queue(me, each)
        digest_list.clear()


def check_gossip():
    """Merge what waits in the channel of the shard before this one."""
    while ndb > 1 and (message := get_from_queue(before_me)):
        if message["primary"] != me:
            clocks = [VectorClock.fromDict(clock) for clock in message["clocks"]]
            merge(message["primary"], message["key"], message["choices"], clocks)


# ---- over HTTP


@app.route("/rating/<tea>", methods=["PUT"])
def put_rating(tea):
    given = request.get_json()
    with turn:
        rating = merge(me, tea, [given["rating"]], [VectorClock.fromDict(given["clock"])])
        check_gossip()
    return {"rating": rating}


@app.route("/rating/<tea>", methods=["GET"])
def get_rating(tea):
    with turn:
        check_gossip()
        rating, choices, clocks = load(tea)
    return {"rating": rating, "choices": choices, "clocks": as_dicts(clocks)}


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=config["hostport"], threaded=True)
