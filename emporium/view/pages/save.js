// Gives the reader a file: the diagram as an SVG that needs nothing else, or a trace as JSON.

/** Saves text under this name. */
export function saveText(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The drawing as text of a file of its own, with its style inside. */
export async function standalone(drawing) {
  const answer = await fetch("/static/diagram.css");
  if (!answer.ok) throw new Error(`The style of the drawing could not be had: ${answer.status}.`);
  const copy = drawing.cloneNode(true);
  const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
  style.textContent = await answer.text();
  copy.prepend(style);
  copy.querySelectorAll("[tabindex]").forEach((element) => element.removeAttribute("tabindex"));
  return new XMLSerializer().serializeToString(copy);
}
