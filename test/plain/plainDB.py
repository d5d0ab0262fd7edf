"""A stand-in for a stranger's shard in our tests: the assignment's gossip algorithm, to the letter and no more.

It knows the course's paths only, talks to Redis in single calls, keeps its digest in memory and sends gossip with
the course's queue client. Nothing here comes from `emporium/`; the clock is the one that the course gave.

    python test/plain/plainDB.py '{"id": 2, "hostport": 3002, "servers": [{"host": "localhost", "port": 5557}]}'
"""

import json
import sys
from pathlib import Path

import redis
from flask import Flask, abort, request

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the project root, for vectorclock.py

from plainqueueclient import Queue

from vectorclock import VectorClock

config = {"id": 0, "hostport": 3000, "servers": [{"host": "localhost", "port": 6379}]}
config.update({"ndb": 1, "qport": 6000, "digest-length": 1})
if len(sys.argv) > 1:
    config.update(json.loads(sys.argv[1]))

ndb = config["ndb"]
my_name = f"db{config['id']}"  # also the channel on which I send
neighbour = f"db{(config['id'] - 1) % ndb}"  # the channel on which I receive

app = Flask(__name__)
client = redis.Redis(host=config["servers"][0]["host"], port=config["servers"][0]["port"])
queue = Queue(config["qport"])
digest_list = []


def read_from_redis(tea):
    rating, choices, clocks = (client.hget("/rating/" + tea, field) for field in ("rating", "choices", "clocks"))
    if rating is None:
        return 0.0, [], []
    return json.loads(rating), json.loads(choices), to_clocks(json.loads(clocks))


def write_to_redis(tea, rating, choices, clocks):
    client.hset("/rating/" + tea, "rating", json.dumps(rating))
    client.hset("/rating/" + tea, "choices", json.dumps(choices))
    client.hset("/rating/" + tea, "clocks", json.dumps(to_dicts(clocks)))


def to_clocks(clocks):
    return [clock if isinstance(clock, VectorClock) else VectorClock.fromDict(clock) for clock in clocks]


def to_dicts(clocks):
    return [clock.asDict() for clock in clocks]


def merge_one(choices, clocks, choice, clock):
    """Choices and clocks with one more of each. It is left out if older, and drives out those that it is newer than."""
    pairs = list(zip(choices, clocks, strict=True))
    if (choice, clock) in pairs or any(clock < old for old in clocks):
        return choices, clocks
    pairs = [(old_choice, old) for old_choice, old in pairs if not old < clock] + [(choice, clock)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def merge(primary, tea, new_choices, new_clocks):
    """Merge them one by one with what Redis holds, save the result and append it to the digest. Gives the rating."""
    rating, choices, clocks = read_from_redis(tea)
    for choice, clock in zip(new_choices, new_clocks, strict=True):
        choices, clocks = merge_one(choices, clocks, choice, clock)
    if choices:
        rating = sum(choices) / len(choices)
        write_to_redis(tea, rating, choices, clocks)
    if ndb > 1:
        digest_list.append({"primary": primary, "key": tea, "rating": rating, "choices": choices, "clocks": clocks})
        if len(digest_list) >= config["digest-length"]:
            for record in digest_list:
                queue.put(my_name, record)
            digest_list.clear()
    return rating


def check_gossip():
    while ndb > 1 and (record := queue.get(neighbour)):
        if record["primary"] != my_name:
            # Clocks come as VectorClocks, or as plain dicts if the sender did not use the course's queue client.
            merge(record["primary"], record["key"], record["choices"], to_clocks(record["clocks"]))


@app.put("/rating/<tea>")
def put_rating(tea):
    if request.headers.get("Content-Type") != "application/json":
        abort(415)
    data = request.get_json()
    rating = merge(my_name, tea, [data["rating"]], [VectorClock.fromDict(data["clock"])])
    check_gossip()
    return {"rating": rating}


@app.get("/rating/<tea>")
def get_rating(tea):
    check_gossip()
    rating, choices, clocks = read_from_redis(tea)
    return {"rating": rating, "choices": choices, "clocks": to_dicts(clocks)}


if __name__ == "__main__":
    # One request at a time: reading, merging and writing a tea must not mix with another request's.
    app.run(host="127.0.0.1", port=config["hostport"], threaded=False)
