// What the page knows, kept in one place: the newest state of the cluster, and who wants to hear of it.

/** A store: `state` is the newest one or null, `hear` adds a listener for states, `hearTrace` one for trace events. */
export function createStore(first) {
  const listeners = new Set();
  const traceListeners = new Set();
  return {
    state: first,
    put(state) {
      const before = this.state;
      this.state = state;
      for (const listener of listeners) listener(state, before);
    },
    trace(told) {
      for (const listener of traceListeners) listener(told.events ?? [], told.dropped ?? 0);
    },
    hear(listener) {
      listeners.add(listener);
      if (this.state) listener(this.state, null);
    },
    hearTrace(listener) {
      traceListeners.add(listener);
    },
  };
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
