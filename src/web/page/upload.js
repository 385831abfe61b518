// One file on its way to the node: in parts, and from where it was when anything breaks.
//
// The node keeps what came of an upload under an id that we chose, so after a lost connection it is asked how far it
// is (`HEAD /api/uploads/ID`). The id is remembered by name, size and time of the file: whoever picks the same file
// again after the page was closed goes on as well. A name that exists is not replaced unless the user says so.

import { refusalOf } from "/api.js";
import { inPath } from "/words.js";

const PART = 8 * 1024 * 1024;
const SILENCE = 20_000;
const ANSWER = 120_000;
const WAITS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
/** Answers after which another try makes sense; 0 is none. */
const MAY_PASS = [0, 401, 408, 429, 500, 502, 503, 504];
/** Failures in a row while the node answers other questions. */
const FAILURES_MAX = 6;
const REMEMBERED = "thorp-uploads";
const REMEMBERED_MAX = 50;

export class Upload {
  /** `waiting`, `sending`, `stalled`, `exists`, `done`, `failed` or `cancelled`. */
  state = "waiting";
  sent = 0;
  speed = 0;
  /** In words: why it is stalled or failed. */
  why = "";
  /** The answer of the node, when done. */
  row = null;
  #request = null;
  #wake = null;
  #samples = [];
  #mayReplace = false;
  #mayBeThere = false;

  constructor(file, name, replicas, onChange) {
    Object.assign(this, { file, name, replicas, onChange });
    this.key = `${name}\n${file.size}\n${file.lastModified}`;
  }

  get isOver() {
    return ["done", "failed", "cancelled", "exists"].includes(this.state);
  }

  /** Runs until it is over; never throws. */
  async run() {
    this.#become("sending");
    const known = remembered()[this.key];
    this.id = known ?? newId();
    this.sent = 0;
    if (this.file.size > PART) remember(this.key, this.id);
    let failures = 0;
    let isSure = !known;
    while (!this.isOver) {
      const answer = isSure ? await this.#send() : await this.#askOffset();
      if (this.isOver) break;
      if (answer.isProgress) {
        isSure = true;
        // Only a part that was taken says that all is well; an offset that was told does not.
        if (answer.status === 202) failures = 0;
        else if (answer.status === 404 || answer.status === 409) failures += 1;
        this.#become("sending");
      } else if (MAY_PASS.includes(answer.status)) {
        if (![0, 401, 503].includes(answer.status)) failures += 1;
        isSure = false;
        await this.#pause(answer);
      } else this.#end(answer);
      if (failures > FAILURES_MAX) this.#fail("The node breaks this upload off again and again.");
    }
    if (this.state !== "exists") forget(this.key);
  }

  cancel() {
    if (this.state === "done") return;
    this.#become("cancelled");
    this.#request?.abort();
    this.#wake?.();
    forget(this.key);
    if (this.id && this.sent > 0) drop(this.id);
  }

  /** The user's word that the name may be replaced, or another try. */
  reset(mayReplace) {
    this.#mayReplace ||= mayReplace;
    this.state = "waiting";
    this.why = "";
  }

  /** Tries now instead of later: the node is back. */
  hurry() {
    this.#wake?.();
  }

  async #send() {
    const { file, name, replicas } = this;
    const from = this.sent;
    const to = Math.min(file.size, from + PART);
    const query = new URLSearchParams({ replicas });
    if (!this.#mayReplace) query.set("overwrite", "0");
    const headers = { "Content-Type": file.type || "application/octet-stream" };
    // All came before, and was not stored: no bytes, and the wish to store it. An empty file has no range at all.
    const range = from === file.size ? `bytes */${file.size}` : `bytes ${from}-${to - 1}/${file.size}`;
    if (file.size > 0) Object.assign(headers, { "Upload-Id": this.id, "Content-Range": range });
    const answer = await this.#exchange("PUT", `/api/files/${inPath(name)}?${query}`, headers, file.slice(from, to), from);
    const code = answer.status === 409 ? refusalOf(answer.status, answer.text).code : "";
    if (answer.status === 202 || code === "offset") return this.#goOn(answer, answer.offset ?? to);
    // Our own request of before has not ended there.
    if (code === "busy") return { ...answer, status: 503, why: "The node is still ending what was sent before. This goes on by itself." };
    // It knows nothing of what came: it has stored it since, or given it up. From the start, which harms neither.
    if (answer.status === 404 && from === file.size && from > 0) {
      this.#mayBeThere = true;
      return this.#goOn(answer, 0);
    }
    if (answer.status === 0 && to === file.size) this.#mayBeThere = true;
    if (answer.status !== 200 && answer.status !== 201) this.sent = from;
    return answer;
  }

