"""The pages of the view as a person meets them, in a real Chromium: seen, clicked, typed, and broken while watching.

One cluster of three shards and one browser serve all stories; each has teas and pages of its own. What a page asked of
anybody but the view, and every complaint of the browser, fails the story. Pictures are left in var/screenshots.
"""

import json
import re
import subprocess
from itertools import combinations, product
from xml.etree import ElementTree

import chromium
import psutil
import pytest
import requests
from browsing import (
    FAINT_TEXTS,
    HAS_COME,
    LAPTOP,
    RING_FITS,
    SIZES,
    TEXTS_IN_VIEW,
    TEXTS_OUT_OF_FRAME,
    TOO_WIDE_PX,
    WATCH_FOR,
    Visits,
    expect_state,
    keep_picture,
    part,
    tab_to,
)
from harness import CALL_S, eventually
from playwright.sync_api import expect, sync_playwright
from sharing import or_skip
from teacommand import Up

from serverLB import primary_of
from vectorclock import VectorClock

NDB = 3
VIEWS = {"ring": ".ring .shard", "tea/seen": ".replica", "trace": ".trace-view .tea-list a", "break": ".lab-grid li"}


@pytest.fixture(scope="module")
def browser():
    program = or_skip(chromium.find_or_install)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=chromium.flags())
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def up(browser, run_folder):
    """A cluster that may be broken, and its view. (Where there is no browser, none is started.)"""
    with Up(run_folder / "pages", NDB, extra=["--lab", "--digest-length", "2"], with_view=True) as cluster:
        yield cluster.wait_until_open()


@pytest.fixture(scope="module")
def shared(browser, up):
    """The pages of all stories: most are about the same one, which begins anew faster than a browser opens another."""
    made = Visits(browser, up.layout.view)
    yield made
    made.close()


@pytest.fixture
def visits(shared):
    shared.forget()
    yield shared
    shared.close_others()
    assert shared.strangers() == []
    assert shared.errors == []


@pytest.fixture
def rate(up):
    """Rates a tea at the load balancer, as others do while a page is open."""

    def put(tea, rating=3, **clock):
        told = {"rating": rating, "clock": clock or {"c0": 1}}
        answer = requests.put(f"http://127.0.0.1:{up.layout.lb}/rating/{tea}", json=told, timeout=CALL_S)
        assert answer.status_code == 200, answer.text
        return answer

    return put


def teas_of(primary, number, prefix):
    """So many names of teas with this primary."""
    return [tea for tea in (f"{prefix}-{n}" for n in range(1000)) if primary_of(tea, NDB) == primary][:number]


def lab(page, service, verb):
    """Press a button of the lab, and see it answered."""
    page.get_by_role("button", name=f"{verb} {service}", exact=True).click()
    expect(page.locator(".lab-view .answer")).to_contain_text(re.compile(rf"✓.*{service}"), timeout=20_000)


# ---- the ring


def test_the_ring_shows_every_service_and_its_state(visits):
    page = visits.open("/")

    for name in ("lb", "db0", "db1", "db2"):
        expect_state(page, name, "up")
    for index in range(NDB):
        expect(part(page, f"db{index}")).to_contain_text(re.compile(rf"Redis r{index} up"))
    expect(page.locator(".ring .hub .word")).to_have_text("up")
    expect(page.locator(".ring .channel")).to_have_count(NDB)
    expect(page.locator("#health")).to_contain_text("Healthy")
    expect(page.locator("#health")).to_contain_text("3 of 3")


def test_a_digest_fills_and_its_records_move_as_dots(visits, rate):
    first, second = teas_of(1, 2, "dots")
    page = visits.go("#ring")
    expect_state(page, "db1", "up")
    expect(page.locator("body")).not_to_have_class(re.compile("is-stale"))

    rate(first)
    expect(part(page, "db1")).to_contain_text("digest 1 of 2")
    page.evaluate(WATCH_FOR, ".dot-gossip")
    rate(second)

    page.wait_for_function(HAS_COME)
    expect(page.locator(".events")).to_contain_text(second)


def test_who_wants_no_motion_sees_counts_and_no_dots(visits, rate):
    page = visits.open("/#ring", reduced_motion="reduce")
    expect_state(page, "db0", "up")

    for tea in teas_of(0, 2, "calm"):
        rate(tea)

    expect(page.locator(".moved", has_text="moved in 10 s").first).to_be_visible()
    assert page.locator(".dots > *").count() == 0


def test_a_part_of_the_ring_tells_all_that_is_known_of_it(visits):
    page = visits.go("#ring")

    part(page, "db2").click()

    details = page.get_by_role("region", name="What is chosen")
    expect(details.get_by_role("heading", name="db2")).to_be_visible()
    for told in ("epoch", "tells", "hears", "db0", "db1", "r2", "http://"):
        expect(details).to_contain_text(told)
    page.keyboard.press("Escape")
    expect(details).to_contain_text("Choose a part of the ring")


def test_the_queue_can_be_chosen_as_every_other_part(visits):
    page = visits.go("#ring")

    part(page, "q").focus()
    page.keyboard.press("Enter")

    details = page.get_by_role("region", name="What is chosen")
    expect(details.get_by_role("heading", name="q")).to_be_visible()
    for told in ("up", "on disk", "http://"):
        expect(details).to_contain_text(told)


