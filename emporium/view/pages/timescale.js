// Where on the axis of time each event stands: in order always, with gaps from microseconds to minutes squeezed. Pure.

const GAP_SHOWN_S = 0.05;

/**
 * A place for each of these times (seconds, ascending): {places, gaps}. Two neighbours are `least` apart when they are
 * at the same moment, and `step` more for each power of ten of microseconds between them. A gap is {at, seconds}: where
 * to say that nothing happened for so long. `more[index]` is kept free before this one besides, if it is there.
 */
export function timeScale(times, least, step, more = []) {
  const places = [];
  const gaps = [];
  let at = 0;
  times.forEach((time, index) => {
    if (index > 0) {
      const gap_s = Math.max(0, time - times[index - 1]);
      const stretch = least + (more[index] ?? 0) + step * Math.log10(1 + gap_s * 1e6);
      if (gap_s >= GAP_SHOWN_S) gaps.push({ at: at + stretch / 2, seconds: gap_s });
      at += stretch;
    }
    places.push(at);
  });
  return { places, gaps, length: at };
}
