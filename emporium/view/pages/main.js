// Puts the page together: the first state, the stream, the bar on top, and one view at a time.

import { get } from "./api.js";
import { el, say, skipsTo } from "./dom.js";
import { timeOfDay } from "./format.js";
import { createHealth } from "./health.js";
import { createLab } from "./lab.js";
import { createRing } from "./ring.js";
import { changes, createStore } from "./state.js";
import { openStream } from "./stream.js";
import { createTea } from "./tea.js";
import { createTrace } from "./trace.js";

const MAKE = { ring: createRing, tea: createTea, trace: createTrace, break: createLab };
const TITLES = { ring: "Ring", tea: "Tea", trace: "Trace", break: "Break it" };

const AGING_MS = 1000;

const byId = (id) => document.getElementById(id);
const store = createStore(JSON.parse(byId("first-state").textContent || "null"));
const views = {};
let shown = null;

function announce(text) {
  say(byId("announcer"), text);
}

/** "#tea/oolong" as ["tea", "oolong"]. */
function place() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  if (!Object.hasOwn(MAKE, name)) return ["ring", null];
  try {
    return [name, decodeURIComponent(rest.join("/")) || null];
  } catch {
    return [name, null]; // a broken address: a sign after % that is none
  }
}

function show() {
  const [name, what] = place();
  if (!views[name]) {
    views[name] = MAKE[name]({ store, announce });
    byId("content").append(views[name].element);
  }
  for (const [other, view] of Object.entries(views)) view.element.hidden = other !== name;
  for (const link of document.querySelectorAll(".tabs a[data-view]")) {
    if (link.dataset.view !== name) link.removeAttribute("aria-current");
    else {
      link.setAttribute("aria-current", "page");
      link.href = what === null ? `#${name}` : `#${name}/${encodeURIComponent(what)}`; // the way back leads to the same
    }
  }
  if (shown && shown !== name) views[shown].leave?.();
  shown = name;
  document.title = `${what ?? TITLES[name]} · The Tea Emporium`;
  views[name].enter?.(what);
}

async function begin() {
  if (!store.state) store.put(await get("/api/state"));
  byId("health").append(createHealth(store));
  store.hear((state, before) => {
    byId("lab-tab").hidden = !state.lab;
    const changed = changes(before, state);
    if (changed.length) announce(`${changed.join(", ")}.`);
  });
  skipsTo(byId("content"));
  addEventListener("hashchange", show);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && store.gap());
  show();
  setInterval(() => byId("stale").hidden && document.visibilityState === "visible" && store.age(), AGING_MS);
  openStream("/api/stream", {
    onState: (state) => store.put(state),
    onTrace: (told) => store.trace(told),
    onStale(since) {
      byId("stale").hidden = since === null;
      document.body.classList.toggle("is-stale", since !== null);
      if (since !== null) {
        say(
          byId("stale"),
          `Stale: the stream was cut at ${timeOfDay(since)}. What you see is from then. Trying to reach it again …`,
        );
      } else {
        announce("The stream is back.");
        store.gap();
      }
    },
  });
}

begin().catch((error) => {
  byId("content").append(el("p", { class: "trouble", role: "alert" }, `The page could not begin: ${error.message}`));
});
