// A write on its way: chosen from the newest ones, drawn as it happens, saved, or opened from a file.

import { get, paced } from "./api.js";
import { drawDiagram } from "./diagram.js";
import { withEdges } from "./diagramedges.js";
import { el, fill, fold, refill, renewTables, rove, table } from "./dom.js";
import { clock, count, isolated, rating, seconds, timeOfDay } from "./format.js";
import { recordedTrace } from "./recorded.js";
import { saveText, standalone } from "./save.js";
import { inWords } from "./words.js";

const LISTED = 50;
const LIST_PAUSE_MS = 1500;
const PAUSE_MS = 400;
const TITLE = "A write on its way";

export function createTrace({ store, announce }) {
  let request = null;
  let trace = null;
  let writes = [];
  let found = ""; // what these writes were looked for by; "" for the newest of all
  let last = "";
  let drawnWidth = 0;
  const filter = el("input", {
    id: "write-filter",
    type: "search",
    autocomplete: "off",
    spellcheck: "false",
    oninput() {
      showList();
      note.textContent = "Looking through all that is kept …";
      refreshList();
    },
  });
  const list = el("ul", { class: "tea-list" });
  const note = el("p", { class: "quiet" });
  const heading = el("h1", {}, TITLE);
  const origin = el(
    "p",
    {},
    "Choose a write from the list, or open a recorded run. A write that you make under Tea leads here, too.",
  );
  const words = el("p", { class: "event-words" });
  const frame = el("div", {
    class: "diagram-frame scroll",
    tabindex: "0",
    role: "region",
    "aria-label": "Space-time diagram",
  });
  const asTable = el("div", {});
  const saveSvg = el(
    "button",
    {
      type: "button",
      hidden: true,
      onclick: async () => saveText(`${fileName()}.svg`, await standalone(frame.querySelector(".diagram")), "image/svg+xml"),
    },
    "Save as SVG",
  );
  const saveJson = el(
    "button",
    {
      type: "button",
      hidden: true,
      onclick: () => saveText(`${fileName()}.json`, JSON.stringify(trace, null, 1), "application/json"),
    },
    "Save as JSON",
  );
  const file = el("input", { id: "recorded", type: "file", accept: ".json,application/json", onchange: openFile });
  const events = fold("The same as a table", asTable);
  events.hidden = true;

  function fileName() {
    return `trace-${(trace.tea ?? "tea").replace(/[^\w-]+/g, "_")}-${trace.request ?? "run"}`;
  }

  const refreshList = paced(async () => {
    try {
      const wanted = filter.value.trim();
      const told = await get(`/api/writes?max=${LISTED}&find=${encodeURIComponent(wanted)}`);
      if (wanted !== filter.value.trim()) return; // that is asked for next
      if (isPointedAt() && wanted === found) {
        note.textContent = "The list waits while the pointer is on it.";
        return;
      }
      writes = told.writes;
      found = wanted;
      note.textContent = listInWords(writes.length, found);
    } catch (error) {
      note.textContent = error.message;
    }
    showList();
  }, LIST_PAUSE_MS);

  const refresh = paced(async () => {
    const asked = request;
    if (asked === null) return;
    try {
      const told = await get(`/api/trace/${encodeURIComponent(asked)}`);
      if (asked !== request) return;
      origin.textContent = `${isolated(told.tea ?? "")} · request ${told.request} · live: it grows while the write goes on its way.${withoutSilent(told)}${withoutForgotten(told)}`;
      show(told);
    } catch (error) {
      if (asked === request) origin.textContent = error.message;
    }
  }, PAUSE_MS);

  /** Then it must not move: what is under the pointer is what a click is to choose. */
  function isPointedAt() {
    return matchMedia("(hover: hover)").matches && list.matches(":hover");
  }

  function showList() {
    const wanted = filter.value.trim();
    const isFitting = (write) => `${write.tea} ${write.request}`.toLowerCase().includes(wanted.toLowerCase());
    const fitting = wanted === found ? writes : writes.filter(isFitting); // until those that are kept are looked through
    refill(
      list,
      fitting.map((write, index) => {
        const isDelete = write.rating === null || write.rating === undefined;
        const what = isDelete ? "deleted" : `${rating(write.rating)} at ${clock(write.clock, 2)}`;
        const link = el(
          "a",
          {
            href: `#trace/${encodeURIComponent(write.request)}`,
            tabindex: index === 0 ? 0 : -1,
            "aria-current": write.request === request ? "true" : null,
          },
          el("span", { class: "tea-name", title: write.tea }, write.tea),
          el(
            "span",
            { class: "quiet" },
            `${what}, ${timeOfDay(write.at)}${write.status && write.status !== 200 ? `, ${write.status}` : ""}${write.outcome ? `, ${write.outcome}` : ""}`,
          ),
        );
        return el("li", {}, link);
      }),
    );
  }

  /** Begins with another write: nothing of the one before is left. */
  function begin(wanted) {
    request = wanted;
    trace = null;
    last = "";
    heading.textContent = TITLE;
    origin.textContent = "Asking every service …";
    saveSvg.hidden = saveJson.hidden = events.hidden = true;
    fill(words);
    fill(frame);
    showList();
  }

  /** Draws the trace, unless it is drawn already. */
  function show(told) {
    const now = JSON.stringify(told);
    const width = frame.clientWidth;
    if (width === 0 || (now === last && width === drawnWidth)) return;
    last = now;
    drawnWidth = width;
    trace = told;
    heading.textContent = told.tea ? `The way of ${told.tea}` : TITLE;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const focused = frame.contains(document.activeElement) ? document.activeElement.dataset?.index : undefined;
    const drawing = drawDiagram(told, width - 2, rem, choose);
    fill(frame, withEdges(drawing));
    rove(drawing, ".event");
    if (focused !== undefined) drawing.querySelector(`[data-index="${focused}"]`)?.focus({ preventScroll: true });
    else
      fill(
        words,
        count(told.events.length, "event"),
        ". Point at one, or go through them with the arrow keys: it is told here in words. Time runs downwards; the order is true, long gaps are squeezed.",
      );
    renewTables(asTable, eventTable(told));
    saveSvg.hidden = saveJson.hidden = events.hidden = told.events.length === 0;
  }

  function choose(index) {
    const event = trace.events[index];
    fill(
      words,
      el("b", {}, `${timeOfDay(event.at, 3)}, +${seconds(event.at - trace.events[0].at)}: `),
      `${inWords(event)}.`,
    );
    for (const one of frame.querySelectorAll(".event"))
      one.classList.toggle("is-chosen", Number(one.dataset.index) === index);
  }

  async function openFile() {
    const chosen = file.files[0];
    if (!chosen) return;
    try {
      const told = recordedTrace(await chosen.text());
      request = null;
      location.hash = "#trace";
      origin.textContent = `A recorded run, from the file ${chosen.name}.`;
      show(told);
      showList();
      announce(`Opened ${chosen.name}, ${count(told.events.length, "event")}.`);
    } catch (error) {
      origin.textContent = error.message;
      announce(error.message);
    }
    file.value = "";
  }

  const element = el(
    "section",
    { class: "view trace-view" },
    el(
      "div",
      { class: "with-list" },
      el(
        "aside",
        { class: "list-side panel" },
        el("label", { for: "write-filter" }, "Find a write"),
        filter,
        note,
        list,
      ),
      el(
        "div",
        { class: "main-side" },
        heading,
        origin,
        el(
          "p",
          { class: "buttons" },
          saveSvg,
          saveJson,
          el("label", { class: "file", for: "recorded" }, "Open a recorded run"),
          file,
        ),
        words,
        frame,
        events,
      ),
    ),
  );
  rove(list, "a");
  list.addEventListener("pointerleave", () => refreshList());
  new ResizeObserver(() => trace && show(trace)).observe(frame);
  store.hearTrace((told) => {
    if (element.hidden || document.visibilityState !== "visible") return;
    if (told.some((event) => event.service === "lb")) refreshList();
    if (request !== null && told.some((event) => event.request === request)) refresh();
  });
  store.hearGap(() => !element.hidden && (refreshList(), refresh()));
  return {
    element,
    enter(wanted) {
      if (wanted !== null && wanted !== request) begin(wanted);
      refreshList();
      refresh(); // what happened while another view was open was not followed
    },
  };
}

