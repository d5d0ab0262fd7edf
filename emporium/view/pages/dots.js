// Gossip records on their way: a dot along an arrow for each, or, for those who want no motion, how many there were.

import { fill, svg } from "./dom.js";

const FLIGHT_MS = 1100;
const MOST = 40;
const NAMED = 6; // more names at once could not be read
const COUNTED_S = 10;

/** Which way a trace event moves: {channel, leg, tea} or null. Queue and shard both tell; `flew` keeps one of them. */
export function movement(event) {
  const leg = { told: "out", put: "out", heard: "on", taken: "on" }[event.event];
  if (!leg || !event.channel) return null;
  return {
    channel: event.channel,
    leg,
    tea: event.tea ?? "",
    teller: event.service === "q" ? "queue" : "shard",
    request: event.request ?? "",
  };
}

export function createDots() {
  const layer = svg("g", { class: "dots", "aria-hidden": "true" });
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const flew = new Map(); // what was drawn lately: key -> {teller, at}
  let layout = null;
  let channels = [];
  let flying = [];
  let counted = []; // {index, at} of the last seconds
  let frame = null;

  function follow(newLayout, newChannels) {
    layout = newLayout;
    channels = newChannels;
    clear();
  }

  /** Starts a dot for each of these events that moves a record. */
  function fly(events) {
    const now = performance.now();
    for (const event of events) {
      const moves = movement(event);
      const write = event.event === "sent" ? /^db(\d+)$/.exec(event.peer ?? "") : null;
      if (write) start(layout?.shards[Number(write[1])]?.sent, "write", event.tea ?? "", now);
      if (!moves || isTwice(moves, now)) continue;
      const index = Number(moves.channel.replace(/^db/, ""));
      const channel = channels[index];
      if (!channel) continue;
      counted.push({ index, at: now });
      start(channel[moves.leg], "gossip", moves.tea, now);
    }
    tellCounts(now);
  }

  function isTwice(moves, now) {
    for (const [key, drawn] of flew) if (now - drawn.at > 3000) flew.delete(key);
    const key = `${moves.channel} ${moves.leg} ${moves.tea} ${moves.request}`;
    const before = flew.get(key);
    if (before && before.teller !== moves.teller) return true;
    flew.set(key, { teller: moves.teller, at: now });
    return false;
  }

  function start(line, kind, tea, now) {
    if (!line || calm.matches || flying.length >= MOST) return;
    const path = typeof line === "string" ? svg("path", { d: line }) : line;
    const dot =
      kind === "write"
        ? svg("path", { class: "dot-write", d: "M0-6L6 0L0 6L-6 0z" })
        : svg("circle", { class: "dot-gossip", r: 6 });
    const name = flying.length < NAMED ? svg("text", { class: "small dot-name", x: 10, y: -8 }, tea) : null;
    const element = svg("g", {}, dot, name);
    layer.append(element);
    flying.push({ element, path, length: path.getTotalLength(), begin: now + flying.length * 40 });
    frame ??= requestAnimationFrame(step);
  }

  function step(now) {
    flying = flying.filter((one) => {
      const share = Math.max(0, (now - one.begin) / FLIGHT_MS);
      if (share >= 1) {
        one.element.remove();
        return false;
      }
      const eased = share * share * (3 - 2 * share);
      const at = one.path.getPointAtLength(one.length * eased);
      one.element.setAttribute("transform", `translate(${at.x} ${at.y})`);
      return true;
    });
    frame = flying.length ? requestAnimationFrame(step) : null;
  }

  /** Without motion, each channel says how many records moved. */
  function tellCounts(now) {
    counted = counted.filter((one) => now - one.at < COUNTED_S * 1000);
    if (!calm.matches) return channels.forEach((channel) => channel.sayMoved(""));
    channels.forEach((channel, index) => {
      const number = counted.filter((one) => one.index === index).length;
      channel.sayMoved(number ? `${number} moved in ${COUNTED_S} s` : "");
    });
  }

  function clear() {
    flying = [];
    fill(layer);
  }

  setInterval(() => counted.length && tellCounts(performance.now()), 1000);
  return { layer, follow, fly, clear };
}
