// Elements made by script. Data only ever becomes text: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: el("p", {class: "note", onclick: act}, "text", child). What is null, undefined or false is left out. */
export function el(tag, attributes = {}, ...children) {
  return dressed(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return dressed(document.createElementNS(SVG, tag), attributes, children);
}

function dressed(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Puts these in place of what the element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets the text where it differs, so that a reader's selection and a screen reader are left in peace. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Puts `fresh` in place of what the element holds, unless it says the same: what a reader has marked stays marked. */
export function renew(element, ...fresh) {
  const made = el("div", {}, ...fresh);
  if (made.textContent !== element.textContent) fill(element, ...made.childNodes);
}

/** The same for tables: the frames in which they are scrolled stay, with the focus and where they stand. */
export function renewTables(element, ...tables) {
  if (element.children.length !== tables.length) fill(element, tables);
  else tables.forEach((made, index) => renew(element.children[index], ...made.childNodes));
}

/** Fills a list of links anew; the one that had the focus has it again. */
export function refill(list, items) {
  const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  fill(list, items);
  if (focused) [...list.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
}

/** Lets the link that skips the bar lead there, and leave the address as it is: that says which view is open. */
export function skipsTo(element) {
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    element.focus();
  });
}

/**
 * Fills anew; of what can be folded, that stays open which was, by its place in its card (what has data-shard), or else in
 * all. What was empty before is as it is made.
 */
export function fillFolded(element, ...children) {
  const folds = () => [...element.querySelectorAll("details")];
  const place = (one) => {
    const card = one.closest("[data-shard]") ?? element;
    return `${card.dataset.shard ?? ""} ${[...card.querySelectorAll("details")].indexOf(one)}`;
  };
  const isFirst = element.children.length === 0;
  const opened = new Set(
    folds()
      .filter((one) => one.open)
      .map(place),
  );
  fill(element, ...children);
  if (!isFirst) for (const one of folds()) one.open = opened.has(place(one));
}

/** Only what is seldom wanted: a summary to open. */
export function fold(summary, ...children) {
  return el("details", {}, el("summary", {}, summary), ...children);
}

/** A table: heads are texts; a row is a list of texts or elements, the first of which heads it. */
export function table(caption, heads, rows) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", {}, caption),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          heads.map((head) => el("th", { scope: "col" }, head)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map(([first, ...others]) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, first),
            others.map((cell) => el("td", {}, cell)),
          ),
        ),
      ),
    ),
  );
}

/** One tab stop for a group of items: arrow keys, Home and End move the focus among them. */
export function rove(group, selector) {
  const items = () => [...group.querySelectorAll(selector)];
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  group.addEventListener("focusin", (event) => {
    if (!event.target.matches(selector)) return;
    for (const item of items()) item.setAttribute("tabindex", item === event.target ? "0" : "-1");
  });
  group.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(event.target);
    if (at < 0) return;
    const to =
      { Home: 0, End: all.length - 1 }[event.key] ??
      (event.key in steps ? (at + steps[event.key] + all.length) % all.length : null);
    if (to === null) return;
    event.preventDefault();
    all[to].focus();
  });
}