/** What stands in the list: so many writes, looked for by this text. */
function listInWords(number, found) {
  if (found && number === 0) return `Nothing found: no write that is kept has “${isolated(found)}” in its tea or its request.`;
  if (number === 0) return "No write yet. Make one under Tea.";
  const writes = count(number, "write");
  if (found) return `${number === LISTED ? "The newest " : ""}${writes} with “${isolated(found)}”, of all that are kept`;
  return `The newest ${writes} that ${number === 1 ? "was" : "were"} recorded`;
}

/** Whose events are missing, in words; nothing where all have told theirs. */
function withoutSilent(told) {
  const silent = told.silent ?? [];
  return silent.length ? ` Without what ${silent.join(", ")} did: no answer.` : "";
}

/** Who no longer has, or never had, all since the first of these, in words. */
function withoutForgotten(told) {
  const forgetful = told.forgetful ?? [];
  return forgetful.length ? ` Perhaps not whole: ${forgetful.join(", ")} forgot some of it, or began anew since.` : "";
}

function eventTable(trace) {
  const began = trace.events[0]?.at ?? 0;
  return table(
    "The events in their order",
    ["time", "where", "what", "clocks"],
    trace.events.map((event) => [
      `+${seconds(event.at - began)}`,
      event.lane,
      inWords(event),
      el("code", {}, (event.clocks ?? []).map((entries) => `{${clock(entries)}}`).join(" ")),
    ]),
  );
}
