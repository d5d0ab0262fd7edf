// How many teas have siblings: listed, then followed by what primaries tell of their merges, and listed again after a gap.

import { get, paced } from "./api.js";
import { changes } from "./state.js";

const LISTED = 1000;
const PAUSE_MS = 2000; // the load balancer asks every shard for the list

/** Whether a write left more than one living rating of its tea; null when the event does not say. Pure. */
export function leavesSiblings(event) {
  if (event.event !== "merged" || !event.tea || !event.choices) return null;
  if (event.primary !== event.service || event.outcome === "home") return null; // what it heard may be of before
  return event.choices.filter((choice) => choice !== null).length > 1;
}

/**
 * Follows the store, and calls `onCount(number, isWhole, isSure)` whenever it changed: null when it is not known, not
 * whole when there may be more, and not sure while more happens than this page is told.
 */
export function countSiblings(store, onCount) {
  let teas = null; // those with siblings; null: not known
  let isWhole = false;
  let isSure = true;
  const list = paced(async () => {
    try {
      const told = await get(`/api/teas?max=${LISTED}`);
      teas = new Set(told.teas.filter((one) => one.siblings > 1).map((one) => one.tea));
      isWhole = told.complete;
      isSure = true;
    } catch {
      teas = null; // no load balancer, no list
    }
    onCount(teas?.size ?? null, isWhole, isSure);
  }, PAUSE_MS);

  store.hearTrace((events, dropped) => {
    if (teas === null) return;
    const before = teas.size;
    const wasSure = isSure;
    isSure = isSure && !dropped;
    for (const event of events) {
      const leaves = leavesSiblings(event);
      if (leaves === true) teas.add(event.tea);
      if (leaves === false) teas.delete(event.tea);
    }
    if (teas.size !== before || wasSure !== isSure) onCount(teas.size, isWhole, isSure);
  });
  store.hear((state, before) => changes(before, state).length && list());
  store.hearGap(list);
  list();
}
