// Clocks beside each other: which entry differs, and what follows from it. Draws what the server compared.

import { el, fold, table } from "./dom.js";
import { clock, count, rating } from "./format.js";

const MOST_PAIRS = 10; // and as many siblings, that are shown at once; the others can be unfolded
const MOST_ENTRIES = 12;

const WORDS = {
  before: (a, b) => `${a} is before ${b}: ${b} has seen all that ${a} has, and more. ${b} replaces ${a}.`,
  after: (a, b) => `${a} is after ${b}: ${a} has seen all that ${b} has, and more. ${a} replaces ${b}.`,
  equal: (a, b) => `${a} and ${b} are equal: they have seen the same, so neither can claim to be newer.`,
  concurrent: (a, b) => `${a} and ${b} are concurrent: each has seen something that the other has not. Both stand.`,
};

const SIGNS = { before: "<", after: ">", equal: "=", concurrent: "∥" };

/** What a relation of A to B means, in a sentence. */
export function relationInWords(relation, a, b) {
  return WORDS[relation]?.(a, b) ?? `${a} and ${b} cannot be compared.`;
}

/** The relation as a small mark: sign and word. */
export function relationMark(relation) {
  return el(
    "span",
    { class: `relation is-${relation}` },
    el("span", { "aria-hidden": "true" }, SIGNS[relation] ?? "?"),
    ` ${relation ?? "unknown"}`,
  );
}

/** A rating with its clock, as a chip: "3 at c0:5". A tombstone says that it is one. */
export function sibling(value, entries) {
  return el(
    "span",
    { class: value === null ? "sibling is-deleted" : "sibling" },
    el("b", {}, value === null ? "✝ deleted" : rating(value)),
    " at ",
    clockShown(entries),
  );
}

/** A clock; of a long one its first entries, and the others when it is unfolded. */
export function clockShown(entries) {
  const all = Object.entries(entries ?? {});
  if (all.length <= MOST_ENTRIES) return el("code", {}, clock(entries));
  const others = Object.fromEntries(all.slice(MOST_ENTRIES));
  return el(
    "details",
    { class: "long-clock" },
    el("summary", {}, el("code", {}, clock(entries, MOST_ENTRIES))),
    el("code", {}, clock(others)),
  );
}

/** A list of these items; what is more than can be looked at is folded. */
export function listShown(items, attributes) {
  const others = items.slice(MOST_PAIRS);
  return [
    el("ul", attributes, items.slice(0, MOST_PAIRS)),
    others.length ? fold(`${others.length} more`, el("ul", attributes, others)) : null,
  ];
}

/** Entry by entry, A and B beside each other; the higher count of each row is marked with a sign, too. */
export function comparison(a, b, entries) {
  const cell = (entry, side) => {
    const number = entry[side];
    const isLarger = entry.larger === side;
    return el(
      "span",
      { class: isLarger ? "count is-larger" : "count" },
      number === null ? "no entry" : String(number),
      isLarger ? el("span", { class: "why" }, " ▲ higher") : null,
    );
  };
  return table(
    `${a} and ${b}, entry by entry`,
    ["entry", a, b],
    entries.map((entry) => [el("code", {}, entry.id), cell(entry, "a"), cell(entry, "b")]),
  );
}

/** A letter for the sibling of this index: A, B, ... Z, then A1, B1, ... */
export function letter(index) {
  return String.fromCharCode(65 + (index % 26)) + (index >= 26 ? Math.floor(index / 26) : "");
}

/** All siblings of a tea, and each pair of them compared. `told` is the `siblings` of /api/tea. */
export function siblingsCompared(told) {
  const values = told.values ?? [];
  if (values.length === 0) return el("p", {}, "Nothing is stored under this name yet.");
  const list = listShown(
    values.map((value, index) =>
      el(
        "li",
        {},
        el("b", { class: "letter" }, letter(index)),
        sibling(value.rating, value.clock),
        el("span", { class: "quiet" }, ` on ${value.shards.join(", ")}`),
      ),
    ),
    { class: "siblings" },
  );
  if (values.length === 1) return el("div", {}, list, el("p", {}, "One value, and nothing beside it: no siblings."));
  const pairs = (told.pairs ?? []).map((pair, index) => {
    const [a, b] = [letter(pair.a), letter(pair.b)];
    return el(
      "details",
      { class: "pair", open: index === 0 },
      el("summary", {}, `${a} and ${b}: `, relationMark(pair.relation)),
      el("p", {}, relationInWords(pair.relation, a, b)),
      comparison(a, b, pair.entries),
    );
  });
  const compared = Math.max(0, ...(told.pairs ?? []).map((pair) => pair.b + 1));
  const rest =
    compared < values.length ? el("p", { class: "quiet" }, `The first ${compared} are compared with each other.`) : null;
  const others = pairs.slice(MOST_PAIRS);
  return el(
    "div",
    {},
    list,
    rest,
    pairs.slice(0, MOST_PAIRS),
    others.length ? fold(`${count(others.length, "more pair")}`, others) : null,
  );
}
