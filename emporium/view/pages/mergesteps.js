// The merge of a write that was not sent yet, one sibling after the other.

import { el } from "./dom.js";
import { comparison, relationInWords, relationMark, sibling } from "./clocks.js";

const OUTCOMES = {
  stored: "It would be stored.",
  stale: "It would be stale: a newer value stands, and nothing changes.",
  same: "This very rating at this very clock is there already: nothing changes.",
};

/** The steps of /api/merge for this incoming rating and clock. */
export function mergeSteps(told, rating, entries) {
  const steps = (told.steps ?? []).map((step) =>
    el(
      "li",
      {},
      el(
        "p",
        {},
        "Compare with ",
        sibling(step.rating, step.clock),
        ": the incoming one is ",
        relationMark(step.relation),
        ". ",
        el("b", {}, outcome(step.outcome)),
      ),
      el(
        "details",
        {},
        el("summary", {}, "Entry by entry"),
        el("p", {}, relationInWords(step.relation, "Incoming", "stored")),
        comparison("incoming", "stored", step.entries),
      ),
    ),
  );
  const after = told.after ?? { choices: [], clocks: [] };
  return el(
    "div",
    { class: "merge" },
    el("p", {}, "Incoming, at the primary ", el("b", {}, told.primary), ": ", sibling(rating, entries)),
    steps.length ? el("ol", {}, steps) : el("p", {}, "Nothing is stored there that it could be compared with."),
    el(
      "p",
      { class: "outcome" },
      el("b", {}, OUTCOMES[told.outcome] ?? told.outcome),
      " What stands then: ",
      standing(after),
    ),
  );
}

function outcome(word) {
  return (
    { kept: "The stored one stays beside it.", dropped: "The stored one is dropped." }[word] ??
    `${word[0].toUpperCase()}${word.slice(1)}.`
  );
}

function standing(after) {
  if (!after.choices?.length) return "nothing.";
  const mean = after.choices.length > 1 ? ` Their mean, ${after.rating}, is the rating.` : "";
  return [after.choices.map((choice, index) => [sibling(choice, after.clocks[index]), " "]), mean].flat(2).reduce(
    (box, part) => {
      box.append(part);
      return box;
    },
    el("span", {}),
  );
}
