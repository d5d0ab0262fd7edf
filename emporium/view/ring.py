"""Where the services of the ring are, and one question to each: how are you, and what has happened since?

Nothing here is more than anybody may ask: the services' public HTTP, and DBSIZE of each Redis.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from emporium import wire
from emporium.failures import BadAnswer, PeerError
from emporium.peers import Peer
from emporium.requestid import in_this_request
from emporium.view.asked import Asked, answered, silent

ASK_S = 0.8  # a first page waits for this at most: all services are asked at once
CONNECT_S = 0.25
STORE_S = 3.0  # for the load balancer, which gives itself 2 s
LIST_S = 12.0  # and 10 s for a list
MOST_AT_ONCE = 64
AT_HOME = "127.0.0.1"


class Ring:
    """The services, by the ports of ViewSettings. Safe between threads."""

    def __init__(self, settings, traces=None):
        """traces  asked for the new events of a service that answered: `traces.news(peer)`; None for no events"""
        self.ndb = settings.ndb
        self.lb = Peer("lb", AT_HOME, settings.lb_port, ASK_S, connections=4)
        self.queue = Peer("q", AT_HOME, settings.qport, ASK_S, connections=4)
        self.shards = [
            Peer(f"db{index}", AT_HOME, settings.db_base_port + index, ASK_S, connections=4)
            for index in range(settings.ndb)
        ]
        self.redis = [_redis(settings.redis_base_port + index) for index in range(settings.ndb)]
        self._traces = traces
        everyone = 2 * settings.ndb + 2
        self._at_once = ThreadPoolExecutor(min(everyone, MOST_AT_ONCE), thread_name_prefix="ask")

    @property
    def peers(self):
        """Those that speak HTTP, in the order in which they are listed."""
        return [self.lb, *self.shards, self.queue]

    def ask_all(self, with_events=False):
        """{name: Asked} of every service, all asked at once: within a second."""
        asked = {peer.name: self._at_once.submit(self._ask, peer, with_events) for peer in self.peers}
        asked |= {f"r{index}": self._at_once.submit(_ask_redis, client) for index, client in enumerate(self.redis)}
        return {name: each.result() for name, each in asked.items()}

    def forget_events(self):
        """Those of a service that have happened until it is next asked are not new then."""
        if self._traces:
            self._traces.forget()

    def of_all(self, ask, peers):
        """[ask(peer) of each of these], all asked at once. `ask` raises nothing."""
        return list(self._at_once.map(in_this_request(ask), peers))

    def _ask(self, peer, with_events):
        began_s = time.monotonic()
        try:
            answer = peer.call("GET", "/status")
            answer_ms = ms_since(began_s)
            told = told_by(answer)
            if told is None:
                return answered(answer_ms, {}, "it does not tell how it is, as a plain course server does not")
            if peer is self.queue:
                told["all-channels"] = (told_by(peer.call("GET", "/channels")) or {}).get("channels", {})
        except PeerError as error:
            return silent(peer, error)
        news = self._traces.news(peer) if with_events and self._traces else ((), 0)
        return answered(answer_ms, told, told.get("trouble"), *news)


def told_by(answer):
    """The JSON object of an Answer that is well; None of any other."""
    if not answer.is_ok:
        return None
    try:
        return answer.read(wire.decode_object)
    except BadAnswer:
        return None


def ms_since(began_s):
    return round(1e3 * (time.monotonic() - began_s), 1)


def _redis(port):
    return redis.Redis(
        host=AT_HOME,
        port=port,
        socket_timeout=ASK_S,
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 0),
    )


def _ask_redis(client):
    began_s = time.monotonic()
    try:
        keys = client.dbsize()
    except redis.TimeoutError:
        return Asked("slow", f"it did not answer within {ASK_S} s")
    except redis.ConnectionError as error:
        return Asked("down", f"it cannot be reached: {error}")
    except redis.RedisError as error:  # it loads its data, wants a password, ...
        return Asked("slow", str(error))
    return answered(ms_since(began_s), {"keys": keys})
