"""The OpenAPI descriptions say what the services do: all of it, in valid OpenAPI 3.1, and so that schemathesis, which
drives the real processes by them, is never answered in a way that they do not tell.

--key repeats a run. With --full each service is asked ten times as often, and boundary values, methods that a path does
not have and missing fields are tried one by one.
"""

import json
import math
import re
import subprocess
import sys
import zlib
from types import SimpleNamespace

import pytest
from asking import ask, assert_answers

import serverDB
import serverLB
import serverLog
import serverQ
import serverView
from emporium import redisbinary, replicaroutes, settings, web
from emporium.cluster import START_S, Cluster, guarded_options, python_service
from emporium.environment import ROOT
from emporium.ports import Ports
from emporium.service import stop_these

KINDS = ["lb", "db", "q", "log", "view"]
METHODS = {"get", "put", "post", "delete", "patch"}
CASES, FULL_CASES = 200, 2000
MOST_S = 3600


def description(kind):
    return json.loads(web.description_of(kind))


def operations(kind):
    """[(path, method, operation), ...]"""
    paths = description(kind)["paths"].items()
    return [(path, method, item[method]) for path, item in paths for method in item if method in METHODS]


# ---- the files


def app_of(kind, folder):
    """The application with all routes that it can have."""
    match kind:
        case "lb":
            return serverLB.create_app(settings.LBSettings(view_port=8000))
        case "q":
            return serverQ.create_app(settings.QSettings(lab=True))
        case "view":
            return serverView.create_app(settings.ViewSettings())
        case "log":
            return serverLog.create_app(settings.LogSettings(data_dir=str(folder)))
    app = serverDB.create_app(settings.DBSettings(lab=True))
    replicaroutes.add(app, SimpleNamespace(shard=SimpleNamespace(store=None)), None, None)
    return app


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_lists_exactly_what_the_service_serves(kind, tmp_path):
    app = app_of(kind, tmp_path)
    app.at_stop()
    app.at_end()

    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert {each[:2] for each in operations(kind)} == served


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_is_valid_openapi(kind):
    from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(description(kind))] == []
    assert description(kind)["openapi"].startswith("3.1.")


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_is_one_of_what_it_stands_for(kind):
    from jsonschema_rs import Draft202012Validator

    whole = description(kind)
    checked = 0
    for where, schema, example in examples(whole):
        validator = Draft202012Validator({"allOf": [schema], "components": whole["components"]})
        assert validator.is_valid(example), f"{where}: {example}"
        checked += 1
    assert checked > 10


def examples(within, where=""):
    """[(where it is, the schema, the example), ...] of all that have a schema beside them."""
    if isinstance(within, list):
        for index, each in enumerate(within):
            yield from examples(each, f"{where}[{index}]")
    if not isinstance(within, dict):
        return
    if "schema" in within and "example" in within:
        yield where, within["schema"], within["example"]
    if isinstance(within.get("examples"), list):
        schema = {name: value for name, value in within.items() if name != "examples"}
        for example in within["examples"]:
            yield where, schema, example
    for name, each in within.items():
        if name not in ("example", "examples"):
            yield from examples(each, f"{where}.{name}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_says_whose_it_is_and_has_a_name_of_its_own(kind):
    tags = {tag["name"] for tag in description(kind)["tags"]}
    names = [operation["operationId"] for _, _, operation in operations(kind)]

    assert len(names) == len(set(names))
    for path, method, operation in operations(kind):
        assert len(operation["tags"]) == 1, f"{method} {path}"
        assert operation["tags"][0] in tags, f"{method} {path}"
        assert operation["summary"], f"{method} {path}"
        assert operation["description"], f"{method} {path}"


def test_the_paths_of_the_course_are_those_that_the_course_has():
    found = {kind: {each[:2] for each in operations(kind) if each[2]["tags"] == ["the course's"]} for kind in KINDS}

    rating = {("/rating/{tea}", method) for method in ("get", "put", "delete")}
    queue = {("/q/{channel}", "get"), ("/q/{channel}", "put"), ("/clear", "delete")}
    assert found == {"lb": rating, "db": rating, "q": queue, "log": set(), "view": set()}


# ---- the services


@pytest.fixture(scope="module")
def services(run_folder):
    """{kind: a Service}, of a ring of two that has all that there is, and a log."""
    folder = run_folder / "openapi"
    folder.mkdir()
    traced = {"trace": 1000, "lab": True}
    ring = Cluster(
        Ports.find_free(2),
        2,
        2,
        folder,
        lambda name: folder / f"{name}.log",
        redisbinary.find_or_install(),
        queue_options={"data-dir": str(folder / "q"), **traced},
        balancer_options={"trace": 1000},
        shard_options=lambda index: {**guarded_options(folder / f"db{index}"), **traced, "gossip-ids": True},
        view_options={},
    )
    port = Ports.find_free(1).lb
    log_settings = {"port": port, "data-dir": str(folder / "log")}
    log = python_service("log", "serverLog.py", port, lambda name: folder / f"{name}.log", log_settings)
    with ring:
        ring.start_these([log])
        try:
            assert ring.wait_until_ready(START_S)
            yield {"lb": ring.load_balancer, "db": ring.shards[0], "q": ring.queue, "log": log, "view": ring.view}
        finally:
            stop_these([log])


@pytest.fixture(scope="module")
def driven(services, request, tmp_path_factory):
    """{kind: (how many requests schemathesis made, what it found, "" for nothing)}."""
    folder = tmp_path_factory.mktemp("schemathesis")
    wanted = FULL_CASES if request.config.getoption("--full") else CASES
    phases = "examples,coverage,fuzzing" if request.config.getoption("--full") else "examples,fuzzing"
    seed = zlib.crc32(request.config.getoption("--key").encode())

    def arguments(kind):
        count = len(operations(kind))
        each = math.ceil(1.2 * (wanted - count) / count)  # beside its example; some are not sent twice
        return [
            *("--config-file", "test/schemathesis.toml", "--no-color", "run", f"{services[kind].url}/openapi.json"),
            *("--seed", str(seed), "--phases", phases, "--max-examples", str(each)),
            *("--report", "json", "--report-json-path", str(folder / f"{kind}.json")),
        ]

    command = [sys.executable, "test/openapidriver.py", json.dumps({kind: arguments(kind) for kind in KINDS}), folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_S, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {kind: found_in(folder, kind) for kind in KINDS}


def found_in(folder, kind):
    said, _, code = (folder / f"{kind}.txt").read_text().rstrip().rpartition("\n")
    cases = json.loads((folder / f"{kind}.json").read_text())["test_cases"]["generated"]
    return cases, "" if code == "0" else said


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_is_undocumented_whatever_is_asked(kind, services, driven, run_folder, request):
    service = services[kind]

    cases, failures = driven[kind]

    assert not failures, f"with --key {request.config.getoption('--key')}:\n{failures}"
    assert cases >= (FULL_CASES if request.config.getoption("--full") else CASES)
    assert_answers(ask(service.port, "GET", "/healthz"), {"service": service.name, "pid": service.process.pid})
    assert_no_error_of_ours(run_folder / "openapi" / f"{service.name}.log")


def assert_no_error_of_ours(log):
    """Its log holds no error but those about gossip that makes no sense."""
    lines = log.read_text().splitlines()
    assert not [line for line in lines if "Traceback" in line or (" ERROR " in line and "set aside" not in line)]
