// The stream of this page's desk, kept alive: it says whether the dashboard is heard, and never gives up.

const SILENCE = 6500; // Three signs of life, and a little.
const RESTS_AFTER = 15000; // A page that nobody sees lets go of its connection; without any the store rests.

export class Feed extends EventTarget {
  #source = null;
  #heard = 0;
  #state = "connecting";
  #failures = 0;
  #retry = 0;
  #rest = 0;

  /** "connecting", "open" or "lost". */
  get state() {
    return this.#state;
  }

  start() {
    this.#open();
    setInterval(() => this.#watch(), 1000);
    addEventListener("online", () => this.#wake());
    addEventListener("offline", () => this.#lose());
    addEventListener("pageshow", (event) => event.persisted && this.#wake());
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#rest);
      if (document.visibilityState === "visible") this.#wake();
      else this.#rest = setTimeout(() => this.#letGo("connecting"), RESTS_AFTER);
    });
  }

  #open() {
    this.#source?.close();
    clearTimeout(this.#retry);
    const source = (this.#source = new EventSource("events"));
    this.#heard = performance.now();
    for (const name of ["board", "changes", "sync", "people", "online", "closed"]) {
      source.addEventListener(name, (event) => {
        this.#heard = performance.now();
        this.#failures = 0;
        this.#set("open");
        this.dispatchEvent(new CustomEvent(name, { detail: JSON.parse(event.data) }));
      });
    }
    // We try again ourselves: sooner than the browser would, and also where it would stop.
    source.addEventListener("error", () => source === this.#source && this.#lose());
  }

  #letGo(state) {
    this.#source?.close();
    this.#source = null;
    this.#set(state);
    clearTimeout(this.#retry);
  }

  #lose() {
    this.#letGo("lost");
    if (document.visibilityState === "visible") {
      const wait = Math.random() * Math.min(10000, 500 * 2 ** this.#failures++);
      this.#retry = setTimeout(() => this.#ask(), 300 + wait);
    }
  }

  /** Is our desk still there? An EventSource can't tell a refusal from a broken line. */
  async #ask() {
    try {
      const answer = await fetch("./", { method: "HEAD", redirect: "manual", signal: AbortSignal.timeout(5000) });
      if (answer.type === "opaqueredirect") this.dispatchEvent(new CustomEvent("closed", { detail: {} }));
      else this.#open();
    } catch {
      this.#lose();
    }
  }

  /** Back from the background, or online again: nothing that was open before can be trusted. */
  #wake() {
    this.#failures = 0;
    const isQuiet = performance.now() - this.#heard > SILENCE / 2;
    if (this.#state !== "open" || isQuiet) this.#ask();
  }

  #watch() {
    if (this.#source && performance.now() - this.#heard > SILENCE) this.#lose();
  }

  #set(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
