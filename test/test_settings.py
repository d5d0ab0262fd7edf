"""The settings of the three servers: the course's names and defaults, and what is said about all others."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from emporium.settings import DBSettings, LBSettings, QSettings, RedisAddress, names_of, read
from emporium.wire import encode

PROJECT = Path(__file__).resolve().parent.parent
START_S = 20

# The course's table: for each setting its name here, its default, and another value.
COURSE = [
    (LBSettings, "id", "id", 0, 1),
    (LBSettings, "port", "port", 2500, 12500),
    (LBSettings, "ndb", "ndb", 1, 4),
    (LBSettings, "db-base-port", "db_base_port", 3000, 13000),
    (LBSettings, "logfile", "logfile", None, "var/lb.log"),
    (DBSettings, "id", "id", 0, 3),
    (DBSettings, "hostport", "hostport", 3000, 3003),
    (DBSettings, "servers", "servers", [{"host": "localhost", "port": 6379}], [{"host": "r", "port": 5558}]),
    (DBSettings, "ndb", "ndb", 1, 4),
    (DBSettings, "qport", "qport", 6000, 16000),
    (DBSettings, "digest-length", "digest_length", 1, 2),
    (DBSettings, "baseDBport", "base_db_port", 3000, 13000),
    (DBSettings, "logfile", "logfile", None, "var/db3.log"),
    (QSettings, "id", "id", 0, 1),
    (QSettings, "port", "port", 6000, 16000),
    (QSettings, "nq", "nq", 1, 2),
    (QSettings, "ndb", "ndb", 1, 4),
]
SERVERS = [(LBSettings, "port"), (DBSettings, "hostport"), (QSettings, "port")]


def name_of_case(value):
    return value.__name__ if isinstance(value, type) else None


def settings_of(shape, environ=None, port_name="port", **given):
    """(settings, warnings) of a server that is started with these settings; '_' stands for '-' in their names."""
    text = encode({name.replace("_", "-"): value for name, value in given.items()})
    return read(shape, text, port_name, environ or {})


def plain(value):
    """A setting as JSON would show it."""
    if isinstance(value, tuple):
        return [{"host": address.host, "port": address.port} for address in value]
    return value


# ---- the course's table


@pytest.mark.parametrize(("shape", "name", "attribute", "default", "other"), COURSE, ids=name_of_case)
def test_the_defaults_are_those_of_the_course(shape, name, attribute, default, other):
    made, warnings = read(shape, None, environ={})

    assert plain(getattr(made, attribute)) == default
    assert warnings == []


@pytest.mark.parametrize(("shape", "name", "attribute", "default", "other"), COURSE, ids=name_of_case)
def test_every_name_of_the_course_is_accepted(shape, name, attribute, default, other):
    made, warnings = read(shape, encode({name: other}), environ={})

    assert plain(getattr(made, attribute)) == other
    assert warnings == []


@pytest.mark.parametrize("shape", [LBSettings, DBSettings, QSettings], ids=name_of_case)
def test_all_settings_of_the_course_together_are_accepted(shape):
    everything = {name: other for of, name, _, _, other in COURSE if of is shape}

    made, warnings = read(shape, encode(everything), environ={})

    assert {name: plain(getattr(made, attribute)) for of, name, attribute, *_ in COURSE if of is shape} == everything
    assert warnings == []


@pytest.mark.parametrize("shape", [LBSettings, DBSettings, QSettings], ids=name_of_case)
def test_an_empty_object_is_the_same_as_no_argument(shape):
    assert read(shape, "{}", environ={}) == read(shape, None, environ={})


@pytest.mark.parametrize("shape", [LBSettings, DBSettings, QSettings], ids=name_of_case)
def test_a_service_listens_on_this_machine_alone_unless_told_otherwise(shape):
    told, _ = settings_of(shape, host="0.0.0.0")

    assert read(shape, None, environ={})[0].host == "127.0.0.1"
    assert told.host == "0.0.0.0"


@pytest.mark.parametrize("shape", [LBSettings, DBSettings, QSettings], ids=name_of_case)
def test_settings_do_not_change_while_a_server_runs(shape):
    made, _ = read(shape, None, environ={})

    with pytest.raises(AttributeError, match="immutable"):
        made.id = 5


# ---- unknown settings


@pytest.mark.parametrize("shape", [LBSettings, DBSettings, QSettings], ids=name_of_case)
def test_an_unknown_setting_is_named_in_a_warning_and_changes_nothing(shape):
    made, warnings = read(shape, '{"digestLength": 2, "colour": [1]}', environ={})

    assert made == read(shape, None, environ={})[0]
    assert len(warnings) == 2
    assert "'digestLength'" in warnings[0]
    assert "'colour'" in warnings[1]


def test_the_warning_lists_the_names_that_are_known():
    _, [warning] = read(DBSettings, '{"digest_length": 2}', environ={})

    assert "'digest_length'" in warning
    for name in names_of(DBSettings):
        assert name in warning


def test_a_warning_is_one_line_whatever_the_name():
    _, [warning] = read(LBSettings, '{"a\\nb": 1}', environ={})

    assert "\n" not in warning


def test_the_setting_of_another_server_is_unknown_here():
    made, [warning] = read(DBSettings, '{"port": 3003}', environ={})

    assert "'port'" in warning
    assert made.hostport == 3000


# ---- bad values


@pytest.mark.parametrize(
    ("shape", "text", "message"),
    [
        (LBSettings, '{"port": "2500"}', "port: Expected `int`, got `str`"),
        (LBSettings, '{"port": 0}', "port: Expected `int` >= 1"),
        (LBSettings, '{"port": 65536}', "port: Expected `int` <= 65535"),
        (LBSettings, '{"port": -1}', "port: Expected `int` >= 1"),
        (LBSettings, '{"port": true}', "port: Expected `int`, got `bool`"),
        (LBSettings, '{"port": 2500.5}', "port: Expected `int`, got `float`"),
        (LBSettings, '{"port": null}', "port: Expected `int`, got `null`"),
        (LBSettings, '{"port": 1' + "0" * 30 + "}", "port: Expected `int` <= 65535"),
        (LBSettings, '{"db-base-port": 0}', "db-base-port: Expected `int` >= 1"),
        (LBSettings, '{"ndb": 0}', "ndb: Expected `int` >= 1"),
        (LBSettings, '{"id": -1}', "id: Expected `int` >= 0"),
        (LBSettings, '{"logfile": 3}', "logfile: Expected `str | null`, got `int`"),
        (LBSettings, '{"host": null}', "host: Expected `str`, got `null`"),
        (LBSettings, '{"threads": 0}', "threads: Expected `int` >= 1"),
        (LBSettings, '{"threads": 513}', "threads: Expected `int` <= 512"),
        (LBSettings, '{"gather": 1}', "gather: Expected `bool`, got `int`"),
        (DBSettings, '{"hostport": 65536}', "hostport: Expected `int` <= 65535"),
        (DBSettings, '{"qport": 0}', "qport: Expected `int` >= 1"),
        (DBSettings, '{"baseDBport": "x"}', "baseDBport: Expected `int`, got `str`"),
        (DBSettings, '{"digest-length": 0}', "digest-length: Expected `int` >= 1"),
        (DBSettings, '{"digest-length": 1.5}', "digest-length: Expected `int`, got `float`"),
        (DBSettings, '{"ndb": -4}', "ndb: Expected `int` >= 1"),
        (DBSettings, '{"servers": []}', "servers: Expected `array` of length >= 1"),
        (DBSettings, '{"servers": {"port": 1}}', "servers: Expected `array`, got `object`"),
        (DBSettings, '{"servers": ["localhost"]}', "servers[0]: Expected `object`, got `str`"),
        (DBSettings, '{"servers": [{"port": 5555}, {"port": 0}]}', "servers[1].port: Expected `int` >= 1"),
        (DBSettings, '{"servers": [{"host": 5}]}', "servers[0].host: Expected `str`, got `int`"),
        (QSettings, '{"port": 0}', "port: Expected `int` >= 1"),
        (QSettings, '{"nq": 0}', "nq: Expected `int` >= 1"),
        (QSettings, '{"ndb": "4"}', "ndb: Expected `int`, got `str`"),
        (QSettings, '{"segment-bytes": 4611686018427387904}', "segment-bytes: Expected `int` <= 1152921504606846976"),
    ],
    ids=name_of_case,
)
def test_a_bad_value_is_refused_in_one_line_that_says_which_and_why(shape, text, message):
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}\Z"):
        read(shape, text, environ={})


@pytest.mark.parametrize("text", ["", "{", "id=3", "[]", "3", "null", '{"port": NaN}', '{"id": 1} {"id": 2}'], ids=repr)
def test_an_argument_that_is_no_json_object_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"^[^\n]+\Z"):
        read(LBSettings, text, environ={})


# ---- PORT in the environment


@pytest.mark.parametrize(("shape", "port_name"), SERVERS, ids=name_of_case)
def test_port_in_the_environment_overrides_the_port(shape, port_name):
    with_default, _ = read(shape, None, port_name, {"PORT": "9000"})
    with_setting, _ = read(shape, encode({port_name: 8000}), port_name, {"PORT": "9000"})

    assert getattr(with_default, port_name) == 9000
    assert getattr(with_setting, port_name) == 9000


def test_port_in_the_environment_overrides_nothing_else():
    made, warnings = settings_of(DBSettings, {"PORT": "9000"}, "hostport", id=2, qport=6001, baseDBport=3100)

    assert (made.id, made.hostport, made.qport, made.base_db_port) == (2, 9000, 6001, 3100)
    assert warnings == []


def test_without_port_in_the_environment_the_setting_stands():
    made, _ = settings_of(LBSettings, {"HOME": "/home/tea"}, port=8000)

    assert made.port == 8000


@pytest.mark.parametrize("port", ["", "x", "1e3", "3000.5"])
def test_port_in_the_environment_that_is_no_number_is_refused(port):
    with pytest.raises(ValueError, match=rf"^PORT in the environment: '{port}' is no whole number$"):
        read(LBSettings, None, environ={"PORT": port})


@pytest.mark.parametrize("port", ["0", "-1", "65536", "1" + "0" * 30])
def test_port_in_the_environment_that_is_no_port_is_refused(port):
    with pytest.raises(ValueError, match=r"^hostport: Expected `int` (>= 1|<= 65535)$"):
        read(DBSettings, None, "hostport", {"PORT": port})


def test_the_real_environment_is_used_when_no_other_is_given(monkeypatch):
    monkeypatch.setenv("PORT", "9001")

    made, _ = read(QSettings, None)

    assert made.port == 9001


# ---- servers


def test_a_list_of_one_server_is_the_redis_of_any_shard():
    """The course gives each shard its own Redis alone, whatever its id."""
    made, _ = settings_of(DBSettings, id=3, servers=[{"host": "r3", "port": 5558}])

    assert made.redis == RedisAddress("r3", 5558)


@pytest.mark.parametrize(("shard_id", "port"), [(0, 5555), (1, 5556), (2, 5557)])
def test_of_several_servers_a_shard_takes_the_one_at_its_id(shard_id, port):
    servers = [{"host": "localhost", "port": 5555 + index} for index in range(3)]

    made, _ = settings_of(DBSettings, id=shard_id, ndb=3, servers=servers)

    assert made.redis == RedisAddress("localhost", port)


def test_a_shard_beyond_the_list_of_servers_is_refused():
    servers = [{"host": "localhost", "port": 5555}, {"host": "localhost", "port": 5556}]

    with pytest.raises(ValueError, match=r"^servers: 2 are listed, and id 2 is beyond them$"):
        settings_of(DBSettings, id=2, servers=servers)


def test_a_server_has_the_default_host_and_port_where_it_says_nothing():
    made, _ = settings_of(DBSettings, servers=[{"port": 5555}])
    also, _ = settings_of(DBSettings, servers=[{"host": "r"}])

    assert made.redis == RedisAddress("localhost", 5555)
    assert also.redis == RedisAddress("r", 6379)


def test_an_id_may_exceed_ndb():
    """The course starts shards 0 to 3 with ndb 1."""
    made, warnings = settings_of(DBSettings, id=3, ndb=1)

    assert (made.id, made.ndb) == (3, 1)
    assert warnings == []


# ---- on the command line


def start(program, *arguments, port=None):
    """Run a server that is not expected to come up: its exit code, and what it wrote to standard error."""
    environ = {name: value for name, value in os.environ.items() if name != "PORT"}
    if port is not None:
        environ["PORT"] = port
    ended = subprocess.run(
        [sys.executable, PROJECT / program, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("program", ["serverLB.py", "serverDB.py", "serverQ.py"])
def test_a_bad_value_stops_the_start_with_one_line(program):
    code, said = start(program, '{"ndb": 0}')

    assert code == 2
    assert said == f"{PROJECT / program}: bad settings: ndb: Expected `int` >= 1\n"


def test_a_bad_port_in_the_environment_stops_the_start_under_its_own_name():
    code, said = start("serverDB.py", port="0")

    assert code == 2
    assert said == f"{PROJECT / 'serverDB.py'}: bad settings: hostport: Expected `int` >= 1\n"


def test_more_than_one_argument_stops_the_start():
    code, said = start("serverQ.py", "--port", "6000")

    assert code == 2
    assert said == f"{PROJECT / 'serverQ.py'}: bad settings: one JSON object is expected, 2 arguments were given\n"


def test_shards_beyond_the_last_port_are_a_bad_value():
    with pytest.raises(ValueError, match="db-base-port: 4 shards from 65534 on are beyond port 65535"):
        read(LBSettings, '{"db-base-port": 65534, "ndb": 4}')


def test_an_unknown_name_inside_servers_is_named_in_a_warning():
    made, warnings = read(DBSettings, '{"servers": [{"prot": 5555}]}', environ={})

    assert made.redis == RedisAddress()
    assert warnings == ["unknown setting 'prot' in servers is ignored; known are host, port"]