def test_tables_say_the_same_as_the_drawing(visits):
    page = visits.go("#ring")

    page.get_by_text("The same as tables").click()

    row = page.get_by_role("region", name="Shards").get_by_role("row", name=re.compile("^db1"))
    expect(row).to_contain_text("up")
    expect(row).to_contain_text("r1 up")
    others = page.get_by_role("region", name="Load balancer and queue")
    expect(others.get_by_role("row", name=re.compile("^load balancer"))).to_contain_text("requests so far")
    expect(others.get_by_role("row", name=re.compile("^queue"))).to_contain_text("on disk")


# ---- a tea


def test_a_tea_stands_on_every_shard_side_by_side(visits, rate):
    rate("seen", 4, c0=1)
    page = visits.go("#tea/seen")

    expect(page.locator(".replica")).to_have_count(NDB)
    primary = page.locator(f'[data-shard="db{primary_of("seen", NDB)}"]')
    expect(primary).to_contain_text("primary")
    expect(primary.locator(".rating")).to_have_text("4")
    expect(primary).to_contain_text("c0:1")
    # Comparing brings it to the others within seconds, while the page is open.
    expect(page.locator(".replica .rating", has_text="4")).to_have_count(NDB)
    expect(page.locator(".replica", has_text="has what the primary has")).to_have_count(NDB - 1)


def test_a_write_shows_its_merge_first_and_its_curl_line_does_the_same(visits, rate):
    rate("merged", 1, c0=1)
    rate("merged", 5, c1=1)
    page = visits.go("#tea/merged")
    expect(page.get_by_text("A and B are concurrent")).to_be_visible()
    expect(page.locator(".pair .count.is-larger")).to_have_count(2)
    form = page.locator("form.write")

    # At its first clock it would be stale or a sibling; with the button it is newer than both.
    page.get_by_label("Rating", exact=True).fill("3")
    expect(form.locator(".merge")).to_contain_text("What stands then")
    page.get_by_label("as", exact=True).fill("me")
    page.get_by_role("button", name="Newer than all siblings").click()
    expect(form.locator(".merge li", has_text="The stored one is dropped")).to_have_count(2)
    expect(form.locator(".outcome")).to_contain_text("It would be stored")
    line = form.locator(".line code").first.text_content()
    assert '"clock": {"c0":1,"c1":1,"me":1}' in line

    page.get_by_role("button", name="Write", exact=True).click()
    expect(form.locator(".answer")).to_contain_text("✓ 200 stored")
    expect(page.locator(".siblings li")).to_have_count(1)
    again = subprocess.run(["bash", "-c", f"{line} -si"], capture_output=True, text=True, timeout=CALL_S, check=True)
    assert "x-merge: same" in again.stdout.lower()


def test_strong_and_weak_reads_stand_beside_each_other(visits, rate):
    rate("read", 2, c0=7)
    page = visits.go("#tea/read")
    expect(page.locator(".reads .panel")).to_have_count(2)
    strong, weak = page.locator(".reads .panel").all()

    page.get_by_role("button", name="Read strongly").click()
    page.get_by_role("button", name="Read weakly").click()

    expect(strong.locator(".told")).to_contain_text("2 at c0:7")
    expect(weak.locator(".told")).to_contain_text("✓ 200")
    tops = page.locator(".reads .panel").evaluate_all(
        "panels => panels.map(panel => panel.getBoundingClientRect().top)"
    )
    assert tops[0] == tops[1]
    line = strong.locator(".line code").first.text_content()
    answer = subprocess.run(["bash", "-c", f"{line} -s"], capture_output=True, timeout=CALL_S, check=True)
    assert json.loads(answer.stdout)["clocks"] == [{"c0": 7}]
    assert "consistency=weak" in weak.locator(".line code").first.text_content()


def test_a_delete_leaves_a_tombstone_that_the_page_names(visits, rate):
    rate("gone", 2, c0=3)
    page = visits.go("#tea/gone")
    expect(page.locator(".replica.is-primary .rating")).to_have_text("2")

    page.get_by_role("button", name="Delete", exact=True).click()

    expect(page.locator("form.write .answer")).to_contain_text("✓ 200")
    expect(page.locator(".replica.is-primary")).to_contain_text("deleted")
    expect(page.locator(".replica.is-primary")).to_contain_text("c0:3")
    page.get_by_label("as", exact=True).fill("c0")
    page.get_by_role("button", name="Newer than all siblings").click()
    expect(page.locator("form.write .line code").first).to_contain_text('{"c0":4}')


def test_teas_are_found_by_a_part_of_their_name_and_new_ones_entered(visits, rate):
    rate("needle-in-hay")
    page = visits.go("#tea")
    field = page.get_by_label("Find a tea, or enter a new one")

    field.fill("dle-in-h")
    expect(page.locator(".tea-list a")).to_have_text([re.compile("needle-in-hay")])
    field.fill("茶 'n' <b>50%")
    field.press("Enter")
    expect(page.get_by_role("heading", name="茶 'n' <b>50%")).to_be_visible()
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("form.write .answer")).to_contain_text("✓ 200 stored")
    line = page.locator("form.write .line code").first.text_content()
    again = subprocess.run(["bash", "-c", f"{line} -si"], capture_output=True, text=True, timeout=CALL_S, check=True)
    assert "x-merge: same" in again.stdout.lower()


