// The bar that answers "is it healthy?": a verdict in words, and the figures behind it.

import { el, fill, say } from "./dom.js";
import { count, seconds } from "./format.js";
import { badge } from "./marks.js";
import { countSiblings } from "./siblingcount.js";
import { services } from "./state.js";

const LATE_S = 5; // what the queue has not taken for so long is trouble; what waits there may wait for a request

/** What a state amounts to. Pure: {verdict, mark, troubles, serving, shards, lag_s, waiting, isKnown}: what waits is not all known otherwise. */
export function healthOf(state) {
  const troubles = services(state)
    .filter((service) => service.state !== "up")
    .map((service) => ({ state: service.state, words: `${service.name} ${service.state}`, note: service.note }));
  const channels = state.queue?.channels ?? [];
  const owed = state.shards.map((shard) => (shard.due ? shard.lag_s : null));
  const ages = [...owed, ...channels.map((channel) => channel.oldest_age_s)];
  const lag_s = Math.max(0, ...ages.filter(isThere));
  const numbers = [...channels.map((channel) => channel.depth), ...state.shards.map((shard) => shard.due)];
  const waiting = numbers.reduce((all, number) => all + (number ?? 0), 0);
  const isKnown = numbers.every(isThere);
  if (state.held) troubles.push({ state: "slow", words: "gossip held", note: null });
  else if (owed.some((age) => age > LATE_S)) troubles.push({ state: "slow", words: "gossip is held up", note: null });
  const serving = state.shards.filter((shard, index) => isServing(shard, state.redis[index])).length;
  const isBad = troubles.some((trouble) => trouble.state === "down");
  return {
    verdict: troubles.length === 0 ? "Healthy" : isBad ? "Trouble" : "Not quite well",
    mark: troubles.length === 0 ? "up" : isBad ? "down" : "slow",
    troubles,
    serving,
    shards: state.shards.length,
    lag_s,
    waiting,
    isKnown,
  };
}

/** Whether a shard can do its work: it is up, and has its Redis, by its own word if it tells of it, or else as we see it. */
function isServing(shard, redis) {
  const isTelling = isThere(shard.digest_length); // how many teas are stored is then only unknown when Redis told nothing
  const hasRedis = isTelling ? isThere(shard.keys) : redis?.state === "up" || isThere(redis?.answer_ms);
  return shard.state === "up" && hasRedis;
}

function isThere(value) {
  return value !== null && value !== undefined;
}

function waitingInWords({ waiting, isKnown }) {
  if (isKnown) return count(waiting, "record");
  return waiting ? `${count(waiting, "record")} or more` : "not known";
}

/** The bar, which follows the store. */
export function createHealth(store) {
  const told = el("span", {});
  const verdict = el("p", { class: "verdict" }, el("span", { class: "if-stale" }, "Last known: "), told);
  const troubles = el("ul", { class: "troubles" });
  const fact = (name, title) => ({ name: el("dt", { title }, name), value: el("dd", {}, "–") });
  const facts = {
    serving: fact("shards serving", "those that are up, and whose Redis answers them"),
    lag: fact("gossip lag", "the oldest record on its way: a shard takes what waits for it when it is asked for something"),
    waiting: fact("waiting"),
    siblings: fact("siblings"),
  };
  const list = el(
    "dl",
    { class: "facts" },
    Object.values(facts).map((one) => el("div", {}, one.name, one.value)),
  );
  let last = "";

  store.hearAging((state) => {
    const health = healthOf(state);
    say(facts.serving.value, `${health.serving} of ${health.shards}`);
    say(facts.lag.value, health.lag_s > 0 ? seconds(health.lag_s) : health.isKnown ? "none" : "not known");
    say(facts.waiting.value, waitingInWords(health));
    const now = JSON.stringify([health.verdict, health.troubles]);
    if (now === last) return;
    last = now;
    fill(told, badge(health.mark, health.verdict));
    fill(
      troubles,
      health.troubles.map((trouble) => el("li", { title: trouble.note }, badge(trouble.state, trouble.words))),
    );
  });
  countSiblings(store, (number, isWhole, isSure) => {
    const words = `${isSure ? "" : "about "}${count(number ?? 0, "tea")}${isWhole ? "" : " or more"}`;
    say(facts.siblings.value, number === null ? "not known" : words);
  });
  return el("div", { class: "health-inner" }, verdict, troubles, list);
}
