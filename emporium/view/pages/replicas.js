// What every shard holds of a tea, side by side; those that are behind their primary say so.

import { el } from "./dom.js";
import { clockShown, listShown, sibling } from "./clocks.js";
import { rating } from "./format.js";

const RELATIONS = {
  equal: ["up", "✓ has what the primary has"],
  before: ["slow", "▼ behind the primary"],
  after: ["slow", "▲ ahead of the primary"],
  concurrent: ["slow", "∥ knows what the primary does not, and the other way round"],
};

/** One card a shard, in the order of the ring. `told` is the answer of /api/tea. */
export function replicas(told) {
  return el(
    "ul",
    { class: "replicas" },
    told.replicas.map((replica) => card(replica, replica.shard === told.primary)),
  );
}

/** How many replicas are behind, in words. Pure. */
export function summary(told) {
  const asked = told.replicas.filter((replica) => !replica.trouble);
  const behind = asked.filter((replica) => replica.behind).map((replica) => replica.shard);
  const silent = told.replicas.filter((replica) => replica.trouble).map((replica) => replica.shard);
  const parts = [behind.length ? `Behind: ${behind.join(", ")}.` : "No replica that answers is behind."];
  if (silent.length) parts.push(`No answer: ${silent.join(", ")}.`);
  return parts.join(" ");
}

function card(replica, isPrimary) {
  const [kind, word] = statusOf(replica, isPrimary);
  const values = (replica.choices ?? []).map((choice, index) => el("li", {}, sibling(choice, replica.clocks[index])));
  const isBuried = values.length === 0 && replica.clock && Object.keys(replica.clock).length > 0;
  return el(
    "li",
    { class: `replica is-${kind}${isPrimary ? " is-primary" : ""}`, "data-shard": replica.shard },
    el("h3", {}, replica.shard, isPrimary ? el("span", { class: "tag" }, "primary") : null),
    el("p", { class: "status" }, word),
    replica.trouble
      ? el("p", {}, replica.trouble)
      : el(
          "div",
          {},
          el("p", { class: "rating" }, values.length ? rating(replica.rating) : isBuried ? "deleted" : "not rated"),
          values.length ? listShown(values, { class: "plain-list" }) : null,
          isBuried ? el("p", { class: "quiet" }, "tombstone at ", clockShown(replica.clock)) : null,
        ),
  );
}

function statusOf(replica, isPrimary) {
  if (replica.trouble) return ["down", "✕ no answer"];
  if (isPrimary) return ["up", "● decides for this tea"];
  if (replica.relation in RELATIONS) return RELATIONS[replica.relation];
  return replica.behind ? RELATIONS.before : ["slow", "? cannot be compared: the primary gave no answer"];
}