def test_a_line_is_copied(visits):
    page = visits.open("/#tea/copied", permissions=["clipboard-read", "clipboard-write"])
    shown = page.locator("form.write .line").first

    shown.get_by_role("button").click()

    expect(shown.get_by_role("button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == shown.locator("code").text_content()


def test_many_siblings_and_long_clocks_are_folded_and_what_is_unfolded_stays_so(visits, rate):
    rate("many", 0, **{f"node-{n:02d}": n for n in range(20)})
    for n in range(1, 12):
        rate("many", n, **{f"c{n:02d}": 1})
    page = visits.go("#tea/many")
    primary = page.locator(".replica.is-primary")
    expect(primary.locator(".sibling:visible")).to_have_count(10)
    assert "node-19:19" not in page.locator(".tea-view").inner_text()

    primary.get_by_text("2 more", exact=True).click()
    expect(primary.locator(".sibling:visible")).to_have_count(12)
    primary.get_by_text("… 8 more").click()
    expect(primary.get_by_text("node-19:19")).to_be_visible()
    rate("many", 12, c12=1)

    expect(primary.get_by_text("3 more", exact=True)).to_be_visible()
    expect(primary.locator(".sibling:visible")).to_have_count(13)
    expect(primary.get_by_text("node-19:19")).to_be_visible()


def test_no_curl_line_is_shown_for_a_form_that_cannot_be_sent(visits):
    page = visits.go("#tea/half")
    form = page.locator("form.write")
    expect(form.get_by_text("curl -XPUT")).to_be_visible()

    page.get_by_label("Rating", exact=True).fill("")

    expect(form.get_by_text("curl -XPUT")).to_be_hidden()
    expect(form.get_by_text("Shown when rating and clock are whole.")).to_have_count(2)
    page.get_by_label("Rating", exact=True).fill("4")
    expect(form.get_by_text('"rating": 4')).to_be_visible()


# ---- a trace


def rows_of(page):
    """The events of the diagram in words, in their order."""
    return [event.get_attribute("aria-label") for event in page.locator(".diagram .event").all()]


@pytest.fixture
def quiet_ring(up, rate):
    """Nothing waits in the queue, and one more write to db0 fills its digest."""

    def status(port):
        return requests.get(f"http://127.0.0.1:{port}/status", timeout=CALL_S).json()

    def nothing_waits():
        for index in range(NDB):  # a shard takes what waits for it when it is asked for something
            requests.get(f"http://127.0.0.1:{up.layout.db(index)}/rating/anything", timeout=CALL_S)
        return not any(status(up.layout.q)["channels"].values())

    def one_is_missing():
        return status(up.layout.db(0))["digest"] == 1 or rate(teas_of(0, 1, "filler")[0]) is None

    eventually(nothing_waits, "no gossip waits in the queue")
    eventually(one_is_missing, "the digest of db0 has one record")


@pytest.fixture
def lab_page(visits):
    """The lab; afterwards gossip moves as before."""
    page = visits.open("/#break")
    yield page
    page.get_by_role("button", name="Play on").click()
    expect(page.get_by_text("Not held")).to_be_visible()


def test_a_write_is_followed_round_the_ring_one_record_at_a_time(visits, quiet_ring, lab_page, rate):
    (tea,) = teas_of(0, 1, "way")
    page = visits.go("#trace")
    lab_page.get_by_role("button", name="Hold gossip").click()
    expect(lab_page.get_by_text("Held: nothing moves until you let it")).to_be_visible()

    rate(tea, c0=9)
    page.get_by_role("link", name=re.compile(tea)).click()
    events = page.locator(".diagram")
    expect(events.locator(".event", has_text="received PUT")).to_have_count(1)
    expect(events.get_by_role("img", name="The load balancer answered 200")).to_have_count(1)
    expect(events.locator(".event", has_text="put db0")).to_have_count(1)
    assert "{c0:9}" in events.text_content()
    assert not any("heard" in row for row in rows_of(page))

    behind = visits.open(f"/#tea/{tea}")
    expect(behind.locator(".replica", has_text="behind the primary")).to_have_count(NDB - 1)
    expect(behind.get_by_text("Behind: db1, db2.")).to_be_visible()

    said = lab_page.locator(".lab-view .answer")
    lab_page.get_by_role("button", name="Let one through").click()
    expect(said).to_contain_text("let through on db0")
    expect(said).not_to_contain_text(tea)
    assert not any("heard" in row for row in rows_of(page))
    lab_page.get_by_role("button", name="Let one through").click()
    expect(said).to_contain_text(tea)
    expect(events.locator(".event", has_text="heard db0")).to_have_count(1)
    expect(behind.locator('[data-shard="db1"]')).to_contain_text("has what the primary has")
    expect(behind.locator('[data-shard="db2"]')).to_contain_text("behind the primary")
    keep_picture(page, "trace-live")


def test_what_happened_while_another_view_was_open_is_in_the_trace(visits, quiet_ring, lab_page, rate):
    (tea,) = teas_of(0, 1, "unwatched")
    lab_page.get_by_role("button", name="Hold gossip").click()
    expect(lab_page.get_by_text("Held: nothing moves until you let it")).to_be_visible()
    request = rate(tea, c0=9).headers["X-Request-ID"]
    page = visits.go(f"#trace/{request}")
    expect(page.locator(".diagram .event", has_text="put db0")).to_have_count(1)

    visits.go("#ring")
    said = lab_page.locator(".lab-view .answer")
    for told in ("let through on db0", tea):
        lab_page.get_by_role("button", name="Let one through").click()
        expect(said).to_contain_text(told)
    expect(page.locator(".events")).to_contain_text(f"db1 read {tea}")
    visits.go(f"#trace/{request}")

    expect(page.locator(".diagram .event", has_text="heard db0")).to_have_count(1)


def test_the_list_of_writes_does_not_move_under_the_pointer(visits, rate):
    rate("pointed-at")
    page = visits.go("#trace")
    newest = page.locator(".trace-view .tea-list a").first
    expect(newest).to_contain_text("pointed-at")

    newest.hover()
    rate("meanwhile")
    expect(page.get_by_text("The list waits while the pointer is on it.")).to_be_visible()
    assert "pointed-at" in newest.text_content()
    page.mouse.move(0, 0)

    expect(newest).to_contain_text("meanwhile")


def test_a_write_is_found_that_is_none_of_the_newest_and_so_is_nothing(visits, rate):
    rate("old-needle")
    page = visits.blank()
    page.route("**/api/writes?max=50&find=", lambda route: route.fulfill(json={"writes": []}))
    page.goto(f"{visits.origin}/#trace")
    expect(page.get_by_text("No write yet.")).to_be_visible()

    page.get_by_label("Find a write").fill("LD-NEEDLE")
    expect(page.locator(".trace-view .tea-list a")).to_contain_text(["old-needle"])
    expect(page.get_by_text("1 write with “LD-NEEDLE”, of all that are kept")).to_be_visible()
    page.get_by_label("Find a write").fill("never-written")

    expect(page.get_by_text("Nothing found: no write that is kept has “never-written”")).to_be_visible()
    expect(page.locator(".trace-view .tea-list a")).to_have_count(0)


def test_a_trace_names_who_no_longer_has_all_of_it(visits, rate):
    request = rate("half-forgotten").headers["X-Request-ID"]
    page = visits.go("#trace")

    def forget(route):
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "forgetful": ["db1"]})

    page.route("**/api/trace/*", forget)
    visits.go(f"#trace/{request}")

    expect(page.get_by_text("Perhaps not whole: db1 forgot some of it, or began anew since.")).to_be_visible()
    page.unroute("**/api/trace/*")


