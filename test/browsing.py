"""Pages of the view in a browser: opened, listened to, and looked at."""

import re
from urllib.parse import urlsplit

from playwright.sync_api import expect

from emporium.environment import ROOT

SCREENSHOTS = ROOT / "var" / "screenshots"
LAPTOP = (1280, 800)
SIZES = {"small phone": (320, 640), "phone": (390, 844), "laptop": LAPTOP, "projector": (1920, 1080)}
PATIENCE_MS = 10_000
expect.set_options(timeout=PATIENCE_MS)

# How dark each text stands on what is behind it, as WCAG 2.2 counts it, for those below 4.5 (3 where it is large).
FAINT_TEXTS = """() => {
  const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => {
    const part = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    const frame = element.closest("svg g.part")?.querySelector(".frame");
    if (frame && element.tagName !== "svg") return rgba(getComputedStyle(frame).fill);
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("title, desc, script, :disabled, .dots")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgba(element.ownerSVGElement ? style.fill : style.color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${node.data.trim().slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""

# The texts of a part of the ring that reach out of its frame.
TEXTS_OUT_OF_FRAME = """() => [...document.querySelectorAll(".ring .part")].flatMap((part) => {
  const frame = part.querySelector(".frame").getBoundingClientRect();
  return [...part.querySelectorAll("text:not(.moved)")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1);
  }).map((text) => text.textContent);
})"""

# The texts of each edge of a diagram that can be seen in its frame.
TEXTS_IN_VIEW = """(frame) => {
  const room = frame.getBoundingClientRect();
  const isSeen = (text) => {
    const box = text.getBoundingClientRect();
    return box.left >= room.left && box.right <= room.right && box.top >= room.top && box.bottom <= room.bottom;
  };
  return Object.fromEntries([...frame.querySelectorAll(".diagram-edge")].map((edge) =>
    [edge.classList[1], [...edge.querySelectorAll("text")].filter(isSeen).map((text) => text.textContent)]));
}"""

# The ring is drawn anew for each width; until then the old drawing is only stretched.
RING_FITS = """() => {
  const ring = document.querySelector(".ring");
  return Math.abs(ring.viewBox.baseVal.width - ring.clientWidth) < 1;
}"""

TOO_WIDE_PX = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

# Notes in the page whether anything that this selector means has come, for however short a time it stayed.
WATCH_FOR = """(selector) => {
  window.hasCome = false;
  const watcher = new MutationObserver(() => {
    if (!document.querySelector(selector)) return;
    window.hasCome = true;
    watcher.disconnect();
  });
  watcher.observe(document.body, { childList: true, subtree: true });
}"""
HAS_COME = "() => window.hasCome"

# What a person who uses the keyboard sees of where they are.
FOCUSED = """(selector) => {
  const element = document.activeElement;
  const isWanted = element.matches(selector);
  const frame = element.querySelector?.(":scope > .frame, :scope > circle");
  const words = element.outerHTML.slice(0, 200);
  const label = element.type === "file" ? document.querySelector(`label[for="${element.id}"]`) : element;
  const isSeen = element.ownerSVGElement && frame
    ? parseFloat(getComputedStyle(frame).strokeWidth) >= 3
    : getComputedStyle(label).outlineStyle !== "none";
  return { isWanted, isSeen, words };
}"""


class Visits:
    """The pages that tests open: one that most of them share, and those that one test opens for itself."""

    def __init__(self, browser, port):
        self._browser = browser
        self.origin = f"http://127.0.0.1:{port}"
        self._contexts = []
        self._page = None
        self.requests = []
        self.errors = []

    def go(self, place):
        """The shared page, at this place in it ("#ring"): in a state as if it were new, but for what it has heard."""
        if self._page is None:
            self._page = self.open("/")
            self._contexts = []
        self._page.mouse.move(0, 0)
        self._page.goto(f"{self.origin}/{place}")
        return self._page

    def open(self, path="/", size=LAPTOP, **options):
        """A page of the view, in a browser that knows nothing yet. `options` are those of a Playwright context."""
        page = self.blank(size, **options)
        page.goto(self.origin + path)
        return page

    def blank(self, size=LAPTOP, **options):
        context = self._browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        return page

    def forget(self):
        """Begin anew to note what pages ask, and what they complain of."""
        self.requests.clear()
        self.errors.clear()

    def close_others(self):
        """Close all but the shared page."""
        for context in self._contexts:
            context.close()
        self._contexts = []

    def close(self):
        self.close_others()
        if self._page:
            self._page.context.close()

    def strangers(self):
        """The requests that went to anybody but the view."""
        ours = urlsplit(self.origin).netloc
        return [
            url for url in self.requests if urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc != ours
        ]


def keep_picture(page, name, **options):
    """A screenshot in var/screenshots, to be looked at after the run."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", **options)


def part(page, name):
    """The shard or load balancer of this name in the drawing of the ring."""
    return page.locator(f'.ring [data-name="{name}"]')


def expect_state(page, name, state, within_s=10):
    """In the drawing, the word of this state stands beside the name, and the part's own words tell it."""
    expect(part(page, name).locator(".word")).to_have_text(state, timeout=within_s * 1000)
    expect(part(page, name)).to_have_attribute("aria-label", re.compile(rf"\b{state}\b"))


def tab_to(page, selector, most=80):
    """Press Tab until what this selector means has the focus; wherever that comes by, it can be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED, selector)
        assert focused["isSeen"], focused["words"]
        if focused["isWanted"]:
            return
    raise AssertionError(f"{most} times Tab do not reach {selector}")
