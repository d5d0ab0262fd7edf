// One tea on every shard: chosen from a list, followed as it changes, written and read.

import { get, paced } from "./api.js";
import { siblingsCompared } from "./clocks.js";
import { el, fill, fillFolded, refill, rove } from "./dom.js";
import { count, rating } from "./format.js";
import { replicas, summary } from "./replicas.js";
import { changes } from "./state.js";
import { createTeaForm } from "./teaform.js";

const LISTED = 100;
const PAUSE_MS = 700;
const LIST_PAUSE_MS = 3000; // the load balancer asks every shard for it
const SELDOM_MS = 3000; // where more happens than is told

export function createTea({ store, announce }) {
  let tea = null;
  let teas = [];
  let last = "";
  const filter = el("input", {
    id: "tea-name",
    type: "search",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "oolong",
    oninput: showList,
    maxlength: 255,
  });
  const list = el("ul", { class: "tea-list" });
  const note = el("p", { class: "quiet" });
  const heading = el("h1", {}, "A tea");
  const primary = el("p", {});
  const side = el("div", { class: "side-by-side", "aria-live": "off" });
  const compared = el("div", {});
  const form = createTeaForm({ store, announce, onDone: () => (refresh(), refreshList()) });
  const chosen = el(
    "div",
    { hidden: true },
    primary,
    el("h2", {}, "On every shard"),
    side,
    el("h2", {}, "Strong and weak, beside each other"),
    form.reads,
    el(
      "div",
      { class: "two" },
      form.form,
      el(
        "section",
        { class: "panel", "aria-label": "Siblings, clock by clock" },
        el("h2", {}, "Siblings, clock by clock"),
        compared,
      ),
    ),
  );

  const refreshList = paced(async () => {
    try {
      const told = await get(`/api/teas?max=${LISTED}`);
      teas = told.teas;
      note.textContent = told.complete
        ? count(teas.length, "tea")
        : `${count(teas.length, "tea")} shown, there are more or some could not be asked. Any other can be entered above.`;
    } catch (error) {
      note.textContent = error.message;
    }
    showList();
  }, LIST_PAUSE_MS);

  const refresh = paced(async () => {
    const asked = tea;
    if (asked === null) return;
    try {
      const told = await get(`/api/tea/${encodeURIComponent(asked)}`);
      const now = JSON.stringify(told);
      if (asked !== tea || now === last) return;
      last = now;
      showTea(told);
    } catch (error) {
      last = "";
      if (asked === tea) fill(side, el("p", { class: "trouble" }, error.message));
    }
  }, PAUSE_MS);

  const refreshSeldom = paced(refresh, SELDOM_MS);

  function showList() {
    const wanted = filter.value.trim().toLowerCase();
    const fitting = teas.filter((one) => one.tea.toLowerCase().includes(wanted));
    refill(
      list,
      fitting.map((one, index) => {
        const link = el(
          "a",
          {
            href: `#tea/${encodeURIComponent(one.tea)}`,
            tabindex: index === 0 ? 0 : -1,
            "aria-current": one.tea === tea ? "true" : null,
          },
          el("span", { class: "tea-name", title: one.tea }, one.tea),
          el(
            "span",
            { class: "quiet" },
            one.siblings > 1 ? `${rating(one.rating)}, ${one.siblings} siblings` : rating(one.rating),
          ),
        );
        return el("li", {}, link);
      }),
    );
  }

  function showTea(told) {
    fill(primary, "Its primary is ", el("b", {}, told.primary), ", by the hash of its name. ", summary(told));
    fillFolded(side, replicas(told));
    fillFolded(compared, siblingsCompared(told.siblings));
    form.known(
      [...told.replicas.map((replica) => replica.clock), ...told.siblings.values.map((value) => value.clock)].filter(
        Boolean,
      ),
    );
  }

  function choose(name) {
    if (name === tea) return;
    tea = name;
    last = "";
    chosen.hidden = name === null;
    heading.textContent = name ?? "A tea";
    fill(side, el("p", { class: "quiet" }, "Asking every shard …"));
    fill(compared);
    if (name === null) return;
    form.choose(name);
    form.known([]);
    showList();
    refresh();
  }

  rove(list, "a");
  const search = el(
    "form",
    {
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        const name = filter.value.trim();
        if (name) location.hash = `#tea/${encodeURIComponent(name)}`;
      },
      onkeydown: (event) => {
        if (event.key !== "Escape") return;
        filter.value = "";
        showList();
      },
    },
    el("label", { for: "tea-name" }, "Find a tea, or enter a new one"),
    el("p", { class: "buttons" }, filter, el("button", {}, "Open")),
  );
  const element = el(
    "section",
    { class: "view tea-view" },
    el(
      "div",
      { class: "with-list" },
      el("aside", { class: "list-side panel" }, search, note, list),
      el(
        "div",
        { class: "main-side" },
        heading,
        chosen,
        el("p", { class: "choose-hint" }, "Choose a tea from the list, or enter any name: it need not be there yet."),
      ),
    ),
  );
  // Each look asks all shards: only where something about this tea was told, or a service came or went.
  const isSeen = () => !element.hidden && document.visibilityState === "visible";
  store.hear((state, before) => isSeen() && changes(before, state).length && refresh());
  store.hearTrace((events, dropped) => {
    if (!isSeen()) return;
    if (dropped) refreshSeldom();
    if (events.some((event) => event.tea === tea)) refresh();
    if (events.some((event) => event.service === "lb" && event.event === "answered")) refreshList();
  });
  store.hearGap(() => isSeen() && (refresh(), refreshList()));
  return {
    element,
    enter(name) {
      if (name !== null) choose(name.normalize("NFC"));
      element.querySelector(".choose-hint").hidden = tea !== null;
      refreshList();
      refresh();
    },
  };
}