def test_a_request_that_nobody_knows_leaves_nothing_of_the_one_before(visits, rate):
    request = rate("known", 2, c0=3).headers["X-Request-ID"]
    page = visits.go(f"#trace/{request}")
    expect(page.get_by_role("heading", name="The way of known")).to_be_visible()

    visits.go("#trace/of-nobody")

    expect(page.get_by_text("nobody has events of this request")).to_be_visible()
    expect(page.get_by_role("heading", name="The way of known")).to_have_count(0)
    expect(page.get_by_role("button", name="Save as")).to_have_count(0)
    expect(page.get_by_text("The same as a table")).to_be_hidden()
    visits.errors.clear()  # the browser complains of the 404


def test_a_trace_is_read_with_the_keyboard_and_as_a_table(visits, rate):
    request = rate("spoken", 2, c0=3).headers["X-Request-ID"]
    page = visits.go(f"#trace/{request}")

    page.locator(".diagram .event").first.focus()
    expect(page.locator(".event-words")).to_contain_text("The load balancer received PUT for spoken: 2 at {c0:3}")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".event-words")).to_contain_text("The load balancer sent spoken to")
    page.get_by_text("The same as a table").click()

    table = page.get_by_role("region", name="The events in their order")
    expect(table.get_by_role("row", name=re.compile("received PUT"))).to_contain_text("{c0:3}")


def test_a_trace_is_saved_and_opened_again(visits, rate, tmp_path):
    request = rate("kept", 2, c0=3).headers["X-Request-ID"]
    page = visits.go(f"#trace/{request}")
    expect(page.get_by_role("img", name="The load balancer answered 200")).to_have_count(1)

    with page.expect_download() as drawing:
        page.get_by_role("button", name="Save as SVG").click()
    drawing.value.save_as(tmp_path / "drawing.svg")
    with page.expect_download() as run:
        page.get_by_role("button", name="Save as JSON").click()
    run.value.save_as(tmp_path / "run.json")

    assert run.value.suggested_filename == f"trace-kept-{request}.json"
    text = (tmp_path / "drawing.svg").read_text()
    svg = ElementTree.fromstring(text)
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert "{c0:3}" in "".join(svg.itertext())
    assert ".lane-line" in text
    assert not re.search(r"""(href|src)=|url\((?!#)""", text)

    recorded = json.loads((tmp_path / "run.json").read_text())
    recorded["tea"], recorded["request"] = "of-another-day", "recorded"
    (tmp_path / "run.json").write_text(json.dumps(recorded))
    page.get_by_label("Open a recorded run").set_input_files(tmp_path / "run.json")
    expect(page.get_by_text("A recorded run, from the file run.json")).to_be_visible()
    expect(page.get_by_role("heading", name="The way of of-another-day")).to_be_visible()
    expect(page.locator(".diagram .event")).to_have_count(len(recorded["events"]))

    (tmp_path / "none.json").write_text("[1, 2]")
    page.get_by_label("Open a recorded run").set_input_files(tmp_path / "none.json")
    expect(page.locator(".trace-view").get_by_text("This file is no recorded run")).to_be_visible()

    alone = visits.blank(LAPTOP)
    alone.goto(f"file://{tmp_path}/drawing.svg")
    keep_picture(alone, "trace-saved")


