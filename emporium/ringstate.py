"""How a running cluster is, as its view shows it (emporium/view/snapshot.py), for `./tea watch`.

    look = Looker(note); state = look()        STATE of docs/protocol.md, and `requests_per_s` of lb and queue, too

The services are asked over the HTTP that anybody may use, all at once, within about a second.
"""

import re
import time

from emporium.failures import PeerError
from emporium.settings import ViewSettings
from emporium.view.ring import Ring
from emporium.view.snapshot import Places, state_of

REQUESTS = re.compile(r"^tea_http_requests_total(\{.*\})? ([0-9.e+]+)$", re.MULTILINE)
OF_ONLOOKERS = re.compile(r'route="/(status|metrics|trace|healthz|readyz|channels|openapi\.json)"')  # such as we


class Looker:
    """Looks at one cluster, again and again. Asks with `now` what time it is, in seconds of any beginning."""

    def __init__(self, note, now=time.monotonic):
        ports = {service.name: service.port for service in note.services}
        settings = ViewSettings(
            ndb=note.ndb,
            lb_port=ports["lb"],
            qport=ports["q"],
            db_base_port=ports["db0"],
            redis_base_port=ports["r0"],
        )
        self._ring = Ring(settings)
        self._places = Places({peer.name: peer.url for peer in self._ring.peers}, note.ndb, False)
        self._now = now
        self._counted = {}  # {service: (requests, when)}, at the last look

    def __call__(self):
        """The state now."""
        asked = self._ring.ask_all()
        answering = [peer for peer in self._ring.peers if asked[peer.name].answer_ms is not None]
        before, self._counted = self._counted, {}
        counts = self._ring.of_all(lambda peer: count_of(peer, asked[peer.name].told), answering)
        for peer, count in zip(answering, counts, strict=True):
            self._counted[peer.name] = count, self._now()
        rates = {name: rate(before.get(name), counted) for name, counted in self._counted.items()}
        state = state_of(0, time.time(), self._places, asked, rates)
        state["lb"]["requests_per_s"] = rates.get("lb")
        state["queue"]["requests_per_s"] = rates.get("q")
        return state


def count_of(peer, told):
    """How much it has done: operations on teas, where its status tells them, as the view shows them; else requests."""
    operations = told.get("operations")
    return operations if isinstance(operations, int) else requests_of(peer)


def requests_of(peer):
    """How many requests the service has answered; None when it does not tell."""
    try:
        answer = peer.call("GET", "/metrics", headers=["Accept: text/plain"])
    except PeerError:
        return None
    return requests_in(answer.body.decode(errors="replace")) if answer.is_ok else None


def requests_in(metrics):
    """How many requests this text of Prometheus counts, those of onlookers left out; None when it counts none."""
    found = REQUESTS.findall(metrics)
    return sum(float(count) for labels, count in found if not OF_ONLOOKERS.search(labels)) if found else None


def rate(before, now):
    """Requests a second between two (count, when); None without the first, and when the count began anew."""
    if before is None or before[0] is None or now[0] is None or now[0] < before[0] or now[1] <= before[1]:
        return None
    return round((now[0] - before[0]) / (now[1] - before[1]), 1)
