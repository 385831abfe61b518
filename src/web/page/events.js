// One stream of events that is never given up: it is opened anew, ever more slowly, until the node answers.
//
// The browser's own recovery is not enough. It gives up on an answer like 503, and it does not notice a machine
// whose plug was pulled, because pings are comments that a page does not see. So silence is checked by a question.

const FIRST_WAIT = 400;
const LONGEST_WAIT = 8_000;
const OPENING = 6_000;
const SILENCE = 11_000;
const ANSWER = 4_000;

/** `onState` hears: "connecting", "live", "gone" (and when it tries again). */
export class Stream {
  #url;
  #handlers;
  #onState;
  #source = null;
  #wait = FIRST_WAIT;
  #timer = 0;
  #heard = 0;
  #watch = 0;
  #asking = false;

  constructor(url, handlers, onState) {
    this.#url = url;
    this.#handlers = handlers;
    this.#onState = onState;
  }

  open() {
    this.close();
    this.#onState("connecting");
    const source = new EventSource(this.#url);
    this.#source = source;
    this.#timer = setTimeout(() => this.#failed(source), OPENING);
    source.onopen = () => {
      clearTimeout(this.#timer);
      this.#heard = Date.now();
      this.#wait = FIRST_WAIT;
      this.#onState("live");
    };
    source.onerror = () => this.#failed(source);
    for (const [kind, handle] of Object.entries(this.#handlers)) {
      source.addEventListener(kind, (event) => {
        this.#heard = Date.now();
        handle(JSON.parse(event.data));
      });
    }
    this.#watch = setInterval(() => this.check(), 3_000);
  }

  /** Ends it; nothing is heard any more. */
  close() {
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    this.#source?.close();
    this.#source = null;
  }

  get isClosed() {
    return this.#source === null;
  }

  /** Asks the node whether it is there, if it was silent for long. */
  async check(longest = SILENCE) {
    const source = this.#source;
    if (!source || source.readyState !== EventSource.OPEN || this.#asking || Date.now() - this.#heard < longest) return;
    this.#asking = true;
    try {
      await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(ANSWER) });
      this.#heard = Date.now();
    } catch {
      this.#failed(source);
    } finally {
      this.#asking = false;
    }
  }

  #failed(source) {
    if (source !== this.#source) return;
    this.close();
    const wait = this.#wait * (0.8 + 0.4 * Math.random());
    this.#wait = Math.min(LONGEST_WAIT, this.#wait * 2);
    this.#timer = setTimeout(() => this.open(), wait);
    this.#onState("gone", Date.now() + wait);
  }
}