def test_lanes_keep_their_names_and_events_their_times_while_a_long_diagram_is_scrolled(visits, tmp_path):
    lanes = ["lb", *(f"{kind}{index}" for index in range(16) for kind in ("db", "r")), "q"]
    events = [{"event": "heard", "service": lane, "lane": lane, "at": 0.1 * at} for at, lane in enumerate(3 * lanes)]
    (tmp_path / "long.json").write_text(json.dumps({"tea": "long", "lanes": lanes, "events": events}))
    page = visits.go("#trace")
    page.get_by_label("Open a recorded run").set_input_files(tmp_path / "long.json")
    frame = page.get_by_role("region", name="Space-time diagram")
    expect(frame.locator(".event")).to_have_count(len(events))

    frame.evaluate("frame => frame.scrollTo(frame.scrollWidth, frame.scrollHeight)")

    seen = frame.evaluate(TEXTS_IN_VIEW)
    assert {"r15", "queue"} <= {*seen["diagram-heads"]}
    assert "+10.1 s" in seen["diagram-times"]
    assert seen["diagram-corner"] == ["time ↓"]
    assert "lb" not in seen["diagram-heads"]
    keep_picture(page, "trace-long")


# ---- what dies while someone watches


def test_what_is_killed_or_hangs_says_so_within_3_s_and_in_the_first_state_of_a_new_page(visits):
    breaking, page = visits.open("/#break"), visits.go("#ring")
    expect_state(page, "db1", "up")

    lab(breaking, "db1", "Kill")
    expect_state(page, "db1", "down", within_s=3)
    expect(page.locator("#health")).to_contain_text("Trouble")
    expect(page.locator("#health")).to_contain_text("db1 down")
    expect(page.locator("#health")).to_contain_text("2 of 3")
    expect(page.locator("#announcer")).to_contain_text("db1 is down")
    keep_picture(page, "ring-down")

    new = visits.blank()
    new.route("**/api/stream", lambda route: route.abort())
    new.goto(visits.origin)
    expect_state(new, "db1", "down")
    expect(new.locator(".events")).to_have_text("Nothing yet.")
    expect(new.get_by_role("alert")).to_contain_text("Stale")
    new.context.close()
    visits.errors.clear()  # the browser complains of the stream that this test withheld

    lab(breaking, "r0", "Stop")
    expect(page.locator("#health")).to_contain_text("1 of 3")
    expect(part(page, "db0").locator(".redis")).to_have_text(re.compile("r0 slow"))
    lab(breaking, "db2", "Stop")
    lab(breaking, "r0", "Kill")
    lab(breaking, "q", "Kill")
    expect_state(page, "db2", "slow")
    expect(part(page, "db0").locator(".redis")).to_have_text(re.compile("r0 down"))
    expect(page.locator(".ring .hub .word")).to_have_text("down")
    expect(page.locator(".ring .channel").first).to_contain_text("unknown")
    keep_picture(page, "ring-trouble")

    for name in ("q", "r0", "db2", "db1"):
        lab(breaking, name, "Start")
    for index in range(NDB):
        expect_state(page, f"db{index}", "up", within_s=20)
    expect(page.locator("#health")).to_contain_text("Healthy", timeout=20_000)


def test_each_button_of_the_lab_has_its_command_beside_it(visits, up):
    page = visits.go("#break")
    base = f" --port-base {up.layout.base}"

    def command(label):
        button = page.get_by_role("button", name=label, exact=True)
        return button.locator("xpath=following-sibling::*").locator("code").text_content()

    expect(page.locator(".lab-grid > li")).to_have_count(2 * NDB + 2)
    assert command("Hold gossip") == f"./tea hold{base}"
    assert command("Let one through") == f"./tea step{base}"
    assert command("Play on") == f"./tea play{base}"
    assert command("Kill db2") == f"./tea break db2{base}"
    assert command("Stop r1") == f"./tea break r1 --stop{base}"
    assert command("Start q") == f"./tea mend q{base}"
    assert command("Kill lb") == f"./tea break lb{base}"


def test_a_page_says_since_when_it_is_stale_and_comes_back_by_itself(visits, up):
    page = visits.go("#ring")
    expect_state(page, "db0", "up")

    psutil.Process(up.pid_of("view")).kill()
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"Stale: the stream was cut at \d\d:\d\d:\d\d"))
    expect(page.locator(".verdict").get_by_text("Last known:")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden(timeout=20_000)
    visits.errors.clear()  # the browser complains of the view that was gone

    expect(page.locator("#announcer")).to_have_text("The stream is back.")
    expect(page.locator(".verdict").get_by_text("Last known:")).to_be_hidden()


# ---- the API


def test_the_api_of_each_service_is_readable_without_another_machine(visits):
    page = visits.open("/docs")

    for service in ("Load balancer", "Shard", "Queue", "Log", "View"):
        page.get_by_role("link", name=service, exact=True).click()
        expect(page.locator(".operation").first).to_be_visible()
        expect(page.get_by_role("link", name=service, exact=True)).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="Load balancer", exact=True).click()
    page.locator("summary", has_text="PUT").first.click()

    expect(page.locator(".operation[open]")).to_contain_text("clock")
    expect(page.locator(".operation[open]")).to_contain_text("409")
    assert page.evaluate(TOO_WIDE_PX) == 0
    keep_picture(page, "docs-laptop")

    page.locator("summary", has_text="GET").first.click()
    expect(page.locator(".operation[open]", has_text="X-Clock").first).to_contain_text("object")
    page.get_by_role("link", name="Break it").click()
    expect(page.get_by_role("button", name="Hold gossip")).to_be_visible()


