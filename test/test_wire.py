"""The JSON that travels: which bodies are taken, what is said about the others, and the one form of what is sent.

Also the limits: a rating of 1e6, a count of 2**53 - 1, 64 entries a clock, 64 characters a node id, 256 records a call.
"""

import json
import string
import unicodedata
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emporium import wire
from emporium.siblings import UNRATED, Sibling, merge
from emporium.wire import BadJSON, BadShape, Cursor, Record
from vectorclock import VectorClock

LAW = settings.get_profile("forms")

RATING_LIMIT = 1_000_000
COUNT_LIMIT = 9_007_199_254_740_991
VERY_DEEP = 100_000


def sibling(rating, **entries):
    return Sibling(rating, VectorClock.fromDict(entries))


def value_of(*siblings):
    return merge(UNRATED, siblings)


def clock_of(entries):
    """The JSON text of a clock with this many entries."""
    return "{" + ",".join(f'"c{index}":1' for index in range(entries)) + "}"


def deep(levels):
    return "[" * levels + "]" * levels


# ---- a rating as a client sends it


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"rating":3,"clock":{"c0":5}}', sibling(3, c0=5)),
        (b'{"rating":3,"clock":{"c0":5}}', sibling(3, c0=5)),
        (' {"clock" : {"c0": 5},\n "rating": 3 }\n', sibling(3, c0=5)),
        ('{"rating":2.5,"clock":{"c1":3,"c0":0}}', sibling(2.5, c0=0, c1=3)),
        ('{"rating":-3.25,"clock":{"c0":1}}', sibling(-3.25, c0=1)),
        ('{"rating":1000000,"clock":{"c0":1}}', sibling(RATING_LIMIT, c0=1)),
        ('{"rating":-1e6,"clock":{"c0":1}}', sibling(-RATING_LIMIT, c0=1)),
        ('{"rating":1,"clock":{"c0":9007199254740991}}', sibling(1, c0=COUNT_LIMIT)),
        ('{"rating":1,"clock":{"A-z_0.9":1}}', sibling(1, **{"A-z_0.9": 1})),
        (f'{{"rating":1,"clock":{{"{"n" * 64}":1}}}}', sibling(1, **{"n" * 64: 1})),
        (f'{{"rating":1,"clock":{clock_of(64)}}}', sibling(1, **{f"c{index}": 1 for index in range(64)})),
    ],
)
def test_a_rating_with_its_clock_is_taken(body, expected):
    assert wire.decode_rating(body) == expected


@pytest.mark.parametrize(
    ("number", "text"),
    [("3", b"3"), ("3.0", b"3"), ("3e0", b"3"), ("-0", b"0"), ("-0.0", b"0"), ("1e-400", b"0"), ("0.1", b"0.1")],
)
def test_a_rating_is_taken_in_the_one_form_in_which_it_is_stored(number, text):
    taken = wire.decode_rating(f'{{"rating":{number},"clock":{{"c0":1}}}}')

    assert wire.encode(taken.rating) == text


