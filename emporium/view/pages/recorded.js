// Reads a trace that was saved as JSON: every part is checked, since a file can hold anything. Pure.

const MOST_EVENTS = 20_000;

/** The trace in this text. Throws Error that says what is wrong with it. */
export function recordedTrace(text) {
  let told;
  try {
    told = JSON.parse(text);
  } catch (error) {
    throw new Error("This file is no JSON.", { cause: error });
  }
  const isText = (value) => typeof value === "string";
  if (!Array.isArray(told?.lanes) || !told.lanes.every(isText))
    throw new Error("This file is no recorded run: it has no lanes.");
  if (!Array.isArray(told.events) || told.events.length > MOST_EVENTS)
    throw new Error("This file is no recorded run: it has no events, or too many.");
  const isEvent = (event) => isText(event?.event) && Number.isFinite(event?.at) && told.lanes.includes(event?.lane);
  const bad = told.events.findIndex((event) => !isEvent(event));
  if (bad >= 0) throw new Error(`This file is no recorded run: event ${bad} has no name, no time or no lane.`);
  const arrows = Array.isArray(told.arrows) ? told.arrows : [];
  const inside = (index) => Number.isInteger(index) && index >= 0 && index < told.events.length;
  return { ...told, arrows: arrows.filter((arrow) => inside(arrow?.from) && inside(arrow?.to)) };
}