def test_the_tab_of_a_view_leads_back_to_what_was_open_there(visits, rate):
    rate("way-back", 3, c0=1)
    page = visits.go("#tea/way-back")
    page.get_by_role("link", name="Ring", exact=True).click()
    page.get_by_role("link", name="Tea", exact=True).click()

    expect(page.get_by_role("heading", name="way-back")).to_be_visible()
    assert page.url.endswith("#tea/way-back")


# ---- for everybody


def test_every_view_fits_a_phone_a_laptop_and_a_projector(visits, rate):
    request = rate("seen", 4, c0=2).headers["X-Request-ID"]
    rate("seen", 1, c1=2)
    page = visits.go("#ring")
    for name, ready in {**VIEWS, f"trace/{request}": ".diagram .event"}.items():
        page = visits.go(f"#{name}")
        expect(page.locator(ready).first).to_be_visible()
        for screen, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            expect(page.locator(ready).first).to_be_visible()

            # A drawing is made anew for each width.
            eventually(lambda page=page: page.evaluate(TOO_WIDE_PX) == 0, f"{name} fits a {screen}")
            if name == "ring":
                page.wait_for_function(RING_FITS)
                assert page.evaluate(TEXTS_OUT_OF_FRAME) == [], f"{name} on a {screen}"
            if screen != "small phone":
                keep_picture(page, f"{name.partition('/')[0]}-{screen}", full_page=screen == "phone")
    page.set_viewport_size({"width": LAPTOP[0], "height": LAPTOP[1]})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_by_day_and_by_night(visits, scheme):
    page = visits.go("#ring")
    page.emulate_media(color_scheme=scheme)

    for name, ready in VIEWS.items():
        page = visits.go(f"#{name}")
        expect(page.locator(ready).first).to_be_visible()
        assert page.evaluate(FAINT_TEXTS) == [], name
        keep_picture(page, f"{name.partition('/')[0]}-{scheme}")
    page.emulate_media(color_scheme="no-preference")


def test_all_of_it_can_be_done_with_the_keyboard(visits, rate):
    page = visits.open("/")
    expect_state(page, "db0", "up")

    tab_to(page, ".ring [data-name]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    chosen = page.evaluate("document.activeElement.dataset.name")
    expect(page.get_by_role("region", name="What is chosen").get_by_role("heading", name=chosen)).to_be_visible()
    page.keyboard.press("Escape")

    page.reload()
    tab_to(page, '.tabs a[data-view="tea"]')
    page.keyboard.press("Enter")
    tab_to(page, "#tea-name")
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="typed")).to_be_visible()
    tab_to(page, "#rating")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("4.5")
    tab_to(page, "form.write button.main")
    page.keyboard.press("Enter")
    expect(page.locator("form.write .told")).to_contain_text("✓ 200 stored")
    tab_to(page, 'form.write .told a[href^="#trace/"]')
    page.keyboard.press("Enter")
    expect(page.locator(".diagram .event", has_text="received PUT")).to_have_count(1)
    tab_to(page, "#recorded")
    tab_to(page, ".diagram .event")
    page.keyboard.press("End")
    expect(page.locator(".event-words")).to_contain_text(
        page.evaluate("document.activeElement.querySelector('title').textContent")
    )


def test_an_address_that_names_no_view_shows_the_ring(visits):
    for place in ("#nonsense", "#__proto__", "#constructor"):
        page = visits.go(place)

        expect(page.locator(".ring")).to_be_visible()
    expect(page).to_have_title("Ring · The Tea Emporium")


def test_the_link_that_skips_the_bar_leaves_the_view_as_it_is(visits):
    for path, seen in (("/#tea/skipped", "skipped"), ("/docs#q", "The API of each service")):
        page = visits.open(path)
        expect(page.get_by_role("heading", name=seen)).to_be_visible()

        page.keyboard.press("Tab")
        page.keyboard.press("Enter")

        assert page.evaluate("document.activeElement.id") == "content"
        assert page.url == visits.origin + path


def test_the_focus_stays_while_lists_and_tables_are_told_anew(visits, rate):
    rate("focus-1")
    page = visits.go("#tea")
    page.locator("#tea-name").fill("focus-")
    page.get_by_role("link", name="focus-1").focus()

    rate("focus-2")
    expect(page.get_by_role("link", name="focus-2")).to_be_visible(timeout=10_000)
    assert "focus-1" in page.evaluate("document.activeElement.textContent")
    page.locator("#tea-name").fill("")

    page = visits.go("#ring")
    expect(page.locator(".ring")).to_be_visible()
    frame = page.get_by_role("region", name="Shards")
    if not frame.is_visible():
        page.get_by_text("The same as tables").click()
    frame.focus()
    teas = frame.get_by_role("row", name=re.compile("^db0")).get_by_role("cell").nth(2)
    before = teas.text_content()
    rate(teas_of(0, 1, "another")[0])
    expect(teas).not_to_have_text(before)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Shards"


# ---- rules of the pages that need no cluster: they run in the browser, as they are