@pytest.mark.parametrize(
    ("rating", "message"),
    [
        ("1000001", "rating: Expected `int` <= 1000000"),
        ("-1000001", "rating: Expected `int` >= -1000000"),
        ("1000000.0000000002", "rating: Expected `float` <= 1000000.0"),
        ("-1000000.5", "rating: Expected `float` >= -1000000.0"),
        ("1" + "0" * 40, "rating: Expected `int` <= 1000000"),
        ("1e400", "rating: Number out of range"),
        ("-1e400", "rating: Number out of range"),
        ("true", "rating: Expected `int | float`, got `bool`"),
        ("null", "rating: Expected `int | float`, got `null`"),
        ('"3"', "rating: Expected `int | float`, got `str`"),
        ("[3]", "rating: Expected `int | float`, got `array`"),
        ("{}", "rating: Expected `int | float`, got `object`"),
    ],
    ids=lambda text: text[:40],
)
def test_a_bad_rating_is_refused_by_name(rating, message):
    with pytest.raises(BadShape) as refused:
        wire.decode_rating(f'{{"rating":{rating},"clock":{{"c0":1}}}}')

    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("clock", "message"),
    [
        ("{}", "clock: Expected `object` of length >= 1"),
        (clock_of(65), "clock: Expected `object` of length <= 64"),
        ("null", "clock: Expected `object`, got `null`"),
        ('[{"c0":1}]', "clock: Expected `object`, got `array`"),
        ("5", "clock: Expected `object`, got `int`"),
        ('{"c0":-1}', "clock: Expected `int` >= 0"),
        ('{"c0":9007199254740992}', "clock: Expected `int` <= 9007199254740991"),
        ('{"c0":1' + "0" * 40 + "}", "clock: Expected `int` <= 9007199254740991"),
        ('{"c0":1.5}', "clock: Expected `int`, got `float`"),
        ('{"c0":1e400}', "clock: Number out of range"),
        ('{"c0":true}', "clock: Expected `int`, got `bool`"),
        ('{"c0":null}', "clock: Expected `int`, got `null`"),
        ('{"c0":"1"}', "clock: Expected `int`, got `str`"),
        ('{"":1}', "clock, a node id: Expected `str` of length >= 1"),
        (f'{{"{"n" * 65}":1}}', "clock, a node id: Expected `str` of length <= 64"),
        ('{"a b":1}', r"clock, a node id: Expected `str` matching regex '^[A-Za-z0-9._-]+\\Z'"),
        ('{"c0\\n":1}', r"clock, a node id: Expected `str` matching regex '^[A-Za-z0-9._-]+\\Z'"),
        ('{"thé":1}', r"clock, a node id: Expected `str` matching regex '^[A-Za-z0-9._-]+\\Z'"),
    ],
    ids=lambda text: text[:40],
)
def test_a_bad_clock_is_refused_by_name(clock, message):
    with pytest.raises(BadShape) as refused:
        wire.decode_rating(f'{{"rating":1,"clock":{clock}}}')

    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "the body: Object missing required field `rating`"),
        ('{"clock":{"c0":1}}', "the body: Object missing required field `rating`"),
        ('{"rating":1}', "the body: Object missing required field `clock`"),
        ('{"rating":1,"clock":{"c0":1},"tea":"assam"}', "the body: Object contains unknown field `tea`"),
        ('{"Rating":1,"clock":{"c0":1}}', "the body: Object contains unknown field `Rating`"),
        ("[]", "the body: Expected `object`, got `array`"),
        ("null", "the body: Expected `object`, got `null`"),
        ("3", "the body: Expected `object`, got `int`"),
        ('"rating"', "the body: Expected `object`, got `str`"),
    ],
)
def test_a_body_that_is_no_rating_is_refused_by_what_is_missing_or_too_much(body, message):
    with pytest.raises(BadShape) as refused:
        wire.decode_rating(body)

    assert str(refused.value) == message


GOOD_BODY = '{"rating":1,"clock":{"c0":1}}'


@pytest.mark.parametrize(
    "body",
    [
        "",
        "   ",
        "rating=3",
        "{'rating':1,'clock':{'c0':1}}",
        GOOD_BODY[:-1],
        GOOD_BODY + "x",
        GOOD_BODY + GOOD_BODY,
        '{"rating":1,"clock":{"c0":1},}',
        '{"rating":01,"clock":{"c0":1}}',
        '{"rating":NaN,"clock":{"c0":1}}',
        '{"rating":Infinity,"clock":{"c0":1}}',
        '{"rating":-Infinity,"clock":{"c0":1}}',
        '{"rating":1,"clock":{"c0":NaN}}',
        '{"rating":1,"clock":{"\\ud800":1}}',
        b'{"rating":1,"clock":{"\xff":1}}',
        "\ufeff" + GOOD_BODY,
        GOOD_BODY.encode("utf-16"),
        GOOD_BODY.encode("utf-16-le"),
        GOOD_BODY.encode("utf-32"),
        b"\xff\xfe",
        b"\x00",
    ],
    ids=lambda body: repr(body)[:40],
)
def test_what_is_no_json_is_told_from_json_that_says_something_else(body):
    with pytest.raises(BadJSON, match=r"^the body is not valid JSON: "):
        wire.decode_rating(body)


