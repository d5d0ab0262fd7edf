// What the page knows, kept in one place: the newest state of the cluster, and who wants to hear of it.

const CALM_MS = 2000; // without another dropped event, until what was dropped is asked for

/**
 * A store: `state` is the newest one or null. `hear` adds a listener for states, `hearTrace` one for trace events, and
 * `hearAging` one for states and, between them, for the same with what waits grown older: a state only comes when
 * something else than a time has changed. `hearGap` adds one for moments after which not all has been heard: whoever
 * follows events has to ask anew.
 */
export function createStore(first) {
  const listeners = new Set();
  const agingListeners = new Set();
  const traceListeners = new Set();
  const gapListeners = new Set();
  let calm = null;
  let putAt = performance.now();
  return {
    state: first,
    put(state) {
      const before = this.state;
      this.state = state;
      putAt = performance.now();
      for (const listener of listeners) listener(state, before);
      for (const listener of agingListeners) listener(state);
    },
    /** Time has passed. */
    age() {
      if (!this.state) return;
      const older = aged(this.state, (performance.now() - putAt) / 1000);
      for (const listener of agingListeners) listener(older);
    },
    hearAging(listener) {
      agingListeners.add(listener);
      if (this.state) listener(this.state);
    },
    trace(told) {
      if (told.dropped) {
        clearTimeout(calm);
        calm = setTimeout(() => this.gap(), CALM_MS);
      }
      for (const listener of traceListeners) listener(told.events ?? [], told.dropped ?? 0);
    },
    hear(listener) {
      listeners.add(listener);
      if (this.state) listener(this.state, null);
    },
    /** Some events were not heard, and will not come any more. */
    gap() {
      for (const listener of gapListeners) listener();
    },
    hearGap(listener) {
      gapListeners.add(listener);
    },
    hearTrace(listener) {
      traceListeners.add(listener);
    },
  };
}

/** The state with all that waits so many seconds older. Pure. */
export function aged(state, seconds) {
  const older = (age) => (age === null || age === undefined ? age : age + seconds);
  const channels = (state.queue?.channels ?? []).map((channel) => ({
    ...channel,
    oldest_age_s: older(channel.oldest_age_s),
  }));
  const shards = state.shards.map((shard) => ({ ...shard, lag_s: older(shard.lag_s) }));
  return { ...state, shards, queue: state.queue ? { ...state.queue, channels } : state.queue };
}

/** All services of a state as a list of {name, state, note, url, kind}. */
export function services(state) {
  const named = (kind) => (service) => ({ ...service, kind });
  return [
    ...(state.lb ? [named("load balancer")(state.lb)] : []),
    ...state.shards.map(named("shard")),
    ...state.redis.map(named("Redis")),
    ...(state.queue ? [named("queue")(state.queue)] : []),
  ];
}

/** What changed from one state to the next, in words for those who cannot see it: ["db2 is down"]. */
export function changes(before, state) {
  if (!before) return [];
  const was = new Map(services(before).map((service) => [service.name, service.state]));
  return services(state)
    .filter((service) => was.has(service.name) && was.get(service.name) !== service.state)
    .map((service) => `${service.name} is ${service.state}`);
}
