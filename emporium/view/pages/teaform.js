// Write, read and delete a tea, with the curl line of each, and the merge before it is sent.

import { paced, post } from "./api.js";
import { createClockEditor } from "./clockedit.js";
import { sibling } from "./clocks.js";
import { createLine } from "./copy.js";
import { el, fill } from "./dom.js";
import { curlPlain, curlWrite, rating as ratingWords } from "./format.js";
import { mergeSteps } from "./mergesteps.js";

const PAUSE_MS = 250;
const NOT_WHOLE = "Shown when rating and clock are whole.";

/** The parts of a tea's page that ask: {reads, form, choose(tea), known(clocks)}. `onDone()` is called after each. */
export function createTeaForm({ store, announce, onDone }) {
  let tea = null;
  let clocks = [];
  const base = () => store.state?.lb?.url ?? "http://localhost:2500";

  const number = el("input", {
    id: "rating",
    type: "number",
    step: "any",
    min: -1e6,
    max: 1e6,
    value: 3,
    required: true,
    oninput: () => changed(),
  });
  const editor = createClockEditor({ onChange: () => changed(), known: () => clocks });
  const line = createLine("", "Copy the curl line of this write");
  const noLine = el("p", { class: "quiet", hidden: true }, NOT_WHOLE);
  const merge = el("div", { class: "merge-box" });
  const written = el("div", { class: "answer", "aria-live": "polite" });
  const write = el("button", { class: "main" }, "Write");
  const remove = el(
    "button",
    { type: "button", class: "danger", onclick: () => ask("delete", { tea }, written) },
    "Delete",
  );
  const removeLine = createLine("", "Copy the curl line of the delete");

  const form = el(
    "form",
    { class: "panel write", novalidate: true, onsubmit: submit },
    el("h2", {}, "Write"),
    el("p", { class: "field" }, el("label", { for: "rating" }, "Rating"), number),
    editor.element,
    el("h3", {}, "The merge, before it is sent"),
    merge,
    el("h3", {}, "The same with curl"),
    line.element,
    noLine,
    el("p", { class: "buttons" }, write, remove),
    removeLine.element,
    written,
  );
  const strong = reader("strong", "Strong read", "Asks the primary, which has every write that was answered.");
  const weak = reader("weak", "Weak read", "Asks any shard, which may not have heard yet.");
  const reads = el("div", { class: "reads" }, strong.element, weak.element);

  function reader(consistency, name, words) {
    const answer = el("div", { class: "answer", "aria-live": "polite" }, el("p", { class: "quiet" }, "Not asked yet."));
    const curl = createLine("", `Copy the curl line of the ${name.toLowerCase()}`);
    const button = el(
      "button",
      { type: "button", onclick: () => ask("read", { tea, consistency }, answer) },
      `Read ${consistency === "weak" ? "weakly" : "strongly"}`,
    );
    return {
      element: el(
        "section",
        { class: "panel" },
        el("h3", {}, name),
        el("p", {}, words),
        el("p", { class: "buttons" }, button),
        curl.element,
        answer,
      ),
      begin() {
        curl.show(curlPlain("GET", base(), tea, consistency));
        fill(answer, el("p", { class: "quiet" }, "Not asked yet."));
      },
    };
  }

  /** Asks the store, and prints what it answered. */
  async function ask(what, body, answer) {
    try {
      const told = await post(`/api/${what}`, body);
      if (body.tea === tea) fill(answer, answered(told));
      if (what !== "read") announce(`${what === "write" ? "Write" : "Delete"} answered ${told.status}.`);
    } catch (error) {
      if (body.tea === tea) fill(answer, el("p", { class: "trouble" }, error.message));
    }
    onDone();
  }

  function submit(event) {
    event.preventDefault();
    if (!form.reportValidity()) return;
    const clock = editor.value();
    if (clock) ask("write", { tea, rating: Number(number.value), clock }, written);
  }

  const showMerge = paced(async () => {
    const clock = editor.value();
    const asked = tea;
    if (!asked || clock === null || !number.validity.valid) {
      fill(merge, el("p", { class: "quiet" }, NOT_WHOLE));
      return;
    }
    const value = Number(number.value);
    try {
      const told = await post("/api/merge", { tea: asked, rating: value, clock });
      if (asked === tea) fill(merge, mergeSteps(told, value, clock));
    } catch (error) {
      fill(merge, el("p", { class: "trouble" }, error.message));
    }
  }, PAUSE_MS);

  function changed() {
    if (!tea) return;
    const clock = editor.value();
    const isWhole = clock !== null && number.validity.valid;
    write.disabled = line.element.hidden = !isWhole;
    noLine.hidden = isWhole;
    if (isWhole) line.show(curlWrite(base(), tea, Number(number.value), clock));
    showMerge();
  }

  return {
    form,
    reads,
    choose(name) {
      tea = name;
      strong.begin();
      weak.begin();
      removeLine.show(curlPlain("DELETE", base(), tea));
      fill(written);
      editor.set({ c0: 1 });
    },
    /** The clocks that stand on any shard now; when they change, so may the merge. */
    known(now) {
      const isNews = JSON.stringify(now) !== JSON.stringify(clocks);
      clocks = now;
      if (isNews) showMerge();
    },
  };
}

/** An answer of the store: status, value, headers that matter, and how long it took. */
function answered(told) {
  const body = told.body ?? {};
  const id = told.headers?.["X-Request-ID"];
  const isGood = told.status < 400;
  const outcome = told.headers?.["X-Merge"];
  return el(
    "div",
    { class: isGood ? "told" : "told trouble" },
    el(
      "p",
      {},
      el("b", {}, `${isGood ? "✓" : "✕"} ${told.status}`),
      outcome ? ` ${outcome}` : "",
      " ",
      el("span", { class: "quiet" }, `in ${Math.round(told.took_ms * 10) / 10} ms`),
    ),
    body.rating !== undefined
      ? el(
          "p",
          {},
          "rating ",
          el("b", { class: "figure" }, body.choices?.length === 0 ? "none" : ratingWords(body.rating)),
        )
      : null,
    (body.choices ?? []).length
      ? el(
          "ul",
          { class: "plain-list" },
          body.choices.map((choice, index) => el("li", {}, sibling(choice, body.clocks[index]))),
        )
      : null,
    body.detail ? el("p", {}, body.detail) : null,
    told.headers?.["X-Clock"]
      ? el("p", { class: "quiet" }, "X-Clock: ", el("code", {}, told.headers["X-Clock"]))
      : null,
    id && outcome ? el("p", {}, el("a", { href: `#trace/${encodeURIComponent(id)}` }, "See it travel")) : null,
    told.curl ? createLine(told.curl, "Copy the curl line of what was asked").element : null,
  );
}
