// Asking this node: JSON in, JSON out, and an error that says in words what was refused.

/** Why the node did not do it. Status 0: it did not answer. */
export class Refusal extends Error {
  constructor(status, code, message, hint) {
    super(message);
    Object.assign(this, { status, code, hint });
  }

  get words() {
    return this.hint ? `${this.message} (${this.hint})` : this.message;
  }
}

/** Tells the page that this LAN wants a token. */
export const tokenWanted = new EventTarget();

let entered = 0;
let asking = false;

/** The node has let us in: refusals of what was asked before mean nothing any more. */
export function hasEntered() {
  entered += 1;
}

/** A refusal may have been on its way when the node let us in, so it is asked once more. */
async function confirmWanted() {
  if (asking) return;
  asking = true;
  const before = entered;
  try {
    const answer = await fetch("/api", { cache: "no-store" });
    if (answer.status === 401 && before === entered) tokenWanted.dispatchEvent(new Event("wanted"));
  } catch {
    // The node is away, which others notice.
  } finally {
    asking = false;
  }
}

const WORDS = { 0: "The node does not answer.", 401: "This LAN wants a token.", 503: "No machine leads at the moment. Try again in some seconds." };

/** The refusal that an answer with `status` and this body is. */
export function refusalOf(status, text) {
  if (status === 401) confirmWanted();
  let error = {};
  try {
    error = JSON.parse(text)?.error ?? {};
  } catch {
    // Not one of ours: the number must do.
  }
  return new Refusal(status, error.code ?? "", error.message ?? WORDS[status] ?? `The node answered ${status}.`, error.hint ?? null);
}

/** Asks, and gives the JSON of the answer, or null if it has no body. */
export async function ask(method, path, { body, headers = {}, signal } = {}) {
  const options = { method, headers: { ...headers }, signal, cache: "no-store" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer, text;
  try {
    answer = await fetch(path, options);
    text = await answer.text();
  } catch (error) {
    throw new Refusal(0, "unreachable", WORDS[0], error.name === "AbortError" ? "stopped" : null);
  }
  if (!answer.ok) throw refusalOf(answer.status, text);
  return text ? JSON.parse(text) : null;
}
