// Where everything of the ring is drawn, from the number of shards and the room there is. Pure geometry.

import { wideLayout } from "./ringwide.js";

const WIDE = 640;
const MANY = 7; // so many do not fit round an ellipse with all that can be told of them
const CROWDED = 10; // so many shards do not fit round an ellipse on a phone
const PULL = 0.98; // from an ellipse towards the rectangle around it

/**
 * The places: {width, height, isFull, lb, hub, shards, channels}. A place is {x, y, w, h} around its middle.
 *
 * Channel i has the paths of its records: `out` from shard i to the queue, `on` from there to the next shard; a shard
 * has `sent`, the path from the load balancer. `rem` is the height of a letter: the room that texts take grows with it.
 */
export function ringLayout(count, width, rem) {
  const unit = rem / 16;
  const isWide = width >= WIDE * unit;
  const isFull = isWide && count < MANY;
  const card = isFull ? box(192, 112, unit) : box(count < 5 ? 98 : count < CROWDED ? 84 : 92, 92, unit);
  const slot = isFull ? box(132, 44, unit) : box(62, 46, unit);
  const rows = Math.ceil(count / 2);
  const isOdd = count % 2 === 1 && count > 1; // the last shard stands right under the queue
  const height = isFull
    ? Math.max(width * (isOdd ? 0.64 : 0.56), (rows * 150 + 240) * unit)
    : Math.max(width * 0.8, (rows * 128 + (isOdd ? 240 : 190)) * unit);
  const lb = { x: width / 2, y: (isFull ? 30 : 26) * unit, ...(isFull ? box(300, 52, unit) : box(150, 48, unit)) };
  const top = lb.y + lb.h / 2 + 14 * unit;
  if (isWide && !isFull) return withPaths({ width, unit, isFull, lb, ...wideLayout(count, width, unit, top) });
  const middle = { x: width / 2, y: (top + height) / 2 };
  const far = { x: width / 2 - card.w / 2 - 2, y: (height - top) / 2 - card.h / 2 - 4 };
  const crowd = count > (isFull ? 6 : 5) ? (1.25 * count * slot.w) / (2 * Math.PI) : 0; // so far out they have room beside each other
  const hub = { ...middle, r: Math.max((isFull ? 74 : 40) * unit, crowd - slot.w * 0.7) };
  const reach = { x: Math.max(hub.r + slot.w * (isFull ? 0.42 : 0.2), crowd), y: hub.r + slot.h * (isFull ? 0.75 : 0.65) };
  const widest = far.x - card.w / 2 - slot.w / 2 - 4; // beyond it they would be behind the shards left and right
  const isHigh = crowd > widest;
  if (isHigh) {
    // One above the other instead, where there is no room beside each other.
    reach.x = hub.r = Math.max(slot.w * 0.7, widest);
    reach.y = Math.min((1.1 * slot.h) / (1 - Math.cos((2 * Math.PI) / count)), far.y - card.h);
  }

  const turn = (2 * Math.PI) / count;
  const first = -Math.PI / 2 - turn / 2; // so that the load balancer stands over a gap
  const isTall = !isFull && count >= CROWDED;
  const shards = Array.from({ length: count }, (_, index) => ({
    ...(isTall ? inColumns(middle, far, index, count) : onEllipse(middle, far, first + index * turn)),
    ...card,
  }));
  const channels =
    count < 2
      ? []
      : shards.map((shard, index) => {
          const next = shards[(index + 1) % count];
          const around = onEllipse(middle, reach, first + (index + 0.5) * turn, isHigh ? 0 : PULL);
          const place = { ...(isTall ? { x: (shard.x + next.x) / 2, y: (shard.y + next.y) / 2 } : around), ...slot };
          const aside = Math.round(place.x - middle.x);
          const least = slot.w * 0.52; // from the middle, or in it: two are beside each other there
          if (isTall || (isHigh && Math.abs(aside) < least)) place.x = middle.x + Math.sign(aside) * least;
          return place;
        });
  if (isTall) {
    // Between two rows of channels, on the height of a shard.
    const [above, below] = [shards[Math.floor(rows / 2)], shards[Math.floor(rows / 2) + 1]];
    const room = below.y - above.y - slot.h;
    Object.assign(hub, { y: above.y, r: Math.min(40 * unit, room / 2 - 4) });
  }
  return withPaths({ width, height, unit, isFull, lb, hub, shards, channels }, middle);
}

/** The same layout with the paths of what moves: none of them goes through the `middle`. */
function withPaths(layout, middle = layout.hub) {
  const { lb, shards, channels } = layout;
  for (const shard of shards) shard.sent = bow(lb, shard, shard);
  channels.forEach((channel, index) => {
    channel.out = bow(shards[index], channel, middle);
    channel.on = bow(channel, shards[(index + 1) % shards.length], middle);
  });
  return layout;
}

function box(w, h, unit) {
  return { w: w * unit, h: h * unit };
}

/** Down on the right and up on the left, in the order of the ring; the last of an odd number right below. */
function inColumns(middle, far, index, count) {
  const rows = Math.floor(count / 2);
  const isOdd = count % 2 === 1;
  if (isOdd && index === rows + 1) return { x: middle.x, y: middle.y + far.y };
  const isRight = index >= 1 && index <= rows;
  const row = isRight ? index - 1 : (count - index) % count;
  const step = (2 * far.y) / (rows - (isOdd ? 0 : 1));
  return { x: middle.x + (isRight ? far.x : -far.x), y: middle.y - far.y + row * step };
}

function onEllipse(middle, radius, angle, pull = PULL) {
  // Corners are farther than an ellipse reaches: pull towards the rectangle, where the room is.
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const stretch = Math.min(1 / Math.max(Math.abs(cos), Math.abs(sin)), 1.42);
  const far = 1 + (stretch - 1) * pull;
  return { x: middle.x + radius.x * cos * far, y: middle.y + radius.y * sin * far };
}

/** A path from the edge of one place to the edge of another, bent away from what lies in the middle. */
function bow(from, to, middle) {
  const start = edge(from, to);
  const end = edge(to, from, 5);
  const between = { x: (start.x + end.x) / 2, y: (start.y + end.y) / 2 };
  const [dx, dy] = [between.x - middle.x, between.y - middle.y];
  const bend = (0.16 * Math.hypot(end.x - start.x, end.y - start.y)) / (Math.hypot(dx, dy) || 1);
  const away = { x: between.x + dx * bend, y: between.y + dy * bend };
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
