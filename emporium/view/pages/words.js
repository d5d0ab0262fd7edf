// A trace event as a sentence. Pure.

import { clocks, isolated, rating } from "./format.js";

const MERGED = {
  stored: "it stands now",
  stale: "a newer rating stands, so it changed nothing",
  same: "this was known already",
  changed: "this was news",
  home: "it came home, and goes no further",
  aside: "it makes no sense, and was set aside",
};

/** What happened, in one sentence without its time: "db1 heard of oolong on channel db0: 3 at {c0:5}". */
export function inWords(event) {
  const tea = event.tea ? isolated(event.tea) : "something";
  const who = { lb: "The load balancer", q: "The queue" }[event.service] ?? event.service;
  const said = SENTENCES[event.event]?.(event, tea) ?? `${event.event} ${tea}`;
  return `${who} ${said}${valueOf(event)}`;
}

const SENTENCES = {
  received: (event, tea) => `received ${event.method ?? "a request"} for ${tea}`,
  sent: (event, tea) =>
    `sent ${tea} to ${event.peer ?? "its primary"}${event.together > 1 ? `, together with ${event.together - 1} more` : ""}`,
  answered: (event, tea) => `answered ${event.status ?? ""} for ${tea}${event.outcome ? ` (${event.outcome})` : ""}`,
  arrived: (event, tea) =>
    `was asked to ${{ PUT: "write", DELETE: "delete", GET: "read" }[event.method] ?? "handle"} ${tea}`,
  merged: (event, tea) => `merged ${tea}: ${MERGED[event.outcome] ?? event.outcome ?? "done"}`,
  stored: (event, tea) => `stored ${tea} in ${event.peer ?? "its Redis"}`,
  remembered: (event, tea) => `remembers ${tea} for gossip, its digest is at ${event.digest ?? "?"}`,
  replaced: (_, tea) => `tells no more of this: a newer record of ${tea} takes its place in the digest`,
  due: (_, tea) => `owes the queue ${tea}: the digest is full`,
  told: (event, tea) => `told the queue of ${tea} on channel ${event.channel ?? event.service}`,
  heard: (event, tea) => `heard of ${tea} on channel ${event.channel ?? "?"}`,
  read: (_, tea) => `read ${tea}`,
  compared: (event, tea) => `compared with ${event.peer ?? "another shard"} and took ${tea}`,
  put: (event, tea) => `keeps ${tea} on channel ${event.channel ?? "?"}`,
  taken: (event, tea) => `gave ${tea} from channel ${event.channel ?? "?"}`,
};

function valueOf(event) {
  if (!event.clocks?.length && event.rating === undefined) return "";
  const values = (event.choices ?? (event.rating === undefined ? [] : [event.rating])).map(rating).join(", ");
  const at = clocks(event.clocks);
  return `: ${[values, at].filter(Boolean).join(" at ")}`;
}
