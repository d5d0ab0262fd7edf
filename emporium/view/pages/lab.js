// Break it: stop, kill and start services, and hold gossip. Each button has its command beside it.

import { postPatiently } from "./api.js";
import { createLine } from "./copy.js";
import { el, fill, say } from "./dom.js";
import { badge } from "./marks.js";
import { services } from "./state.js";

const COURSE_PORT = "2500";
const BREAKING = [
  {
    verb: "stop",
    label: "Stop",
    command: (name) => `./tea break ${name} --stop`,
    what: "it hangs: connections are accepted, nothing is answered",
  },
  { verb: "kill", label: "Kill", command: (name) => `./tea break ${name}`, what: "its process is gone at once" },
  { verb: "start", label: "Start", command: (name) => `./tea mend ${name}`, what: "it goes on, or starts anew" },
];
const HOLDING = [
  {
    verb: "hold",
    label: "Hold gossip",
    command: "./tea hold",
    what: "nothing leaves the queue, and replicas are not compared",
  },
  { verb: "step", label: "Let one through", command: "./tea step", what: "one record may leave the queue" },
  { verb: "play", label: "Play on", command: "./tea play", what: "gossip moves as always" },
];

/** What a command needs besides, to mean this cluster: nothing on the course's ports. */
export function clusterOption(state) {
  const port = state.lb?.url ? new URL(state.lb.url).port : COURSE_PORT;
  return port === COURSE_PORT ? "" : ` --port-base ${port}`;
}

export function createLab({ store, announce }) {
  const said = el("p", { class: "answer", role: "status" });
  const gossip = el("section", { class: "panel", id: "lab-gossip" });
  const grid = el("ul", { class: "lab-grid" });
  const badges = new Map();
  const heldWord = el("p", {});
  let drawn = "";

  async function act(body) {
    fill(said, `… ${body.do} ${body.service ?? "gossip"}: under way`);
    try {
      const told = await postPatiently("/api/lab", body);
      fill(
        said,
        el("b", {}, `✓ ${told.done}`),
        " ",
        el("span", { class: "quiet" }, "The same by command: "),
        el("code", {}, told.command),
      );
      announce(told.done);
    } catch (error) {
      fill(said, el("b", { class: "trouble" }, `✕ ${error.message}`));
    }
  }

  function draw(state) {
    const option = clusterOption(state);
    const all = services(state);
    const key = JSON.stringify([all.map((service) => service.name), option]);
    if (key === drawn) return;
    drawn = key;
    badges.clear();
    fill(
      gossip,
      el("h2", {}, "Gossip"),
      heldWord,
      HOLDING.map((one) => row(one.label, one.what, `${one.command}${option}`, () => act({ do: one.verb }))),
    );
    fill(
      grid,
      all.map((service) => {
        const mark = el("span", {});
        badges.set(service.name, mark);
        const rows = BREAKING.map((one) =>
          row(
            one.label,
            one.what,
            `${one.command(service.name)}${option}`,
            () => act({ do: one.verb, service: service.name }),
            service.name,
          ),
        );
        return el(
          "li",
          { class: "panel", "data-service": service.name },
          el("h3", {}, `${service.name} `, el("span", { class: "quiet" }, service.kind), " ", mark),
          rows,
        );
      }),
    );
  }

  function show(state) {
    if (!state.lab) {
      drawn = "";
      fill(
        gossip,
        el("p", {}, "This cluster may not be broken from here. Start it with ", el("code", {}, "./tea up --lab"), "."),
      );
      fill(grid);
      return;
    }
    draw(state);
    say(heldWord, state.held ? "‖ Held: nothing moves until you let it." : "▶ Not held: a shard takes what waits for it whenever it is asked for something.");
    for (const service of services(state)) {
      const mark = badges.get(service.name);
      if (mark && mark.textContent !== service.state) fill(mark, badge(service.state));
    }
  }

  const element = el(
    "section",
    { class: "view lab-view" },
    el("h1", {}, "Break it"),
    el(
      "p",
      {},
      "Everything here ends or stops real processes of this cluster, and the store must keep its word all the same. What is killed or stopped stays so until you start it.",
    ),
    said,
    gossip,
    grid,
  );
  store.hear((state) => !element.hidden && show(state));
  return { element, enter: () => store.state && show(store.state) };
}

function row(label, what, command, act, name = null) {
  return el(
    "div",
    { class: "lab-row" },
    el("button", { type: "button", title: what, "aria-label": name ? `${label} ${name}` : label, onclick: act }, label),
    createLine(command, "Copy the command").element,
  );
}