def test_the_clock_of_the_button_is_newer_than_all_and_as_small_as_can_be(visits, chance):
    page = visits.go("#ring")
    clocks = [{f"c{chance.randrange(4)}": chance.randrange(5) for _ in range(3)} for _ in range(5)]

    made = page.evaluate(
        "async (clocks) => (await import('/static/clockedit.js')).newerThanAll(clocks, 'c1')",
        clocks,
    )

    join = VectorClock.converge(VectorClock.fromDict(clock) for clock in clocks)
    assert VectorClock.fromDict(made) > join
    assert VectorClock.fromDict({**made, "c1": made["c1"] - 1}) <= join or made["c1"] == 1
    assert {**made, "c1": None} == {**join.asDict(), "c1": None}


def test_a_name_that_can_count_no_further_gives_way_to_another(visits):
    page = visits.go("#ring")
    clocks = [{"c0": 2**53 - 1, "c1": 4}, {"c0-2": 2**53 - 1}]

    made = page.evaluate("async (clocks) => (await import('/static/clockedit.js')).newerThanAll(clocks, 'c0')", clocks)

    assert made == {"c0": 2**53 - 1, "c0-2": 2**53 - 1, "c0-3": 1, "c1": 4}


def test_time_is_squeezed_and_never_turned_round(visits, chance):
    page = visits.go("#ring")
    times = [0.0]
    for _ in range(50):
        times.append(times[-1] + chance.choice([0, 1e-6, 1e-3, 0.2, 30]))

    scale = page.evaluate("async (times) => (await import('/static/timescale.js')).timeScale(times, 20, 5)", times)

    steps = [later - sooner for sooner, later in zip(scale["places"], scale["places"][1:], strict=False)]
    assert min(steps) > 20 - 1e-9
    assert max(steps) < 20 + 5 * 8
    assert all(gap["seconds"] >= 0.05 for gap in scale["gaps"])


# Draws a trace, and tells which of its words are cut, and which lie on others.
BAD_WORDS = """async ([trace, width]) => {
  const { drawDiagram } = await import("/static/diagram.js");
  const drawing = drawDiagram(trace, width, 16, () => {});
  document.body.append(drawing);
  const all = drawing.getBoundingClientRect();
  const texts = [...drawing.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
  const cut = texts.filter(([, box]) => box.left < all.left || box.right > all.right).map(([words]) => words);
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  const on = texts.flatMap(([words, box], index) =>
    texts.slice(index + 1).filter(([, other]) => meet(box, other)).map(([others]) => [words, others]));
  drawing.remove();
  return [cut, on];
}"""


@pytest.mark.parametrize("width", [320, 940, 1500])
@pytest.mark.parametrize("siblings", [1, 12])
def test_no_words_of_a_diagram_are_cut_or_lie_on_others(visits, width, siblings):
    told = {"choices": [3] * siblings, "clocks": [{f"somebody-{index}": 2**53 - 1} for index in range(siblings)]}
    steps = [("taken", "q", "q"), ("heard", "db0", "db0"), ("merged", "db0", "db0"), ("stored", "db0", "r0")]
    steps = [*steps, ("told", "db0", "db0"), ("put", "q", "q")]
    events = [
        {"event": event, "service": service, "lane": lane, "at": 1e-6 * index, "channel": "db0", **told}
        for index, (event, service, lane) in enumerate(steps)
    ]
    arrows = [{"from": begin, "to": end} for begin, end in ((0, 1), (2, 3), (4, 5))]
    lanes = ["lb", "db0", "r0", "db1", "r1", "db2", "r2", "db3", "r3", "q"]
    page = visits.go("#trace")

    assert page.evaluate(BAD_WORDS, [{"lanes": lanes, "events": events, "arrows": arrows}, width]) == [[], []]


def test_the_bar_tells_only_what_is_known(visits):
    page = visits.go("#ring")
    shard = {"name": "db0", "state": "up", "due": 0, "lag_s": 0}
    queue = {"name": "q", "state": "down", "channels": [{"name": "db0", "depth": None, "oldest_age_s": None}]}
    state = {"shards": [shard], "redis": [], "queue": queue, "held": False}

    health = page.evaluate("async (state) => (await import('/static/health.js')).healthOf(state)", state)

    assert health["verdict"] == "Trouble"
    assert not health["isKnown"]


UP, DOWN = {"state": "up", "answer_ms": 1}, {"state": "down", "answer_ms": None}
LATE, HANGING = {"state": "slow", "answer_ms": 300}, {"state": "slow", "answer_ms": None}
TOLD, UNTOLD, SILENT = ({"keys": 7, "digest_length": 2}, {"keys": None, "digest_length": 2}, {"keys": None})


def test_a_shard_serves_while_its_redis_answers_it(visits):
    page = visits.go("#ring")
    standings = [
        (UP, SILENT, 1),
        (LATE, SILENT, 1),
        (HANGING, SILENT, 0),
        (DOWN, SILENT, 0),
        # A shard knows best, where it tells: a look of the view may be late as the view itself is.
        (HANGING, TOLD, 1),
        (HANGING, UNTOLD, 0),
        (UP, UNTOLD, 0),
    ]
    states = [
        {
            "shards": [{"name": "db0", "state": "up", "due": 0, "lag_s": 0, **told}],
            "redis": [{"name": "r0", **redis}],
            "queue": {"name": "q", "state": "up", "channels": []},
            "held": False,
        }
        for redis, told, _ in standings
    ]

    healths = page.evaluate(
        "async (states) => states.map((await import('/static/health.js')).healthOf)",
        states,
    )

    assert [each["serving"] for each in healths] == [serving for _, _, serving in standings]
    assert {each["shards"] for each in healths} == {1}


