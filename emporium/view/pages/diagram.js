// A recorded write as a space-time diagram: a lane for each process, time downwards, an arrow for each message.

import { svg } from "./dom.js";
import { clocks, rating, seconds } from "./format.js";
import { timeScale } from "./timescale.js";
import { inWords } from "./words.js";

const [SIBLINGS, CLOCK_ENTRIES] = [4, 3]; // shown of a value
const LETTER = 7.9; // about the width of one
const [ABOVE, LEVEL, BELOW] = [-6, 4, 15]; // where the words of an event stand

/**
 * The SVG of this trace ({lanes, events, arrows}), at least `width` wide. `choose(index)` hears who is looked at. Its
 * `edges` say how far the times reach from the left, and the heads of its lanes from the top.
 */
export function drawDiagram(trace, width, rem, choose) {
  const unit = rem / 16;
  const gutter = 84 * unit;
  const lanes = trace.lanes;
  const space = Math.max(74 * unit, (width - gutter - 60 * unit) / Math.max(1, lanes.length));
  const all = gutter + space * lanes.length + 60 * unit;
  const top = 62 * unit;
  const x = new Map(lanes.map((lane, index) => [lane, gutter + space * (index + 0.5)]));
  const told = trace.events.map(words);
  const scale = timeScale(
    trace.events.map((event) => event.at),
    27 * unit,
    4.5 * unit,
    told.map(({ drop }, index) => (drop < 0 && told[index - 1]?.drop > LEVEL ? 8 * unit : 0)),
  );
  const height = top + scale.length + 40 * unit;
  const whole = Math.max(all, ...told.map(({ right }) => right + 16 * unit)); // with words that fit on neither side
  const y = scale.places.map((place) => top + place);
  const began = trace.events[0]?.at ?? 0;

  const drawing = svg("svg", {
    class: "diagram",
    viewBox: `0 0 ${Math.round(whole)} ${Math.round(height)}`,
    width: Math.round(whole),
    height: Math.round(height),
    role: "group",
    "aria-labelledby": "diagram-title",
    "aria-describedby": "diagram-description",
  });
  const events = trace.events.map((event, index) => drawEvent(event, index));
  drawing.append(
    svg("title", { id: "diagram-title" }, `The way of the write ${trace.request ?? ""} of ${trace.tea ?? "a tea"}`),
    svg("desc", { id: "diagram-description" }, describe(trace)),
    svg("defs", {}, head("head", "head"), head("head-gossip", "head-gossip")),
    svg("rect", { class: "ground", width: Math.round(whole), height: Math.round(height) }),
    svg("g", { class: "corner" }, svg("text", { class: "time", x: gutter - 12 * unit, y: 24 * unit }, "time ↓")),
    ...lanes.map(drawLine),
    svg("g", { class: "heads" }, lanes.map(drawHead)),
    ...y.map((at) => svg("line", { class: "tick", x1: gutter - 6 * unit, x2: all - 8 * unit, y1: at, y2: at })),
    svg(
      "g",
      { class: "times" },
      y.map((at, index) =>
        svg(
          "text",
          { class: "time", x: gutter - 12 * unit, y: at + 4 * unit },
          index === 0 ? "0" : `+${seconds(trace.events[index].at - began)}`,
        ),
      ),
      scale.gaps.map((gap) =>
        svg("text", { class: "gap", x: gutter - 12 * unit, y: top + gap.at + 4 * unit }, `⋮ ${seconds(gap.seconds)}`),
      ),
    ),
    ...trace.arrows.filter((arrow) => trace.events[arrow.from] && trace.events[arrow.to]).map(drawArrow),
    ...events,
  );
  events[0]?.setAttribute("tabindex", "0");
  drawing.edges = { left: Math.round(gutter - 8 * unit), top: Math.round(42 * unit) };
  return drawing;

  function drawLine(lane) {
    const at = x.get(lane);
    const isRedis = /^r\d+$/.test(lane);
    return svg("line", {
      class: isRedis ? "lane-line lane-redis" : "lane-line",
      x1: at,
      x2: at,
      y1: 40 * unit,
      y2: height - 12 * unit,
    });
  }

  function drawHead(lane) {
    const at = x.get(lane);
    const wide = Math.min(space - 8 * unit, 96 * unit);
    return svg(
      "g",
      {},
      svg("rect", { class: "lane-head", x: at - wide / 2, y: 8 * unit, width: wide, height: 30 * unit, rx: 7 * unit }),
      svg("text", { class: "lane-name", x: at, y: 28 * unit }, { lb: "lb", q: "queue" }[lane] ?? lane),
    );
  }

  function drawArrow({ from, to }) {
    const [a, b] = [trace.events[from], trace.events[to]];
    const isGossip = [a, b].some((event) => ["put", "taken", "told", "heard", "compared"].includes(event.event));
    const [x1, x2, y1, y2] = [x.get(a.lane), x.get(b.lane), y[from], y[to]];
    const long = Math.hypot(x2 - x1, y2 - y1) || 1;
    const [dx, dy] = [((x2 - x1) / long) * 8 * unit, ((y2 - y1) / long) * 8 * unit];
    const kind = isGossip ? "head-gossip" : "head";
    return svg("path", {
      class: isGossip ? "arrow arrow-gossip" : "arrow",
      d: `M${x1 + dx} ${y1 + dy}L${x2 - dx} ${y2 - dy}`,
      "marker-end": `url(#${kind})`,
    });
  }

  function drawEvent(event, index) {
    const at = x.get(event.lane);
    const { value, isLeft, drop } = told[index];
    return svg(
      "g",
      {
        class: "event",
        role: "img",
        tabindex: "-1",
        "data-index": index,
        "aria-label": `${index === 0 ? "at first" : `after ${seconds(event.at - began)}`}: ${inWords(event)}`,
        transform: `translate(${at} ${y[index]})`,
        onfocus: () => choose(index),
        onmouseenter: () => choose(index),
        onclick: () => choose(index),
      },
      svg("title", {}, inWords(event)),
      svg("circle", { r: 7 * unit }),
      svg(
        "text",
        { class: "what", x: (isLeft ? -13 : 13) * unit, y: drop * unit, "text-anchor": isLeft ? "end" : "start" },
        label(event),
        value ? svg("tspan", { class: "clock", dx: 6 * unit }, value) : null,
      ),
    );
  }

  /** The value that an event tells of, on which side of it its words stand, and how far they reach to the right. */
  function words(event, index) {
    const value = valueOf(event);
    const at = x.get(event.lane);
    const long = `${label(event)} ${value}`.length * LETTER * unit;
    const place = side(index, at, long);
    return { value, right: place.isLeft ? at : at + long, ...place };
  }

  /** Where the words of an event stand: away from its arrows if there is room, or else above or below them. */
  function side(index, at, long) {
    const others = trace.arrows.flatMap(({ from, to }) =>
      from === index ? [{ other: to }] : to === index ? [{ other: from }] : [],
    );
    const right = others.filter(({ other }) => x.get(trace.events[other]?.lane) > at);
    const left = others.filter(({ other }) => x.get(trace.events[other]?.lane) < at);
    const [fitsLeft, fitsRight] = [at - gutter > long, all - at - 16 * unit > long];
    const isLeft = fitsLeft && (!fitsRight || right.length > left.length);
    const crossed = isLeft ? left : right;
    if (crossed.length === 0) return { isLeft, drop: LEVEL };
    return { isLeft, drop: crossed[0].other > index ? ABOVE : BELOW };
  }

  function head(id, kind) {
    return svg(
      "marker",
      { id, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 7, markerHeight: 7, orient: "auto" },
      svg("path", { class: kind, d: "M0 0.8L10 5L0 9.2z" }),
    );
  }
}

/** The event in two words. */
function label(event) {
  const more = {
    received: event.method,
    answered: [event.status, event.outcome].filter(Boolean).join(" "),
    merged: event.outcome,
    remembered: event.digest,
    put: event.channel,
    taken: event.channel,
    told: event.channel,
    heard: event.channel,
    sent: event.together > 1 ? `1 of ${event.together}` : null,
  }[event.event];
  return more ? `${event.event} ${more}` : event.event;
}

/** The ratings and the clocks that it tells of: the first of many. */
function valueOf(event) {
  const choices = event.choices ?? (event.rating === undefined ? [] : [event.rating]);
  const more = choices.length > SIBLINGS ? ` … ${choices.length - SIBLINGS} more` : "";
  return [
    choices.slice(0, SIBLINGS).map(rating).join(", "),
    clocks(event.clocks?.slice(0, SIBLINGS), CLOCK_ENTRIES) + more,
  ]
    .filter(Boolean)
    .join(" at ");
}

function describe(trace) {
  const lanes = `Lanes from left to right: ${trace.lanes.join(", ")}.`;
  const scale = `${trace.events.length} events, time downwards, not to scale: long gaps are squeezed.`;
  return `${lanes} ${scale} The table under it says the same.`;
}