# ---- gossip as it comes


def gossip_text(**fields):
    """A good record as JSON text, with these fields set to other JSON texts, or left out when None."""
    good = {"primary": '"db0"', "key": '"assam"', "rating": "2", "choices": "[2]", "clocks": '[{"c0":1}]'}
    return "{" + ",".join(f'"{name}":{text}' for name, text in (good | fields).items() if text is not None) + "}"


ASSIGNMENTS_CLOCKS = '[{"c0":1},{"c1":3}]'


@pytest.mark.parametrize(
    "clocks",
    [ASSIGNMENTS_CLOCKS, f'{{"CLOCK_LIST_XXX":{ASSIGNMENTS_CLOCKS}}}'],
    ids=["plain", "as the course's queue client wraps them"],
)
def test_a_record_is_read_with_plain_and_with_wrapped_clocks(clocks):
    text = f'{{"primary":"db0","key":"white-tea","rating":1,"choices":[2,3],"clocks":{clocks}}}'

    record = wire.decode_record(text)

    assert record == Record("db0", "white-tea", value_of(sibling(2, c0=1), sibling(3, c1=3)))


@pytest.mark.parametrize("clocks", ["[]", '{"CLOCK_LIST_XXX":[]}'])
def test_a_record_may_have_no_siblings_at_all(clocks):
    assert wire.decode_record(gossip_text(choices="[]", clocks=clocks)) == Record("db0", "assam", UNRATED)


@pytest.mark.parametrize("rating", [None, "99", "null", '"x"', "[[]]", "1e400"])
def test_the_mean_of_a_record_is_derived_and_never_taken_over(rating):
    record = wire.decode_record(gossip_text(rating=rating, choices="[2,5]", clocks='[{"c0":1},{"c1":1}]'))

    assert record.value.rating == 3.5


def test_a_record_may_have_fields_that_we_do_not_know():
    assert wire.decode_record(gossip_text(colour='"green"')) == wire.decode_record(gossip_text())


