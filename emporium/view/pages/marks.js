// The mark of each state: a shape and a word, so that colour is never alone.

import { el, svg } from "./dom.js";

export const STATES = ["up", "slow", "recovering", "fenced", "down"];

// Drawn in a square of 16.
const SHAPES = {
  up: "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13z",
  slow: "M8 1L15.5 14.5H0.5z",
  recovering: "M8 0.8L15.2 8L8 15.2L0.8 8z",
  fenced: "M1.5 1.5h13v13h-13z",
  down: "M3.6 1L8 5.4L12.4 1L15 3.6L10.6 8L15 12.4L12.4 15L8 10.6L3.6 15L1 12.4L5.4 8L1 3.6z",
};

/** The state, as far as we know its name. */
export function known(state) {
  return STATES.includes(state) ? state : "slow";
}

/** The shape of a state for a drawing, in a square of `size` at (x, y). */
export function shape(x, y, size) {
  const path = svg("path", { class: "mark", transform: `translate(${x} ${y}) scale(${size / 16})` });
  return { element: path, show: (state) => path.setAttribute("d", SHAPES[known(state)]) };
}

/** Shape and word for a page: "● up". */
export function badge(state, word = state) {
  return el(
    "span",
    { class: `badge is-${known(state)}` },
    svg(
      "svg",
      { viewBox: "0 0 16 16", class: "badge-mark", "aria-hidden": "true" },
      svg("path", { d: SHAPES[known(state)] }),
    ),
    word,
  );
}
