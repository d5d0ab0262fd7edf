// The one event stream of the page: it resumes by itself, and says since when it has been cut.

const SILENCE_MS = 15000; // a state comes at least every 10 s
const AGAIN_MS = 1000;

/** Opens the stream. `onState` and `onTrace` get what comes, `onStale(since)` that it is cut, `onStale(null)` that it is back. */
export function openStream(url, { onState, onTrace, onStale }) {
  let source = null;
  let silence = null;
  let again = null;
  let lastHeard = Date.now();
  let isStale = false;

  function alive() {
    lastHeard = Date.now();
    clearTimeout(silence);
    silence = setTimeout(restart, SILENCE_MS);
    if (isStale) {
      isStale = false;
      onStale(null);
    }
  }

  function cut() {
    if (!isStale) {
      isStale = true;
      onStale(lastHeard / 1000);
    }
    // After most errors the browser comes back by itself, with the id of the last event. After some it gives up.
    if (source.readyState === EventSource.CLOSED) restart();
  }

  function restart() {
    if (!isStale) {
      isStale = true;
      onStale(lastHeard / 1000);
    }
    source.close();
    clearTimeout(silence);
    clearTimeout(again);
    again = setTimeout(open, AGAIN_MS);
  }

  function hear(handle) {
    return (event) => {
      alive();
      handle(JSON.parse(event.data));
    };
  }

  function open() {
    source = new EventSource(url);
    source.addEventListener("state", hear(onState));
    source.addEventListener("trace", hear(onTrace));
    source.addEventListener("error", cut);
    clearTimeout(silence);
    silence = setTimeout(restart, SILENCE_MS);
  }

  open();
}