def test_the_siblings_of_a_record_are_taken_in_canonical_form():
    """Whoever sent it: the dominated dropped, duplicates once, whole numbers as integers, in our order."""
    text = gossip_text(choices="[5.0,1,3,-0.0,3]", clocks='[{"c1":1},{"c0":1},{"c0":2},{"c2":1},{"c0":2}]')

    record = wire.decode_record(text)

    assert record.value == value_of(sibling(3, c0=2), sibling(5, c1=1), sibling(0, c2=1))
    assert wire.encode(wire.choices_of(record.value)) == b"[3,5,0]"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"primary": None}, "the body: Object missing required field `primary`"),
        ({"key": None}, "the body: Object missing required field `key`"),
        ({"choices": None}, "the body: Object missing required field `choices`"),
        ({"clocks": None}, "the body: Object missing required field `clocks`"),
        ({"primary": "0"}, "primary: Expected `str`, got `int`"),
        ({"key": "null"}, "key: Expected `str`, got `null`"),
        ({"choices": "2"}, "choices: Expected `array`, got `int`"),
        ({"choices": "[true]"}, "choices[0]: Expected `int | float | null`, got `bool`"),
        ({"choices": "[1,2e7]"}, "choices[1]: Expected `float` <= 1000000.0"),
        ({"choices": "[1e400]"}, "choices[0]: Number out of range"),
        ({"clocks": '"c0"'}, "clocks: Expected `object | array`, got `str`"),
        ({"clocks": "[1]"}, "clocks[0]: Expected `object`, got `int`"),
        ({"clocks": '[{"c0":1},{"c0":-1}]'}, "clocks[1]: Expected `int` >= 0"),
        ({"clocks": '[{"c0":9007199254740992}]'}, "clocks[0]: Expected `int` <= 9007199254740991"),
        ({"clocks": '{"CLOCK_LIST_XXX":[{"c0":-1}]}'}, "clocks.CLOCK_LIST_XXX[0]: Expected `int` >= 0"),
        ({"clocks": '{"CLOCK_LIST_XXX":5}'}, "clocks.CLOCK_LIST_XXX: Expected `array`, got `int`"),
        ({"clocks": "{}"}, "clocks: Object missing required field `CLOCK_LIST_XXX`"),
        ({"clocks": '{"CLOCK_LIST_XXX":[{"c0":1}],"x":1}'}, "clocks: Object contains unknown field `x`"),
        ({"clocks": "[]"}, "choices, clocks: 1 and 0, and there must be one clock for each choice"),
        ({"choices": "[]"}, "choices, clocks: 0 and 1, and there must be one clock for each choice"),
    ],
    ids=lambda given: str(given)[:60],
)
def test_a_bad_record_is_refused_by_name(fields, message):
    with pytest.raises(BadShape) as refused:
        wire.decode_record(gossip_text(**fields))

    assert str(refused.value) == message


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        gossip_text(rating="NaN"),
        gossip_text(choices="[NaN]"),
        gossip_text(key='"\\ud800"'),
        gossip_text().encode("utf-16"),
        gossip_text().encode().replace(b"assam", b"\xff"),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_a_record_that_is_no_json_is_refused(text):
    with pytest.raises(BadJSON, match=r"^the body is not valid JSON: "):
        wire.decode_record(text)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"choices": str([1] * 513), "clocks": str([{}] * 513).replace("'", '"')}, "choices: "),
        ({"clocks": "[{" + ",".join(f'"c{n}":1' for n in range(65)) + "}]"}, "clocks"),
        ({"key": '"a/b"'}, "key"),
        ({"key": '"' + "n" * 256 + '"'}, "key"),
    ],
    ids=["too many siblings", "too many entries", "a slash", "too long a name"],
)
def test_a_record_beyond_what_is_legal_is_refused(fields, words):
    with pytest.raises(BadShape, match=words):
        wire.decode_record(gossip_text(**fields))


@pytest.mark.parametrize("levels", [2, 32])
def test_an_object_may_be_nested_32_deep_and_no_deeper(levels):
    def nested(levels):
        return '{"x":' * levels + "1" + "}" * levels

    assert wire.decode_object(nested(levels).encode())
    for deeper in (33, 100, 900, 988, 5000):
        with pytest.raises(BadJSON, match=r"^the body is nested too deeply"):
            wire.decode_object(nested(deeper).encode())
        with pytest.raises(BadJSON, match=r"^the body is nested too deeply"):
            wire.decode_object(('{"x":' + deep(deeper - 1) + "}").encode())


@pytest.mark.parametrize(
    "body",
    [
        '{"rating":true,"rating":3,"clock":{"c0":1}}',
        '{"rating":3,"clock":{},"clock":{"c0":1}}',
        '{"rating":3,"clock":{"c0":"x","c0":1}}',
    ],
)
def test_of_a_field_that_is_given_twice_the_last_counts_even_if_the_first_is_bad(body):
    assert wire.decode_rating(body) == wire.decode_rating('{"rating":3,"clock":{"c0":1}}')


@pytest.mark.parametrize("field", ["rating", "choices", "clocks"])
def test_a_record_that_is_nested_too_deeply_is_no_json_whether_or_not_we_look_there(field):
    with pytest.raises(BadJSON, match=r"^the body is nested too deeply$"):
        wire.decode_record(gossip_text(**{field: f"[{deep(VERY_DEEP)}]"}))


