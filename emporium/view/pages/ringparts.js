// The parts of the ring's drawing. Each is drawn once, and then shows states.

import { svg, say } from "./dom.js";
import { count, seconds } from "./format.js";
import { known, shape } from "./marks.js";

const CELLS = 8; // at most so many squares stand for what waits
const HUB_FULL = 60; // so large, the queue has room for all of its words
const CARD_FULL = 110; // so wide, a shard has room for every state in letters of the usual size
const LINE_FULL = 90; // so wide, a channel has room for its name and how many wait on one line
const SHORT = { recovering: "recovers" };
const LONG = 15; // signs that a line of a full channel has room for

/** A shard with its Redis. `choose(name)` is called when a reader picks it. */
export function drawShard(place, layout, name, choose) {
  const { unit, isFull } = layout;
  const left = place.x - place.w / 2;
  const top = place.y - place.h / 2;
  const pad = (isFull ? 10 : 8) * unit;
  const isNarrow = place.w < CARD_FULL * unit;
  const line = (row) => top + row * unit;
  const mark = shape(left + pad, line(10), 15 * unit);
  const label = svg("text", { class: "name", x: left + pad + (isFull ? 22 : 19) * unit, y: line(23) }, name);
  const word = svg(
    "text",
    isFull
      ? { class: "word", x: left + place.w - pad, y: line(23), "text-anchor": "end" }
      : { class: isNarrow ? "word small" : "word", x: left + pad, y: line(42) },
  );
  const load = isFull ? svg("text", { class: "small", x: left + pad, y: line(45) }) : null;
  const digest = drawDigest(left + pad, line(isFull ? 58 : 50), place.w - 2 * pad, layout);
  const stripe = svg("line", {
    class: "stripe",
    x1: left,
    x2: left + place.w,
    y1: line(isFull ? 80 : 66),
    y2: line(isFull ? 80 : 66),
  });
  const redisMark = shape(left + pad, line(isFull ? 88 : 72), 12 * unit);
  const redisWord = svg("text", { class: "small", x: left + pad + (isFull ? 18 : 15) * unit, y: line(isFull ? 99 : 83) });
  const frame = svg("rect", { class: "frame", x: left, y: top, width: place.w, height: place.h, rx: 10 * unit });
  const element = pick(
    name,
    choose,
    frame,
    mark.element,
    label,
    word,
    load,
    digest.elements,
    stripe,
    redisMark.element,
    redisWord,
  );

  function show(shard, redis) {
    element.setAttribute("class", `part shard is-${known(shard.state)}`);
    element.classList.toggle("is-chosen", element.dataset.chosen === "true");
    mark.show(shard.state);
    say(word, isNarrow ? (SHORT[shard.state] ?? shard.state) : shard.state);
    if (load) say(load, loadOf(shard));
    digest.show(shard);
    redisMark.show(redis?.state ?? "down");
    redisWord.setAttribute("class", `small redis is-${known(redis?.state)}`);
    redisMark.element.setAttribute("class", `mark is-${known(redis?.state)}`);
    say(
      redisWord,
      redis
        ? isFull && redis.state === "up" && redis.keys !== null
          ? `Redis ${redis.name} up, ${redis.keys} keys`
          : `${isFull ? "Redis " : ""}${redis.name} ${redis.state}`
        : "no Redis",
    );
    element.setAttribute(
      "aria-label",
      `${name} ${shard.state}${shard.note ? `, ${shard.note}` : ""}, ${loadOf(shard)}, digest ${digestOf(shard)}, its Redis ${redis?.state ?? "unknown"}`,
    );
  }
  return { element, show };
}

function isKnown(value) {
  return value !== null && value !== undefined;
}

/** How full a digest is: "1 of 2". Pure. */
export function digestOf(shard) {
  return isKnown(shard.digest) ? `${shard.digest} of ${shard.digest_length ?? "?"}` : "unknown";
}

function loadOf(shard) {
  const keys = isKnown(shard.keys) ? count(shard.keys, "tea") : null;
  const rate = isKnown(shard.requests_per_s) ? `${Math.round(shard.requests_per_s)} req/s` : null;
  return [keys, rate].filter(Boolean).join(" · ") || (isKnown(shard.answer_ms) ? "" : "no answer");
}

/** How full the digest is: a bar, and "1 of 2". */
function drawDigest(x, y, width, { unit, isFull }) {
  const words = isFull ? 112 * unit : 46 * unit;
  const bar = { x, y: y + 1 * unit, height: 10 * unit, rx: 3 * unit };
  const room = svg("rect", { class: "digest-room", ...bar, width: width - words });
  const filled = svg("rect", { class: "digest-filled", ...bar, width: 0 });
  const told = svg("text", { class: "small", x: x + width, y: y + 10 * unit, "text-anchor": "end" });
  return {
    elements: [room, filled, told],
    show(shard) {
      const share = Math.min(1, (shard.digest ?? 0) / (shard.digest_length || 1));
      filled.setAttribute("width", (width - words) * share);
      say(told, `${isFull ? "digest " : ""}${digestOf(shard)}`);
    },
  };
}

