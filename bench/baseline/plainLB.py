"""The load balancer of the baseline: the tea's shard from a hash of its name, a weak read at any shard.

python bench/baseline/plainLB.py '{"port": 2500, "ndb": 4, "db-base-port": 3000}'
"""

import hashlib
import json
import random
import sys

import requests
from flask import Flask, request

config = {"id": 0, "port": 2500, "ndb": 1, "db-base-port": 3000}
if len(sys.argv) > 1:
    config.update(json.loads(sys.argv[1]))

JSON = {"Accept": "application/json", "Content-type": "application/json"}

app = Flask(__name__)


def shard_of(tea):
    return int(hashlib.sha1(tea.encode()).hexdigest(), 16) % config["ndb"]


def url_at(shard, tea):
    return f"http://localhost:{config['db-base-port'] + shard}/rating/{tea}"


@app.route("/rating/<tea>", methods=["PUT"])
def put_rating(tea):
    given = request.get_json()
    data = json.dumps({"rating": given["rating"], "clock": given["clock"]})
    answer = requests.put(url_at(shard_of(tea), tea), headers=JSON, data=data)
    return answer.json(), answer.status_code


@app.route("/rating/<tea>", methods=["GET"])
def get_rating(tea):
    is_weak = request.args.get("consistency") == "weak"
    shard = random.randrange(config["ndb"]) if is_weak else shard_of(tea)
    answer = requests.get(url_at(shard, tea), headers=JSON)
    return answer.json(), answer.status_code


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=config["port"], threaded=True)
