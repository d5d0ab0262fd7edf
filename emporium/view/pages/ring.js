// The ring: shards, the queue between them, the load balancer and each Redis, as a drawing and as a table.

import { el, fill, fold, renew, renewTables, rove, say, svg, table } from "./dom.js";
import { createDots } from "./dots.js";
import { count, seconds, timeOfDay } from "./format.js";
import { badge } from "./marks.js";
import { digestOf, drawChannel, drawHub, drawLoadBalancer, drawShard } from "./ringparts.js";
import { ringLayout } from "./ringlayout.js";
import { inWords } from "./words.js";

const EVENTS_SHOWN = 9;

export function createRing({ store }) {
  const title = svg("title", { id: "ring-title" }, "The ring of shards");
  const description = svg("desc", { id: "ring-description" });
  const drawing = svg("svg", {
    class: "ring",
    role: "group",
    "aria-labelledby": "ring-title",
    "aria-describedby": "ring-description",
  });
  const frame = el("div", { class: "ring-frame" }, drawing);
  const details = el("section", { class: "panel", "aria-label": "What is chosen", "aria-live": "off" });
  const events = el("ol", { class: "events" }, el("li", { class: "quiet" }, "Nothing yet."));
  const asTable = el("div", {});
  const dots = createDots();
  let parts = null;
  let drawn = "";
  let chosen = null;

  function choose(name) {
    chosen = name;
    if (store.state) showDetails(store.state);
    for (const card of drawing.querySelectorAll("[data-name]"))
      card.classList.toggle("is-chosen", card.dataset.name === name);
  }

  function draw(state) {
    const width = frame.clientWidth;
    if (width === 0) return;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const key = `${state.shards.length} ${width} ${rem}`;
    if (key === drawn) return;
    drawn = key;
    const layout = ringLayout(state.shards.length, width, rem);
    drawing.setAttribute("viewBox", `0 0 ${layout.width} ${layout.height}`);
    const shards = layout.shards.map((place, index) => drawShard(place, layout, `db${index}`, choose));
    const channels = layout.channels.map((place, index) => drawChannel(place, layout, `db${index}`));
    const hub = drawHub(layout, choose);
    const lb = drawLoadBalancer(layout, choose);
    parts = { shards, channels, hub, lb };
    fill(
      drawing,
      title,
      description,
      arrowHead(),
      layout.shards.map((place) => svg("path", { class: "sent-line", d: place.sent })),
      channels.map((channel) => channel.lines),
      hub.element,
      channels.map((channel) => channel.element),
      lb.element,
      shards.map((shard) => shard.element),
      dots.layer,
    );
    dots.follow(layout, channels);
    drawing.querySelector("[data-name]")?.setAttribute("tabindex", "0");
    choose(chosen);
  }

  function show(state) {
    draw(state);
    if (!parts) return;
    state.shards.forEach((shard, index) => parts.shards[index].show(shard, state.redis[index]));
    const byName = new Map((state.queue?.channels ?? []).map((channel) => [channel.name, channel]));
    parts.channels.forEach((channel, index) => channel.show(byName.get(`db${index}`), state.queue));
    parts.hub.show(state.queue, state.held);
    parts.lb.show(state.lb);
    say(description, describe(state));
    showDetails(state);
    renewTables(asTable, ringTable(state), channelTable(state), othersTable(state));
  }

  function showDetails(state) {
    const now = chosen ?? "";
    const known = detailsOf(state, now);
    renew(details, el("h2", {}, known ? now : "Choose a part of the ring"), known ?? hint());
  }

  const element = el(
    "section",
    { class: "view ring-view" },
    el("h1", { class: "unseen" }, "The ring"),
    el(
      "div",
      { class: "with-side" },
      frame,
      el(
        "aside",
        { class: "side" },
        details,
        el(
          "section",
          { class: "panel", "aria-label": "What just happened" },
          el("h2", {}, "What just happened"),
          events,
        ),
      ),
    ),
    fold("The same as tables", asTable),
  );
  rove(drawing, "[data-name]");
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") choose(null);
  });
  new ResizeObserver(() => store.state && show(store.state)).observe(frame);
  store.hearAging((state) => !element.hidden && show(state));
  store.hearTrace((told) => {
    if (told.length) events.querySelector(".quiet")?.remove();
    for (const event of told.slice(-EVENTS_SHOWN)) {
      events.prepend(el("li", {}, el("time", {}, timeOfDay(event.at, 2)), " ", inWords(event)));
    }
    while (events.children.length > EVENTS_SHOWN) events.lastChild.remove();
    if (!element.hidden && document.visibilityState === "visible") dots.fly(told);
  });
  return { element, enter: () => store.state && show(store.state), leave: () => dots.clear() };
}

