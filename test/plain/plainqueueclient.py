"""A stand-in for the course's own queue client, used by plainDB.py, the stranger's shard in our tests.

It opens a new connection for each call and wraps every list of clocks as {"CLOCK_LIST_XXX": [{...}, ...]} on the
wire, as the course's client does. A list of clocks that comes without that tag is handed out as it came, as dicts.
Whoever imports it has the project root on sys.path, where the course's vectorclock.py lies.
"""

import json

import requests

from vectorclock import VectorClock

CLOCK_LIST_TAG = "CLOCK_LIST_XXX"


class Queue:
    def __init__(self, qport):
        self.base_url = f"http://localhost:{qport}/q/"

    def put(self, channel, message):
        """Put a dict on the channel. VectorClocks in it must be in lists."""
        res = requests.put(
            self.base_url + channel,
            headers={"Accept": "application/json", "Content-type": "application/json"},
            data=json.dumps({name: wrap(value) for name, value in message.items()}),
        )
        res.raise_for_status()

    def get(self, channel):
        """The first dict on the channel, which is removed; None if there is none."""
        res = requests.get(self.base_url + channel, headers={"Accept": "application/json"})
        res.raise_for_status()
        message = res.json()
        if not message:
            return None
        return {name: unwrap(value) for name, value in message.items()}


def wrap(value):
    if isinstance(value, list) and any(isinstance(item, VectorClock) for item in value):
        return {CLOCK_LIST_TAG: [clock.asDict() for clock in value]}
    return value


def unwrap(value):
    if isinstance(value, dict) and CLOCK_LIST_TAG in value:
        return [VectorClock.fromDict(clock) for clock in value[CLOCK_LIST_TAG]]
    return value
