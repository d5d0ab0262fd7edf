// Where everything of the ring is drawn, from the number of shards and the room there is. Pure geometry.

const WIDE = 640;

/**
 * The places: {width, height, isFull, lb, hub, shards, channels}. A place is {x, y, w, h} around its middle.
 *
 * Channel i has the paths of its records: `out` from shard i to the queue, `on` from there to the next shard, and `sent`
 * is the load balancer's path to shard i. `rem` is the height of a letter, since the room that texts take grows with it.
 */
export function ringLayout(count, width, rem) {
  const unit = rem / 16;
  const isFull = width >= WIDE * unit && count <= 6;
  const card = isFull ? box(192, 112, unit) : box(count > 4 ? 84 : 98, 92, unit);
  const slot = isFull ? box(132, 44, unit) : box(62, 34, unit);
  const rows = Math.ceil(count / 2);
  const height = isFull ? Math.max(width * 0.56, (rows * 150 + 240) * unit) : Math.max(width * 0.8, (rows * 128 + 190) * unit);
  const lb = { x: width / 2, y: (isFull ? 30 : 26) * unit, ...(isFull ? box(300, 52, unit) : box(150, 48, unit)) };
  const top = lb.y + lb.h / 2 + 14 * unit;
  const middle = { x: width / 2, y: (top + height) / 2 };
  const far = { x: width / 2 - card.w / 2 - 2, y: (height - top) / 2 - card.h / 2 - 4 };
  const hub = { ...middle, r: (isFull ? 74 : 40) * unit };
  const reach = { x: hub.r + (isFull ? slot.w * 0.42 : slot.w * 0.2), y: hub.r + slot.h * 0.55 };

  const turn = (2 * Math.PI) / count;
  const first = -Math.PI / 2 - turn / 2; // so that the load balancer stands over a gap
  const shards = Array.from({ length: count }, (_, index) => ({ ...onEllipse(middle, far, first + index * turn), ...card }));
  // With two shards left and right, and nobody above or below, the ellipse has no height to use.
  const channels = count < 2 ? [] : shards.map((shard, index) => {
    const place = { ...onEllipse(middle, reach, first + (index + 0.5) * turn), ...slot };
    return { ...place, out: bow(shard, place, middle), on: bow(place, shards[(index + 1) % count], middle) };
  });
  for (const shard of shards) shard.sent = bow(lb, shard, shard);
  return { width, height, unit, isFull, lb, hub, shards, channels };
}

function box(w, h, unit) {
  return { w: w * unit, h: h * unit };
}

function onEllipse(middle, radius, angle) {
  // Corners are farther than an ellipse reaches: pull towards the rectangle, where the room is.
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const stretch = Math.min(1 / Math.max(Math.abs(cos), Math.abs(sin)), 1.42);
  const pull = 1 + (stretch - 1) * 0.98;
  return { x: middle.x + radius.x * cos * pull, y: middle.y + radius.y * sin * pull };
}

/** A path from the edge of one place to the edge of another, bent away from `from what lies in the middle`. */
function bow(from, to, middle) {
  const between = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const away = { x: between.x + (between.x - middle.x) * 0.22, y: between.y + (between.y - middle.y) * 0.22 };
  const start = edge(from, away);
  const end = edge(to, away, 5);
  return `M${round(start.x)} ${round(start.y)}Q${round(away.x)} ${round(away.y)} ${round(end.x)} ${round(end.y)}`;
}

/** Where the line from the middle of a place towards a point leaves the place, and so much farther. */
export function edge(place, towards, more = 0) {
  const dx = towards.x - place.x;
  const dy = towards.y - place.y;
  const distance = Math.hypot(dx, dy);
  if (distance === 0) return { x: place.x, y: place.y };
  const scale = Math.min(place.w / 2 / Math.abs(dx || 1e-9), place.h / 2 / Math.abs(dy || 1e-9)) + more / distance;
  return { x: place.x + dx * scale, y: place.y + dy * scale };
}

function round(number) {
  return Math.round(number * 10) / 10;
}
