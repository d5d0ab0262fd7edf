"""What a service counts and measures, for Prometheus: GET /metrics. One Metrics an application; nothing is global.

    metrics = Metrics("db0", in_flight)      requests by route, their durations, and this process: of every service
    metrics.add(measure)                     what this one has besides: measure() gives families at each scrape
    metrics.text(accept)                     (content type, the text) in the format that the scraper likes best

A label says the pattern of a route, `/rating/<tea>`, never a path: a tea's name is in none of them, and how many series
there are does not grow with what users do.
"""

import re
from bisect import bisect_left
from collections import Counter
from functools import partial
from threading import Lock
from time import perf_counter

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder

from emporium.tally import Sizes

METHODS = {"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
OPEN_METRICS = "application/openmetrics-text"
OTHER = "other"
ROUTE = "tea.route"
NO_ROUTE = "-"  # there is nothing at this path, or the request was refused before anyone looked
# A hop takes half a millisecond; the longest answers are those of requests that wait for something to come.
DURATIONS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)


class Metrics:
    """`in_flight`: () -> how many requests are being answered."""

    def __init__(self, service, in_flight):
        self._registry = CollectorRegistry()
        self._answers = {}  # {(pattern of the route or None, method, status line): the _Answers of this kind}
        ProcessCollector(registry=self._registry)
        self.add(partial(_of_every_service, service, in_flight))
        self.add(lambda: _of_requests(self._answers.copy().items()))

    def add(self, measure):
        """`measure` () -> families of prometheus_client, asked at each scrape, which it must not hold up."""
        self._registry.register(_Collector(measure))

    def text(self, accept):
        """(content type, body as bytes) for a scraper with this Accept header: OpenMetrics when it names it, else text.

        The library chooses among more, and fails on a version that is no number.
        """
        encode, content_type = choose_encoder(OPEN_METRICS if OPEN_METRICS in accept else "")
        return content_type, encode(self._registry)

    def measured(self, serve, environ, start_response):
        """serve(environ, start_response), a WSGI application that says in environ[ROUTE] which route it is, counted
        and timed."""
        status = "500"  # where it raises: the server says so then

        def start(line, *more):
            nonlocal status
            status = line
            return start_response(line, *more)

        began = perf_counter()
        try:
            return serve(environ, start)
        finally:
            kind = environ.get(ROUTE), environ["REQUEST_METHOD"], status
            answers = self._answers.get(kind) or self._answers_of(*kind)
            answers.add(perf_counter() - began)

    def _answers_of(self, rule, method, status):
        if method not in METHODS:  # a client may call its method as it likes
            method = OTHER
        return self._answers.setdefault((rule, method, status), _Answers())


class _Answers(Sizes):
    """How long the answers of one kind took, in seconds. Safe between threads.

    The Histogram and the Counter of prometheus_client do the same, at three times the cost for each request.
    """

    def __init__(self):
        super().__init__(DURATIONS_S)
        self._lock = Lock()

    def add(self, size):
        with self._lock:
            self._counts[bisect_left(self._bounds, size)] += 1
            self._sum += size


class _Collector:
    """What a registry asks at each scrape."""

    def __init__(self, measure):
        self.collect = measure


def _of_every_service(service, in_flight):
    yield InfoMetricFamily("tea_service", "Which service of the store this is.", {"service": service})
    yield gauge("tea_http_requests_in_flight", "Requests that are being answered now.", in_flight())


def _of_requests(answers):
    """`answers`: ((pattern of the route or None, method, status line), _Answers) of each kind."""
    counts, durations = Counter(), {}
    for (rule, method, status), took in answers:
        route = NO_ROUTE if rule is None else re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", rule)
        counts[method, route, status[:3]] += took.count
        durations.setdefault((method, route), Sizes(DURATIONS_S)).include(took)
    yield counters("tea_http_requests", "Requests that were answered.", ("method", "route", "status"), counts)
    what = "From when a request was there to when its answer was."
    yield histogram("tea_http_request_duration_seconds", what, ("method", "route"), durations)


# ---- families


def gauge(name, what, value):
    return GaugeMetricFamily(name, what, value)


def gauges(name, what, label, values):
    """`values`: {value of the label: number}."""
    family = GaugeMetricFamily(name, what, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def counter(name, what, value):
    return CounterMetricFamily(name, what, value)


def counters(name, what, labels, values):
    """`values`: {values of the labels, a tuple: number}."""
    family = CounterMetricFamily(name, what, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def histogram(name, what, labels, values):
    """`values`: {values of the labels, a tuple: tally.Sizes}."""
    family = HistogramMetricFamily(name, what, labels=labels)
    for each, sizes in values.items():
        family.add_metric(each, *sizes.buckets())
    return family