@pytest.mark.parametrize(
    "body",
    [
        f'{{"rating":{deep(VERY_DEEP)},"clock":{{"c0":1}}}}',
        f'{{"rating":3,"clock":{{"c0":{deep(VERY_DEEP)}}}}}',
        '{"rating":"three","clock":{"c0":1}',
        '{"rating":3,"clock":{"c0":-1},}',
        '[{"rating":3',
    ],
    ids=lambda body: body[:40],
)
def test_a_body_with_a_bad_field_and_bad_json_behind_it_is_no_json(body):
    with pytest.raises(BadJSON):
        wire.decode_rating(body)


# ---- what leaves


def test_a_reading_is_written_in_canonical_form():
    """Entries of a clock sorted by id, choices and clocks in the same order, whole numbers as integers."""
    value = value_of(sibling(3, c1=3), sibling(2, c2=1, c10=4, c0=1))

    assert wire.encode_reading(value) == (b'{"rating":2.5,"choices":[2,3],"clocks":[{"c0":1,"c10":4,"c2":1},{"c1":3}]}')


def test_a_tea_never_rated_reads_0_and_two_empty_lists():
    assert wire.encode_reading(UNRATED) == b'{"rating":0.0,"choices":[],"clocks":[]}'


def test_a_record_is_written_as_the_assignment_shows_it():
    record = Record("db0", "white-tea", value_of(sibling(3, c1=3), sibling(2, c0=1)))

    assert wire.encode_record(record) == (
        b'{"primary":"db0","key":"white-tea","rating":2.5,"choices":[2,3],"clocks":[{"c0":1},{"c1":3}]}'
    )


def test_equal_values_are_equal_bytes():
    one_way = value_of(sibling(3.0, c1=3, c0=1), sibling(2, c2=1))
    the_other = value_of(sibling(2, c2=1), sibling(3.0, c0=1, c1=3))

    assert wire.encode_reading(one_way) == wire.encode_reading(the_other)


NODE_ID_CHARACTERS = string.ascii_letters + string.digits + "._-"

some_rating = st.one_of(st.integers(-RATING_LIMIT, RATING_LIMIT), st.floats(-RATING_LIMIT, RATING_LIMIT))
some_node_id = st.one_of(
    st.sampled_from(["c0", "c1", "c2", "n" * 64]), st.text(NODE_ID_CHARACTERS, min_size=1, max_size=4)
)
some_count = st.one_of(st.integers(0, 2), st.sampled_from([2**31, 2**32, COUNT_LIMIT]))
some_entries = st.dictionaries(some_node_id, some_count, min_size=1, max_size=3)
some_pairs = st.lists(st.tuples(some_rating, some_entries), max_size=3)
some_name = st.one_of(
    st.sampled_from(["assam", "thé vert", "茶"]),
    st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=6).map(
        partial(unicodedata.normalize, "NFC")
    ),
)


def value_of_pairs(pairs):
    return merge(UNRATED, wire.siblings_of([rating for rating, _ in pairs], [entries for _, entries in pairs]))


@LAW
@given(some_rating, some_entries)
def test_what_a_client_writes_with_another_library_is_what_we_read(rating, entries):
    taken = wire.decode_rating(json.dumps({"rating": rating, "clock": entries}))

    assert taken.rating == rating
    assert taken.clock.asDict() == entries


@LAW
@given(some_name, some_name, some_pairs)
def test_a_record_comes_back_as_it_went(primary, key, pairs):
    record = Record(primary, key, value_of_pairs(pairs))

    text = wire.encode_record(record)

    assert wire.decode_record(text) == record
    assert wire.encode_record(wire.decode_record(text)) == text


@LAW
@given(some_pairs)
def test_a_record_with_wrapped_clocks_says_the_same(pairs):
    record = Record("db0", "assam", value_of_pairs(pairs))

    plain = json.loads(wire.encode_record(record))
    wrapped = json.dumps({**plain, "clocks": {"CLOCK_LIST_XXX": plain["clocks"]}})

    assert wire.decode_record(wrapped) == record