function arrowHead() {
  const marker = {
    id: "ring-arrow",
    viewBox: "0 0 10 10",
    refX: 8,
    refY: 5,
    markerWidth: 8,
    markerHeight: 8,
    orient: "auto-start-reverse",
  };
  return svg("defs", {}, svg("marker", marker, svg("path", { class: "arrow-head", d: "M0 0.8L10 5L0 9.2z" })));
}

function hint() {
  return el(
    "p",
    {},
    "Click a shard, the queue or the load balancer, or reach the drawing with Tab and go round it with the arrow keys. Enter shows all that is known of it, Escape closes it.",
  );
}

/** The drawing in words. */
function describe(state) {
  const ring = state.shards.map((shard) => `${shard.name} ${shard.state}`).join(", ");
  return `Each shard tells the next one through a channel of the queue. Load balancer ${state.lb?.state}, queue ${state.queue?.state}; ${ring}.`;
}

function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "dl",
    { class: "pairs" },
    told.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
}

function detailsOf(state, name) {
  if (state.lb?.name === name) {
    return facts([...common(state.lb), ["requests so far", state.lb.requests]]);
  }
  if (state.queue?.name === name) {
    const waits = state.queue.channels.filter((channel) => channel.depth);
    return facts([
      ...common(state.queue),
      ["keeps", isNothing(state.queue.durable) ? null : state.queue.durable ? "on disk" : "in memory"],
      ["gossip", state.held ? "is held" : null],
      ["waiting", waits.map((channel) => `${count(channel.depth, "record")} on ${channel.name}`).join(", ")],
    ]);
  }
  const shard = state.shards.find((one) => one.name === name);
  if (!shard) return null;
  const redis = state.redis[shard.index];
  const breakers = Object.entries(shard.breakers ?? {}).map(([who, why]) => `${who}: ${why}`);
  return el(
    "div",
    {},
    facts([
      ...common(shard),
      ["teas stored", shard.keys],
      ["requests", isNothing(shard.requests_per_s) ? null : `${Math.round(shard.requests_per_s)} a second`],
      ["digest", digestOf(shard)],
      ["due to the queue", isNothing(shard.due) ? null : count(shard.due, "record")],
      ["something due for", shard.due && !isNothing(shard.lag_s) ? seconds(shard.lag_s) : null],
      ["tells", shard.successor],
      ["hears", shard.predecessor],
      ["epoch", shard.epoch],
      ["leaves alone", breakers.join("; ")],
    ]),
    redis ? el("h3", {}, redis.name) : null,
    redis ? facts([...common(redis), ["keys", redis.keys]]) : null,
  );
}

function common(service) {
  return [
    ["state", badge(service.state)],
    ["note", service.note],
    ["address", service.url ? el("code", {}, service.url) : null],
    ["answered in", isNothing(service.answer_ms) ? null : seconds(service.answer_ms / 1000)],
  ];
}

function ringTable(state) {
  const rows = state.shards.map((shard) => {
    const redis = state.redis[shard.index];
    return [
      shard.name,
      badge(shard.state),
      shard.note ?? "",
      text(shard.keys),
      isNothing(shard.requests_per_s) ? "" : `${Math.round(shard.requests_per_s)}/s`,
      digestOf(shard),
      text(shard.due),
      shard.due && !isNothing(shard.lag_s) ? seconds(shard.lag_s) : "",
      redis ? badge(redis.state, `${redis.name} ${redis.state}`) : "",
    ];
  });
  return table("Shards", ["shard", "state", "note", "teas", "requests", "digest", "due", "lag", "Redis"], rows);
}

function channelTable(state) {
  const rows = (state.queue?.channels ?? []).map((channel) => [
    channel.name,
    isNothing(channel.depth) ? "unknown" : count(channel.depth, "record"),
    isNothing(channel.oldest_age_s) ? "" : seconds(channel.oldest_age_s),
  ]);
  return table(`Queue ${state.queue?.state ?? "unknown"}`, ["channel", "waiting", "oldest"], rows);
}

function othersTable({ lb, queue, held }) {
  const kept = isNothing(queue?.durable) ? "" : queue.durable ? "keeps gossip on disk" : "keeps gossip in memory";
  const rows = [
    ["load balancer", lb, isNothing(lb?.requests) ? "" : `${count(lb.requests, "request")} so far`],
    ["queue", queue, held ? "gossip is held" : kept],
  ];
  return table(
    "Load balancer and queue",
    ["service", "state", "note", "besides"],
    rows.filter(([, service]) => service).map(([name, { state, note }, more]) => [name, badge(state), note ?? "", more]),
  );
}

function text(value) {
  return isNothing(value) ? "" : String(value);
}

function isNothing(value) {
  return value === null || value === undefined;
}
