// Where everything of a ring of many shards is drawn where there is room: along the edges of the page. Pure geometry.
//
//     db0  db1  db2  db3  db4      the shards from the left above, with the sun; the channels in a frame within,
//     db9       queue      db5     each between the shard that tells and the one that hears
//     db8       db7        db6

const CARD = { least: 84, most: 150, h: 92 };
const SLOT = { most: 110, h: 34 };
const [BESIDE, BELOW, ASIDE] = [26, 24, 20]; // between shards, between shards and channels above each other, and beside
const HUB = { least: 60, most: 74 };

/** {height, card, slot, hub, shards, channels}, each place {x, y, w, h}, under what reaches down to `top`. */
export function wideLayout(count, width, unit, top) {
  const most = Math.floor((width / unit - 4 + BESIDE) / (CARD.least + BESIDE)); // so many fit beside each other
  const side = Math.max(Math.round(count / 8), Math.ceil((count - 2 * most) / 2)); // between the corners
  const above = Math.ceil((count - 2 * side) / 2);
  const below = count - 2 * side - above;
  const half = width / 2 - (ASIDE + SLOT.most + HUB.least + 10) * unit; // beside the queue and the channels left of it
  const w = Math.max(CARD.least * unit, Math.min(CARD.most * unit, half, (width - 4 + BESIDE * unit) / above - BESIDE * unit));
  const card = { w, h: CARD.h * unit };
  // The channels of a row stand between the shards left and right, and leave room for the arrows in the corners.
  const within = width - 4 - 2 * w;
  const corner = Math.max(8 * unit, Math.min(40 * unit, (within - (above - 1) * (SLOT.most + 10) * unit) / 2));
  const slot = { w: Math.min(SLOT.most * unit, (within - 2 * corner) / (above - 1) - 10 * unit), h: SLOT.h * unit };
  const edge = card.h + BELOW * unit + slot.h; // of a row with its channels
  const inside = Math.max(2 * (HUB.least + 14) * unit, (side + 1) * (slot.h + 14 * unit));
  const height = Math.max(2 * edge + inside, (side + 2) * (card.h + 26 * unit));

  const [left, right] = [2 + w / 2, width - 2 - w / 2];
  const [high, low] = [top + card.h / 2, top + height - card.h / 2 - 4];
  const row = (number, y, from, to) => spread(number, from, to).map((x) => ({ x, y }));
  const column = (number, x, from, to) => spread(number + 2, from, to).slice(1, -1).map((y) => ({ x, y })); // between them
  const shards = [
    ...row(above, high, left, right),
    ...column(side, right, high, low),
    ...row(below, low, right, left),
    ...column(side, left, low, high),
  ].map((place) => ({ ...place, ...card }));

  const [first, last] = [high + card.h / 2 + BELOW * unit + slot.h / 2, low - card.h / 2 - BELOW * unit - slot.h / 2];
  const aside = w / 2 + ASIDE * unit + slot.w / 2;
  const inset = (w + slot.w) / 2 + corner;
  const channels = [
    ...row(above - 1, first, left + inset, right - inset),
    ...column(side + 1, right - aside, first, last),
    ...row(below - 1, last, right - inset, left + inset),
    ...column(side + 1, left + aside, last, first),
  ].map((place) => ({ ...place, ...slot }));
  const room = Math.min((last - first - slot.h) / 2, width / 2 - left - aside - slot.w / 2) - 8 * unit;
  const hub = { x: width / 2, y: (first + last) / 2, r: Math.min(HUB.most * unit, room) };
  return { height: top + height, hub, shards, channels };
}

/** So many numbers from one to another, as far apart as can be; a single one in the middle. */
function spread(number, from, to) {
  if (number === 1) return [(from + to) / 2];
  return Array.from({ length: number }, (_, index) => from + ((to - from) * index) / (number - 1));
}