/** A channel of the queue: what waits in it, and the two arrows that lead through it. */
export function drawChannel(place, { unit, isFull }, name) {
  const left = place.x - place.w / 2;
  const top = place.y - place.h / 2;
  const out = svg("path", { class: "gossip-line", d: place.out, "marker-end": "url(#ring-arrow)" });
  const on = svg("path", { class: "gossip-line", d: place.on, "marker-end": "url(#ring-arrow)" });
  const frame = svg("rect", { class: "frame", x: left, y: top, width: place.w, height: place.h, rx: 6 * unit });
  const isNarrow = place.w < LINE_FULL * unit;
  const [first, last] = isFull ? [18, 36] : isNarrow ? [26, 40] : [15, 29];
  const words = (kind, y) => svg("text", { class: kind, x: place.x, y: top + y * unit, "text-anchor": "middle" });
  const heading = isNarrow ? words("small", 13) : null;
  const depth = words("small strong", first);
  const age = words("small", last);
  say(heading ?? depth, name);
  const cells = Array.from({ length: CELLS }, (_, index) =>
    svg("rect", {
      class: "cell",
      x: left + (6 + index * 9) * unit,
      y: top - 9 * unit,
      width: 7 * unit,
      height: 7 * unit,
      rx: 1.5 * unit,
      visibility: "hidden",
    }),
  );
  const moved = svg("text", {
    class: "small moved",
    x: place.x,
    y: top + place.h + 13 * unit,
    "text-anchor": "middle",
  });
  const title = svg("title", {});
  const element = svg("g", { class: "part channel" }, title, frame, heading, depth, age, isFull ? cells : [], moved);

  function show(channel, queue) {
    const waiting = channel?.depth ?? 0;
    const isKnown = typeof channel?.depth === "number" && queue?.state !== "down";
    element.classList.toggle("is-unknown", !isKnown);
    element.classList.toggle("is-waiting", isKnown && waiting > 0);
    const number = isKnown ? String(waiting) : "?";
    const told = isNarrow ? number : `${name}: ${number}`;
    const long = `${told} waiting`;
    say(depth, isFull && isKnown && long.length <= LONG ? long : told);
    say(age, isKnown ? ageOf(channel, isFull) : "unknown");
    cells.forEach((cell, index) => cell.setAttribute("visibility", isKnown && index < waiting ? "visible" : "hidden"));
    say(
      title,
      isKnown
        ? `Channel ${name}: ${waiting} waiting${channel.oldest_age_s === null ? "" : `, the oldest for ${seconds(channel.oldest_age_s)}`}`
        : `Channel ${name}: unknown`,
    );
  }
  return { element, lines: [out, on], out, on, show, sayMoved: (text) => say(moved, text) };
}

function ageOf(channel, isFull) {
  if (channel.oldest_age_s === null) return channel.depth ? "" : "empty";
  return isFull ? `oldest ${seconds(channel.oldest_age_s)}` : seconds(channel.oldest_age_s);
}

/** The queue, in the middle. */
export function drawHub({ hub, unit }, choose) {
  const isFull = hub.r >= HUB_FULL * unit;
  const frame = svg("circle", { class: "frame", cx: hub.x, cy: hub.y, r: hub.r });
  const mark = shape(hub.x - 7 * unit, hub.y - (isFull ? 40 : 26) * unit, 14 * unit);
  const name = svg(
    "text",
    { class: "name", x: hub.x, y: hub.y - (isFull ? 6 : -3) * unit, "text-anchor": "middle" },
    isFull ? "queue q" : "q",
  );
  const word = svg("text", { class: "word", x: hub.x, y: hub.y + (isFull ? 15 : 19) * unit, "text-anchor": "middle" });
  const kept = svg("text", { class: "small", x: hub.x, y: hub.y + 35 * unit, "text-anchor": "middle" });
  const element = pick("q", choose, frame, mark.element, name, word, isFull ? kept : null);

  function show(queue, isHeld) {
    const state = queue?.state ?? "down";
    const shown = isHeld && state === "up" ? "slow" : state;
    element.setAttribute("class", `part hub is-${known(shown)}`);
    mark.show(shown);
    say(word, isHeld && state === "up" ? "held" : state);
    say(kept, isKnown(queue?.durable) ? (queue.durable ? "kept on disk" : "in memory") : "");
    element.setAttribute(
      "aria-label",
      `Queue ${state}${isHeld ? ", gossip is held" : ""}${queue?.note ? `, ${queue.note}` : ""}`,
    );
  }
  return { element, show };
}

export function drawLoadBalancer({ lb, unit, isFull }, choose) {
  const left = lb.x - lb.w / 2;
  const top = lb.y - lb.h / 2;
  const frame = svg("rect", { class: "frame", x: left, y: top, width: lb.w, height: lb.h, rx: 10 * unit });
  const mark = shape(left + 10 * unit, top + 8 * unit, 15 * unit);
  const name = svg(
    "text",
    { class: "name", x: left + 32 * unit, y: top + 21 * unit },
    isFull ? "load balancer lb" : "lb",
  );
  const word = svg("text", { class: "word", x: left + lb.w - 10 * unit, y: top + 21 * unit, "text-anchor": "end" });
  const what = svg(
    "text",
    { class: "small", x: left + 10 * unit, y: top + 41 * unit },
    isFull ? "sends each tea to its primary" : "",
  );
  const element = pick("lb", choose, frame, mark.element, name, word, what);

  function show(service) {
    const state = service?.state ?? "down";
    element.setAttribute("class", `part lb is-${known(state)}`);
    mark.show(state);
    say(word, state);
    if (!isFull) say(what, isKnown(service?.requests) ? count(service.requests, "request") : "picks the primary");
    element.setAttribute("aria-label", `Load balancer ${state}${service?.note ? `, ${service.note}` : ""}`);
  }
  return { element, show };
}

function pick(name, choose, ...children) {
  return svg(
    "g",
    {
      class: "part",
      "data-name": name,
      role: "button",
      tabindex: "-1",
      onclick: () => choose(name),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose(name);
      },
    },
    ...children,
  );
}
