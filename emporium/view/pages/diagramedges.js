// What stays in view of a diagram that is scrolled: the names of its lanes above, and its times on the left.

import { el, svg } from "./dom.js";

/** The drawing, and over it copies of its edges, for a frame that scrolls. The drawing itself stays whole: it can be saved. */
export function withEdges(drawing) {
  const [wide, high] = [drawing.width.baseVal.value, drawing.height.baseVal.value];
  const { left, top } = drawing.edges;
  const copy = (kind, width, height) =>
    svg(
      "svg",
      { class: `diagram-edge diagram-${kind}`, viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
      svg("rect", { class: "ground", width, height }),
      [...drawing.querySelectorAll(`.${kind}`)].map((part) => part.cloneNode(true)),
    );
  return el(
    "div",
    { class: "diagram-plane" },
    drawing,
    copy("times", left, high),
    copy("heads", wide, top),
    copy("corner", left, top),
  );
}