def test_teas_with_siblings_are_counted_by_what_their_primaries_write(visits):
    page = visits.go("#ring")
    merged = {"event": "merged", "tea": "oolong", "service": "db0", "primary": "db0", "outcome": "stored"}
    events = [
        {**merged, "choices": [1, 4]},
        {**merged, "choices": [3]},
        {**merged, "choices": [3], "outcome": "home"},
        {**merged, "choices": [3], "service": "db1", "outcome": "changed"},
    ]

    told = page.evaluate(
        "async (events) => events.map((await import('/static/siblingcount.js')).leavesSiblings)",
        events,
    )

    assert told == [True, False, None, None]


def test_teas_with_siblings_are_counted_anew_when_the_list_can_be_had(visits, rate):
    page = visits.blank()
    page.route("**/api/teas?max=1000", lambda route: route.abort())
    page.goto(visits.origin)
    siblings = page.locator("#health .facts div", has_text="siblings").locator("dd")
    expect(siblings).to_have_text("not known")
    expect(page.locator("body")).not_to_have_class(re.compile("is-stale"))

    rate("two-of-them", 1, a=1)
    rate("two-of-them", 2, b=1)
    expect(page.locator(".events")).to_contain_text("two-of-them")
    assert siblings.text_content() == "not known"

    page.unroute("**/api/teas?max=1000")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(siblings).to_have_text(re.compile(r"\d+ teas?"))
    visits.errors.clear()  # the browser complains of the list that this test withheld


def test_a_name_written_from_right_to_left_leaves_the_words_in_their_order(visits):
    page = visits.go("#ring")
    event = {"service": "db1", "event": "heard", "tea": "\u202ecod", "channel": "db0"}

    told = page.evaluate("async (event) => (await import('/static/words.js')).inWords(event)", event)

    assert told == "db1 heard of \u2068\u202ecod\u2069 on channel db0"


def test_no_part_of_the_ring_covers_another(visits):
    page = visits.go("#ring")

    for count, width in product((2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16), (328, 360, 600, 700, 852, 1400)):
        layout = page.evaluate(
            "async ([count, width]) => (await import('/static/ringlayout.js')).ringLayout(count, width, 16)",
            [count, width],
        )
        pairs = [*combinations(layout["channels"], 2), *combinations(layout["shards"], 2)]
        pairs += product(layout["shards"], [layout["lb"]])
        hub = layout["hub"]
        if count > 6 and width > 640:
            around = {"x": hub["x"], "y": hub["y"], "w": 2 * hub["r"], "h": 2 * hub["r"]}
            pairs += product([*layout["channels"], *layout["shards"]], [around])
            pairs += product(layout["channels"], layout["shards"])
        elif count >= 10:
            assert all(abs(each["y"] - hub["y"]) >= hub["r"] + each["h"] / 2 for each in layout["channels"])
        for one, other in pairs:
            beside, below = abs(one["x"] - other["x"]), abs(one["y"] - other["y"])
            apart = beside >= (one["w"] + other["w"]) / 2 - 1 or below >= (one["h"] + other["h"]) / 2 - 1
            assert apart, f"{count} shards in {width} px: {one} and {other}"


def test_a_large_ring_fits_its_page_and_its_words_their_boxes(visits):
    page = visits.blank()
    page.route("**/api/stream", lambda route: route.fulfill(body="retry: 60000\n\n", content_type="text/event-stream"))

    for count, screens in ((4, ["phone"]), (10, ["laptop"]), (16, ["projector", "phone"])):
        page.route(f"{visits.origin}/", answering_with(large(count)))
        page.goto(visits.origin)
        expect(page.locator(".ring .shard")).to_have_count(count)
        for screen in screens:
            width, height = SIZES[screen]
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_function(RING_FITS)

            assert page.evaluate(TEXTS_OUT_OF_FRAME) == [], f"{count} on a {screen}"
            assert page.evaluate(TOO_WIDE_PX) == 0
            if screen != "phone":
                assert page.evaluate("document.documentElement.scrollHeight") <= height, f"{count} on a {screen}"
            keep_picture(page, f"ring-of-{count}-{screen}", full_page=screen == "phone")


def answering_with(state):
    """A route of a page that begins with this state."""

    def answer(route):
        begin, mark, rest = route.fetch().text().partition('id="first-state">')
        route.fulfill(body=begin + mark + json.dumps(state) + rest[rest.index("</script>") :], content_type="text/html")

    return answer


def large(count):
    """A state of so many shards with long words: a great deal waits, and the last shard is in trouble."""
    up, bad = {"state": "up", "note": None, "answer_ms": 1}, {"state": "recovering", "note": None, "answer_ms": 1}
    of_shard = {"keys": 1, "digest": 1, "digest_length": 2}
    names = range(count)
    return {
        "n": 1,
        "at": 1,
        "ndb": count,
        "digest_length": 2,
        "lab": False,
        "held": False,
        "lb": {"name": "lb", "url": "http://localhost", "requests": 123456, **up},
        "queue": {
            "name": "q",
            "durable": True,
            "channels": [{"name": f"db{index}", "depth": 12345, "oldest_age_s": 125} for index in names],
            **up,
        },
        "shards": [
            {"name": f"db{index}", "index": index, **(up if index + 1 < count else bad), **of_shard} for index in names
        ],
        "redis": [
            {"name": f"r{index}", "keys": 1, **up, "state": "up" if index + 1 < count else "down"} for index in names
        ],
    }
