"""What schemathesis does to each request before it goes out (test/schemathesis.toml).

No request asks a server to wait for long. And what OpenAPI has no words for, or only such as generate nothing, is made
right where all else is right: a request that says what it should must be accepted. Many of those go to few teas and
channels, so that they find something there.
"""

import base64
import zlib

import schemathesis

LONG_S = 0.05
FEW = {"tea": ["white-tea", "oolong", "a tea"], "channel": ["one", "t/w o", "three"]}
NO_SUMS = base64.b64encode(bytes(1024 * 8)).decode()


@schemathesis.hook
def before_call(context, case, **kwargs):
    for asked, name in ((case.query, "wait"), (case.body, "wait_s")):
        if isinstance(asked, dict) and is_long(asked.get(name)):
            asked[name] = LONG_S
    if not case.meta.generation.mode.is_positive:
        return
    for name, few in FEW.items():
        number = zlib.crc32(repr(case.path_parameters.get(name)).encode())
        if name in case.path_parameters and number % 4:
            case.path_parameters[name] = few[number % len(few)]
    if isinstance(case.body, dict):
        if case.path == "/replica/compare":
            case.body["sums"] = NO_SUMS
        for record in case.body.get("values", []) if case.path == "/replica/exchange" else []:
            pair_up(record)


def is_long(seconds):
    """Whether a server would wait for so long, be it a number or, in a query, its text."""
    try:
        return LONG_S < float(seconds) <= 30
    except (TypeError, ValueError):
        return False


def pair_up(record):
    """As many clocks as choices."""
    clocks = record["clocks"]
    clocks = clocks["CLOCK_LIST_XXX"] if isinstance(clocks, dict) else clocks
    del record["choices"][len(clocks) :], clocks[len(record["choices"]) :]
