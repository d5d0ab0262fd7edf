"""How a running cluster is, in one dict: what `./tea watch` shows.

    look = Looker(note); state = look()        {"at", "lb": {...}, "queue": {...}, "shards": [...], "redis": [...]}

Every service is asked at once, over the HTTP that anybody may use, and has a second to answer. `state` of each is
up, slow, down, and of a shard also recovering or fenced; `note` says in words what is amiss, or is None. What a service
does not tell, as the servers of strangers do not, is None.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import redis

from emporium.failures import BadAnswer, NotReached, PeerError
from emporium.peers import Peer

ASK_S = 1.0
SLOW_MS = 250
REQUESTS = re.compile(r"^tea_http_requests_total(\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE)
OF_ONLOOKERS = re.compile(r'"/(status|metrics|trace|healthz|readyz|openapi\.json|channels)"')  # asked by such as us


class Looker:
    """Asks the services of one cluster, again and again. Blocks for about a second at most when one hangs."""

    def __init__(self, note, now=time.monotonic):
        self._note = note
        self._now = now
        self._pool = ThreadPoolExecutor(max_workers=len(note.services), thread_name_prefix="look")
        self._peers = {
            service.name: Peer(service.name, "127.0.0.1", service.port, ASK_S)
            for service in note.services
            if not is_redis(service)
        }
        self._counted = {}  # {name: (requests, when)} at the last look

    def __call__(self):
        """The state now."""
        found = dict(self._pool.map(self._ask, self._note.services))
        shards = [found[f"db{index}"] for index in range(self._note.ndb)]
        return {
            "at": time.time(),
            "ndb": self._note.ndb,
            "lb": found["lb"],
            "queue": found["q"],
            "shards": shards,
            "redis": [found[f"r{index}"] for index in range(self._note.ndb)],
        }

    def close(self):
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, service):
        ask = _ask_redis if is_redis(service) else self._ask_ours
        return service.name, {"name": service.name, "url": service.url, **ask(service)}

    def _ask_ours(self, service):
        peer, began = self._peers[service.name], self._now()
        try:
            answer = peer.call("GET", "/status")
            told = answer.read() if answer.is_ok else {}
        except BadAnswer:
            told = {}
        except PeerError as error:
            return in_trouble(error, psutil.pid_exists(service.pid))
        answer_ms = (self._now() - began) * 1000
        told = told if isinstance(told, dict) else {}
        common = answered(told, answer_ms) | {"requests_per_s": self._rate(service.name, peer)}
        if service.name == "q":
            return common | {"durable": told.get("durable"), "channels": _channels(peer)}
        if service.name == "lb":
            return common
        return common | {
            "keys": told.get("keys"),
            "digest": told.get("digest"),
            "digest_length": told.get("digest-length"),
            "due": told.get("due"),
            "lag_s": told.get("lag-s"),
            "epoch": told.get("epoch"),
            "breakers": told.get("breakers") or {},
        }

    def _rate(self, name, peer):
        """Requests a second since the last look; None at the first, and where nobody counts them."""
        try:
            answer = peer.call("GET", "/metrics")
        except PeerError:
            return None
        if not answer.is_ok:
            return None
        count, when = requests_in(answer.body.decode(errors="replace")), self._now()
        before, self._counted[name] = self._counted.get(name), (count, when)
        return rate(before, (count, when))


def is_redis(service):
    return service.url.startswith("redis:")


def answered(told, answer_ms):
    """State, note and answer time of one that answered. `told` is what its /status said."""
    memory = told.get("state")
    state, note = "up", None
    if isinstance(memory, str) and memory != "serving":
        word, _colon, why = memory.partition(": ")
        state, note = ("fenced" if word == "fenced" else "recovering"), why or word
    elif told.get("trouble"):
        note = str(told["trouble"])
    elif answer_ms > SLOW_MS:
        state, note = "slow", f"answered after {answer_ms:.0f} ms"
    return {"state": state, "note": note, "answer_ms": round(answer_ms, 1)}


def in_trouble(error, is_alive):
    """The same of one that did not. It is slow, not down, as long as its process is there and takes connections."""
    is_slow = is_alive and not isinstance(error, NotReached)
    return {"state": "slow" if is_slow else "down", "note": _trouble(error), "answer_ms": None}


def requests_in(metrics):
    """How many requests this text of Prometheus counts, those of onlookers left out."""
    return sum(float(count) for labels, count in REQUESTS.findall(metrics) if not OF_ONLOOKERS.search(labels or ""))


def rate(before, now):
    """Requests a second between two (count, when); None without the first, and when the count began anew."""
    if before is None or now[0] < before[0] or now[1] <= before[1]:
        return None
    return round((now[0] - before[0]) / (now[1] - before[1]), 1)


def _channels(peer):
    """[{"name", "depth", "oldest_age_s"}], by name; of a plain queue, which cannot tell, none."""
    try:
        told = peer.call("GET", "/channels").read().get("channels", {})
        return [
            {"name": name, "depth": each.get("waiting"), "oldest_age_s": each.get("oldest_age_s")}
            for name, each in sorted(told.items())
        ]
    except (PeerError, AttributeError):
        return []


def _ask_redis(service):
    began = time.monotonic()
    client = redis.Redis(port=service.port, socket_timeout=ASK_S, socket_connect_timeout=ASK_S, retry=None)
    try:
        with client:
            keys = client.dbsize()
    except redis.TimeoutError:
        is_alive = psutil.pid_exists(service.pid)
        return {"state": "slow" if is_alive else "down", "note": "did not answer", "answer_ms": None, "keys": None}
    except redis.BusyLoadingError:
        return {"state": "slow", "note": "reads its files", "answer_ms": None, "keys": None}
    except redis.RedisError as error:
        return {"state": "down", "note": str(error), "answer_ms": None, "keys": None}
    return {"state": "up", "note": None, "answer_ms": round((time.monotonic() - began) * 1000, 1), "keys": keys}


def _trouble(error):
    """What went wrong, without the name and address that stand beside it."""
    words = str(error)
    return re.sub(r"^\S+ at \S+ ", "", words)
