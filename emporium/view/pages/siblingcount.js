// How many teas have siblings: listed once, and then followed by what shards tell of their merges.

import { get } from "./api.js";

const LISTED = 1000;

/** Whether a merge left more than one living rating; null when it does not say. Pure. */
export function leavesSiblings(event) {
  if (event.event !== "merged" || !event.tea || !event.choices) return null;
  return event.choices.filter((choice) => choice !== null).length > 1;
}

/** Follows the store, and calls `onCount(number)` whenever it changed. */
export function countSiblings(store, onCount) {
  const teas = new Set();
  store.hearTrace((events) => {
    const before = teas.size;
    for (const event of events) {
      const leaves = leavesSiblings(event);
      if (leaves === true) teas.add(event.tea);
      if (leaves === false) teas.delete(event.tea);
    }
    if (teas.size !== before) onCount(teas.size);
  });
  get(`/api/teas?max=${LISTED}`).then(
    (told) => {
      for (const one of told.teas) if (one.siblings > 1) teas.add(one.tea);
      onCount(teas.size);
    },
    () => onCount(null), // no load balancer, no list: the bar says that it is not known
  );
}
