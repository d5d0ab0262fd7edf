// Editing a clock without typing JSON: a row for each entry, and a button that makes it newer than all siblings.

import { el, fill } from "./dom.js";

const ID = "[A-Za-z0-9._\\-]{1,64}";
const MOST = 64;

/**
 * The smallest clock newer than all of these: each entry at its highest count, and one's own advanced; under another
 * name, "c0-2", where one's own can count no further. Pure.
 */
export function newerThanAll(clocks, own) {
  const joined = {};
  for (const clock of clocks) {
    for (const [id, count] of Object.entries(clock ?? {})) joined[id] = Math.max(count, joined[id] ?? count);
  }
  let name = own;
  for (let number = 2; joined[name] >= Number.MAX_SAFE_INTEGER; number += 1) name = `${own}-${number}`;
  const next = name in joined ? joined[name] + 1 : 1;
  return Object.fromEntries(Object.entries({ ...joined, [name]: next }).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** An editor. `value()` is the clock, or null while it is none; `known()` gives the clocks that stand now. */
export function createClockEditor({ onChange, known }) {
  const rows = el("ul", { class: "clock-rows" });
  const own = el("input", {
    id: "own-id",
    class: "id",
    value: "c0",
    pattern: ID,
    required: true,
    autocomplete: "off",
    spellcheck: "false",
  });
  const newer = el("button", { type: "button", onclick: advance }, "Newer than all siblings");
  const add = el(
    "button",
    { type: "button", class: "plain", onclick: () => addRow(freeId(), 1).focus() },
    "Add an entry",
  );
  const trouble = el("p", { class: "field-trouble", "aria-live": "polite" });

  function addRow(id, count) {
    const name = el("input", {
      class: "id",
      "aria-label": "entry",
      value: id,
      pattern: ID,
      required: true,
      autocomplete: "off",
      spellcheck: "false",
      oninput: changed,
    });
    const number = el("input", {
      class: "count",
      type: "number",
      "aria-label": "count",
      value: count,
      min: 0,
      step: 1,
      max: Number.MAX_SAFE_INTEGER,
      required: true,
      oninput: changed,
    });
    const remove = el(
      "button",
      {
        type: "button",
        class: "plain",
        title: "Remove this entry",
        "aria-label": `Remove the entry ${id}`,
        onclick: () => drop(row),
      },
      "✕",
    );
    const row = el("li", {}, name, el("span", { "aria-hidden": "true" }, ":"), number, remove);
    if (rows.children.length < MOST) rows.append(row);
    changed();
    return name;
  }

  function drop(row) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (next?.querySelector("input") ?? add).focus();
    changed();
  }

  function freeId() {
    const taken = new Set(Object.keys(value() ?? {}));
    let number = 0;
    while (taken.has(`c${number}`)) number += 1;
    return `c${number}`;
  }

  function advance() {
    if (own.reportValidity()) set(newerThanAll(known(), own.value));
  }

  function value() {
    const entries = [...rows.children].map((row) => [...row.querySelectorAll("input")]);
    const ids = entries.map(([id]) => id.value);
    const isGood =
      entries.length > 0 && entries.flat().every((input) => input.validity.valid) && new Set(ids).size === ids.length;
    return isGood ? Object.fromEntries(entries.map(([id, number]) => [id.value, Number(number.value)])) : null;
  }

  function changed() {
    const isGood = value() !== null;
    trouble.textContent = isGood
      ? ""
      : "A clock has one entry or more, each with its own name out of A-Z a-z 0-9 . _ - and a whole number.";
    onChange();
  }

  function set(clock) {
    fill(rows);
    for (const [id, count] of Object.entries(clock)) addRow(id, count);
  }

  const element = el(
    "fieldset",
    { class: "clock-edit" },
    el("legend", {}, "Clock"),
    rows,
    trouble,
    el("p", { class: "buttons" }, add, newer, el("label", { for: "own-id" }, "as"), own),
  );
  return { element, value, set };
}