  async #askOffset() {
    const answer = await this.#exchange("HEAD", `/api/uploads/${this.id}`, {}, null, this.sent);
    if (answer.status === 204 || answer.status === 200) return this.#goOn(answer, answer.offset ?? 0);
    // It knows nothing of it: it was not begun, or is whole already. From the start, which harms neither.
    if (answer.status === 404) return this.#goOn(answer, 0);
    return answer;
  }

  #goOn(answer, offset) {
    this.sent = offset;
    return { ...answer, isProgress: true };
  }

  #end(answer) {
    if (answer.status === 200 || answer.status === 201) {
      this.sent = this.file.size;
      try {
        this.row = JSON.parse(answer.text);
      } catch {
        this.row = null;
      }
      return this.#become("done");
    }
    if (refusalOf(answer.status, answer.text).code === "exists") {
      this.why = this.#mayBeThere ? "There is a file of this name now; perhaps it is this one, sent just before the connection broke." : "There is a file of this name already.";
      return this.#become("exists");
    }
    return this.#fail(refusalOf(answer.status, answer.text).words);
  }

  #fail(why) {
    this.why = why;
    this.#become("failed");
  }

  #become(state) {
    if (this.state === "cancelled") return;
    this.state = state;
    if (state === "sending") this.why = "";
    this.onChange(this);
  }

  /** Waits before another try; `hurry` ends it. */
  async #pause(answer) {
    this.stalls = (this.stalls ?? 0) + 1;
    const wait = answer.retryAfter * 1_000 || WAITS[Math.min(this.stalls, WAITS.length) - 1];
    this.speed = 0;
    this.#samples = [];
    this.why = answer.why ?? { 0: "The node does not answer. This goes on by itself.", 401: "Waiting for the token of this LAN.", 503: "No machine leads at the moment. This goes on by itself." }[answer.status] ?? "Interrupted. This goes on by itself.";
    this.#become("stalled");
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }

  /** One request. It gives up when nothing moves; the answer of a network that failed has status 0. */
  #exchange(method, path, headers, body, from) {
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      this.#request = request;
      let timer = 0;
      const within = (limit) => {
        clearTimeout(timer);
        timer = setTimeout(() => request.abort(), limit);
      };
      const done = (status) => {
        clearTimeout(timer);
        this.#request = null;
        const offset = request.getResponseHeader("Upload-Offset");
        const retryAfter = Number(request.getResponseHeader("Retry-After")) || 0;
        resolve({ status, text: request.responseText, offset: offset === null ? null : Number(offset), retryAfter });
      };
      request.open(method, path);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      if (body) {
        request.upload.onprogress = (event) => {
          within(SILENCE);
          this.#moved(from + Math.min(event.loaded, body.size));
        };
        request.upload.onload = () => within(ANSWER);
      }
      request.onload = () => done(request.status);
      request.onerror = request.onabort = () => done(0);
      // Without bytes nothing moves before the answer.
      within(body?.size === 0 ? ANSWER : SILENCE);
      request.send(body);
    });
  }

  #moved(sent) {
    this.sent = sent;
    this.stalls = 0;
    const now = performance.now();
    this.#samples.push([now, sent]);
    while (this.#samples.length > 2 && now - this.#samples[0][0] > 4_000) this.#samples.shift();
    const [at, first] = this.#samples[0];
    this.speed = now - at > 300 ? Math.max(0, (1_000 * (sent - first)) / (now - at)) : this.speed;
    this.onChange(this);
  }
}

/** Gives up what came. A request of ours that is still being ended there holds it: then again in a while. */
async function drop(id) {
  for (const wait of [0, 2_000, 5_000, 15_000, 30_000]) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    const answer = await fetch(`/api/uploads/${id}`, { method: "DELETE" }).catch(() => null);
    if (answer && answer.status !== 409) return;
  }
}

/** 32 hex digits. `crypto.randomUUID` is not there on plain http. */
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(REMEMBERED)) ?? {};
  } catch {
    return {};
  }
}

function remember(key, id) {
  keep(Object.fromEntries([...Object.entries(remembered()).slice(-REMEMBERED_MAX), [key, id]]));
}

function forget(key) {
  const all = remembered();
  if (!(key in all)) return;
  delete all[key];
  keep(all);
}

function keep(all) {
  try {
    localStorage.setItem(REMEMBERED, JSON.stringify(all));
  } catch {
    // Without a memory an upload begins anew after the page was closed; nothing else is lost.
  }
}