@LAW
@given(some_pairs)
def test_a_reading_is_read_with_another_library_as_it_was_meant(pairs):
    value = value_of_pairs(pairs)

    answered = json.loads(wire.encode_reading(value))

    assert answered == {
        "rating": value.rating,
        "choices": [each.rating for each in value.siblings],
        "clocks": [each.clock.asDict() for each in value.siblings],
    }
    assert [list(entries) for entries in answered["clocks"]] == [sorted(entries) for entries in answered["clocks"]]
    assert not any(isinstance(rating, float) and rating.is_integer() for rating in answered["choices"])


def test_there_is_one_clock_for_each_choice():
    with pytest.raises(BadShape, match=r"^choices, clocks: 2 and 1, "):
        wire.siblings_of([1, 2], [{"c0": 1}])


# ---- between shard and queue


def test_records_travel_together_in_their_order_and_byte_for_byte():
    records = [b'{"b": 2.0}', wire.encode_record(Record("db0", "assam", value_of(sibling(1, c0=1)))), b"{}"]

    assert wire.decode_records(wire.encode_records(records)) == records
    assert wire.decode_taken(wire.encode_taken(records, Cursor("life", 7), 5)) == (records, Cursor("life", 7), 5)


def test_an_exchange_travels_whole():
    records = [b'{"b": 2.0}', b"{}"]

    asked, texts = wire.decode_exchange(wire.encode_exchange("db0", records, "db3", Cursor("life", 7), 0))

    assert (asked.to, texts, asked.source, asked.cursor, asked.most) == ("db0", records, "db3", Cursor("life", 7), 0)


def test_no_records_travel_too():
    assert wire.decode_records(wire.encode_records([])) == []
    assert wire.decode_taken(wire.encode_taken([], None, 0)) == ([], None, 0)


@pytest.mark.parametrize("cursor", [None, Cursor("life", 0), Cursor("life", 2**60)], ids=repr)
def test_a_take_names_its_cursor(cursor):
    asked = wire.decode_take(wire.encode_take(cursor, 7))

    assert asked.cursor == cursor
    assert asked.most == 7


def test_a_cursor_can_stand_some_records_before():
    """So that a shard may note a part of what it took as done."""
    taken = Cursor("life", 7)

    assert taken.back_by(3) == Cursor("life", 4)
    assert taken.back_by(0) == taken == Cursor("life", 7)


def test_a_take_without_anything_asks_from_the_beginning():
    assert wire.decode_take("{}") == wire.Take(None, 256)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"most":0}', "most: Expected `int` >= 1"),
        ('{"most":257}', "most: Expected `int` <= 256"),
        ('{"most":true}', "most: Expected `int`, got `bool`"),
        ('{"cursor":3}', "cursor: Expected `object | null`, got `int`"),
        ('{"cursor":{"life":"a"}}', "cursor: Object missing required field `offset`"),
        ('{"cursor":{"life":"a","offset":-1}}', "cursor.offset: Expected `int` >= 0"),
        ('{"cursor":{"life":1,"offset":1}}', "cursor.life: Expected `str`, got `int`"),
        ("[]", "the body: Expected `object`, got `array`"),
    ],
)
def test_a_bad_take_is_refused_by_name(body, message):
    with pytest.raises(BadShape) as refused:
        wire.decode_take(body)

    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "the body: Object missing required field `records`"),
        ('{"records":{}}', "records: Expected `array`, got `object`"),
        ("[]", "the body: Expected `object`, got `array`"),
    ],
)
def test_records_that_do_not_come_as_a_list_are_refused_by_name(body, message):
    for decode in (wire.decode_records, wire.decode_taken):
        with pytest.raises(BadShape) as refused:
            decode(body)

        assert str(refused.value) == message


@pytest.mark.parametrize("record", ["1", "null", '"x"', "[]", '{"a":1e400}'])
def test_one_record_that_is_no_object_spoils_the_whole_call(record):
    with pytest.raises(BadShape):
        wire.decode_records(f'{{"records":[{{"a":1}},{record}]}}')


