// Numbers, times, clocks and commands as people read them. Pure.

/** "1 key", "10 keys", "1,204 records". */
export function count(number, noun, many = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : many}`;
}

/** A rating: whole, or with at most three places. */
export function rating(value) {
  return value === null || value === undefined ? "deleted" : String(Math.round(value * 1000) / 1000);
}

/** How long: "0.4 µs" to "3 h". */
export function seconds(value) {
  const size = Math.abs(value);
  if (size < 1e-3) return `${short(value * 1e6)} µs`;
  if (size < 1) return `${short(value * 1e3)} ms`;
  if (size < 120) return `${short(value)} s`;
  if (size < 7200) return `${short(value / 60)} min`;
  return `${short(value / 3600)} h`;
}

function short(value) {
  return String(Math.abs(value) < 100 ? Math.round(value * 10) / 10 : Math.round(value));
}

/** The time of day of seconds since 1970: "21:04:09". */
export function timeOfDay(at, places = 0) {
  const when = new Date(at * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const rest = places ? `.${String(when.getMilliseconds()).padStart(3, "0").slice(0, places)}` : "";
  return `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}${rest}`;
}

const TURNS = /[\p{Bidi_Control}\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;

/** A name for the middle of a sentence: one that is written from right to left leaves the words beside it in their order. */
export function isolated(name) {
  return TURNS.test(name) ? `\u2068${name}\u2069` : name;
}

/** A clock in short: "c0:5 c1:2". With `most`, no more entries than that. */
export function clock(entries, most = Infinity) {
  const all = Object.entries(entries ?? {});
  if (all.length === 0) return "no entries";
  const shown = all.slice(0, most).map(([id, number]) => `${id}:${number}`);
  return all.length > most ? `${shown.join(" ")} … ${all.length - most} more` : shown.join(" ");
}

/** Clocks in short: "{c0:5} {c1:2}". */
export function clocks(list, most = Infinity) {
  return (list ?? []).map((entries) => `{${clock(entries, most)}}`).join(" ");
}

/** The path of a tea; a quote is encoded, too, since curl lines stand in quotes. */
export function teaPath(tea) {
  const encoded = (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`;
  return `/rating/${encodeURIComponent(tea).replace(/[!'()*]/g, encoded)}`;
}

/** The curl line of a write. */
export function curlWrite(base, tea, value, entries) {
  const body = `{"rating": ${value}, "clock": ${JSON.stringify(entries)}}`;
  return `curl -XPUT -H'Content-type: application/json' -d'${body}' '${base}${teaPath(tea)}'`;
}

/** The curl line of a read or a delete. */
export function curlPlain(method, base, tea, consistency) {
  return `curl -X${method} '${base}${teaPath(tea)}${consistency === "weak" ? "?consistency=weak" : ""}'`;
}
