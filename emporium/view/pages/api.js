// Calls to the view's own server, each with a deadline; what fails becomes an Error with words for the reader.

const DEADLINE_MS = 8000;
const PROCESS_MS = 25000; // what starts and ends processes takes longer

/** The JSON at this path. Throws Error with the problem's detail. */
export async function get(path) {
  return call(path, {});
}

/** The JSON that answers this body. Throws Error with the problem's detail. */
export async function post(path, body, deadline_ms = DEADLINE_MS) {
  return call(
    path,
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) },
    deadline_ms,
  );
}

/** The same for what starts or ends a process. */
export async function postPatiently(path, body) {
  return post(path, body, PROCESS_MS);
}

async function call(path, options, deadline_ms = DEADLINE_MS) {
  let answer;
  let told;
  try {
    answer = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(deadline_ms) });
    told = await answer.json();
  } catch (error) {
    if (error.name === "TimeoutError") throw new Error("The view did not answer in time.", { cause: error });
    if (answer) throw new Error(`The view answered ${answer.status} without JSON.`, { cause: error });
    throw new Error("The view cannot be reached.", { cause: error });
  }
  if (!answer.ok) throw new Error(told.detail ?? told.title ?? `The view answered ${answer.status}.`);
  return told;
}

/** Runs `work` at most once in `pause_ms`, and once more when it was asked for meanwhile. */
export function paced(work, pause_ms) {
  let isRunning = false;
  let isWanted = false;
  return async function ask() {
    isWanted = true;
    if (isRunning) return;
    isRunning = true;
    while (isWanted) {
      isWanted = false;
      await work();
      await new Promise((resolve) => setTimeout(resolve, pause_ms));
    }
    isRunning = false;
  };
}