@pytest.mark.parametrize(
    "record",
    [
        '{"a":NaN}',
        '{"a":]}',
        '{"a":1',
        b'{"a":"\xff"}',
        f'{{"a":{deep(VERY_DEEP)}}}',
        '{"a":' * 2000 + "1" + "}" * 2000,
    ],
    ids=lambda record: repr(record)[:40],
)
def test_one_record_that_is_no_json_spoils_the_whole_call(record):
    text = record if isinstance(record, bytes) else record.encode()

    with pytest.raises(BadJSON):
        wire.decode_records(b'{"records":[{"a":1},' + text + b"]}")


# ---- how a service is


def test_readiness_is_told_check_by_check():
    answer = '{"ready":false,"checks":{"redis":"ok","queue":"no answer"}}'

    assert wire.decode_readiness(answer) == {"redis": "ok", "queue": "no answer"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("{}", "the body: Object missing required field `ready`"),
        ('{"ready":true}', "the body: Object missing required field `checks`"),
        ('{"ready":"yes","checks":{}}', "ready: Expected `bool`, got `str`"),
        ('{"ready":true,"checks":{"redis":true}}', "checks: Expected `str`, got `bool`"),
    ],
)
def test_an_answer_that_tells_no_readiness_is_refused_by_name(answer, message):
    with pytest.raises(BadShape) as refused:
        wire.decode_readiness(answer)

    assert str(refused.value) == message


# ---- any object, and any bytes


def test_any_object_is_decoded_to_what_it_says():
    assert wire.decode_object('{"a":[1,2.5,null,{"b":"é"}]}'.encode()) == {"a": [1, 2.5, None, {"b": "é"}]}


@pytest.mark.parametrize("text", ["[]", "1", "null", '"x"', "true"])
def test_what_is_no_object_is_refused_where_one_is_expected(text):
    with pytest.raises(BadShape, match=r"^the body: Expected `object`, got "):
        wire.decode_object(text)


@pytest.mark.parametrize("text", [deep(VERY_DEEP), '{"a":' * VERY_DEEP, '{"a":' + deep(VERY_DEEP) + "}"], ids=len)
def test_what_is_nested_too_deeply_is_refused(text):
    with pytest.raises(BadJSON, match=r"^the body is nested too deeply$"):
        wire.decode(text)


DECODERS = [
    wire.decode,
    wire.decode_object,
    wire.decode_readiness,
    wire.decode_rating,
    wire.decode_record,
    wire.decode_records,
    wire.decode_take,
    wire.decode_taken,
    wire.decode_exchange,
]

# Bodies that are nearly good: pieces of JSON in any order.
PIECES = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"1", b"-", b"1e999", b"null", b" ", b"\\u", b"\xff", b"\x00"]
BIG_PIECES = [b'{"rating":', b'"clock":', b'{"c0":1}', b'"choices":[', b'"clocks":', b'{"records":[', b'"cursor":']
some_near_miss = st.lists(st.sampled_from(PIECES + BIG_PIECES), max_size=10).map(b"".join)


def reason_for_refusing(decode, body):
    try:
        decode(body)
    except (BadJSON, BadShape) as refused:
        return str(refused)
    return None


@LAW
@given(st.one_of(some_near_miss, st.binary(max_size=20)))
@example(b'"\xff"')
@example(b'{"rating":1,"clock":{"\xff":1}}')
def test_any_bytes_are_either_decoded_or_refused_with_a_reason(body):
    """Nothing else is ever raised, so the answer is a 4xx and not a 500."""
    for decode in DECODERS:
        assert reason_for_refusing(decode, body) != ""


def test_gossip_about_a_decomposed_name_is_about_the_composed_one():
    """Else a stranger's record would be stored where no request can reach it."""
    text = json.dumps({"primary": "db0", "key": "cafe\u0301", "choices": [1], "clocks": [{"c0": 1}]})

    assert wire.decode_record(text).key == "caf\u00e9"
