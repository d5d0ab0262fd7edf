"""A stand-in for a stranger's load balancer in our tests, written from the assignment alone.

It knows the course's path only, and picks the primary with a hash that is deliberately not ours, since a shard
has to serve whatever key it is asked for. Nothing here comes from `emporium/`.

    python test/plain/plainLB.py '{"port": 2500, "ndb": 4, "db-base-port": 3000}'
"""

import hashlib
import json
import random
import sys
from urllib.parse import quote

import requests
from flask import Flask, Response, abort, request

config = {"id": 0, "port": 2500, "ndb": 1, "db-base-port": 3000}
if len(sys.argv) > 1:
    config.update(json.loads(sys.argv[1]))

app = Flask(__name__)


def primary(tea):
    """The instance that this tea belongs to: all its writes and strong reads go there."""
    return int(hashlib.md5(tea.encode()).hexdigest(), 16) % config["ndb"]


def url_of(instance, tea):
    return f"http://localhost:{config['db-base-port'] + instance}/rating/{quote(tea, safe='')}"


def pass_on(res):
    """What the database instance answered, as our own answer."""
    return Response(res.content, res.status_code, content_type=res.headers.get("Content-Type"))


@app.put("/rating/<tea>")
def put_rating(tea):
    if request.headers.get("Content-Type") != "application/json":
        abort(415)
    data = request.get_json()
    res = requests.put(
        url_of(primary(tea), tea),
        headers={"Accept": "application/json", "Content-type": "application/json"},
        data=json.dumps({"rating": data["rating"], "clock": data["clock"]}),
    )
    return pass_on(res)


@app.get("/rating/<tea>")
def get_rating(tea):
    is_weak = request.args.get("consistency") == "weak"
    instance = random.randrange(config["ndb"]) if is_weak else primary(tea)
    return pass_on(requests.get(url_of(instance, tea), headers={"Accept": "application/json"}))


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=config["port"], threaded=False)
