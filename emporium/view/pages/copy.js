// A command or a curl line, with a button that copies it.

import { el } from "./dom.js";

const SHOWN_MS = 1500;

/** {element, show(text)}: the line as text that can be chosen, and the button. */
export function createLine(text = "", label = "Copy") {
  const code = el("code", {}, text);
  const button = el(
    "button",
    { type: "button", class: "plain copy", onclick: copy, "aria-label": `${label}: ${text}` },
    "Copy",
  );

  async function copy() {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Not every page may use the clipboard: mark the text, so that the reader's own copy takes it.
      getSelection().selectAllChildren(code);
      button.textContent = "Marked: press Ctrl-C";
    }
    setTimeout(() => (button.textContent = "Copy"), SHOWN_MS);
  }

  return {
    element: el("span", { class: "line" }, code, button),
    show(now) {
      code.textContent = now;
      button.setAttribute("aria-label", `${label}: ${now}`);
    },
  };
}
