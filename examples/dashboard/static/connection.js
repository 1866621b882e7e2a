// How this page learns of changes, in words: a chip in the head, and a line below it while something is wrong.

import { announce, el, setText } from "./dom.js";
import { span } from "./words.js";

const TITLES = { live: "Live", polling: "Polling", stale: "Out of date", offline: "Offline", loading: "Loading" };

const every = (seconds) => (Math.round(seconds) === 1 ? "second" : `${Math.round(seconds)} seconds`);

export class Connection {
  #dot = el("span", { class: "chip-dot", "aria-hidden": "true" });
  #title = el("strong", { class: "chip-title" });
  #age = el("span", { class: "chip-age" });
  #sync = { kind: "loading", age: null, reason: null };
  #at = performance.now();
  #link = "connecting";
  #said = null;

  constructor(outbox) {
    this.outbox = outbox;
    this.chip = el("p", { class: "chip", id: "connection" }, this.#dot, this.#title, this.#age);
    this.banner = el("p", { class: "banner", id: "banner", hidden: true });
    setInterval(() => this.draw(), 1000);
    this.draw();
  }

  set link(state) {
    this.#link = state;
    this.draw();
  }

  set sync(sync) {
    this.#sync = sync;
    this.#at = performance.now();
    this.draw();
  }

  get kind() {
    return this.#link === "lost" ? "offline" : this.#link === "connecting" ? "loading" : this.#sync.kind;
  }

  /** Seconds since the last complete read, as this page knows it. */
  get age() {
    return this.#sync.age === null ? null : this.#sync.age + (performance.now() - this.#at) / 1000;
  }

  draw() {
    const { kind, age } = this;
    const old = age === null ? "" : span(Math.max(1, Math.round(age)));
    this.chip.dataset.kind = kind;
    setText(this.#title, TITLES[kind] ?? kind);
    setText(this.#age, !old ? "" : kind === "live" ? `checked ${old} ago` : `data is ${old} old`);
    const line = this.#line(kind, old);
    this.banner.hidden = !line;
    this.banner.dataset.kind = kind;
    setText(this.banner, line);
    if (this.#said !== kind) {
      if (this.#said !== null && kind !== "loading") announce(`Connection: ${TITLES[kind] ?? kind}. ${line}`);
      this.#said = kind;
    }
  }

  #line(kind, old) {
    const waiting = this.outbox.size ? ` ${this.outbox.size === 1 ? "One change waits" : `${this.outbox.size} changes wait`} to be sent.` : "";
    switch (kind) {
      case "offline":
        return `The dashboard can't be reached. You see what was known ${old || "a moment"} ago; what you change is kept and sent later.${waiting}`;
      case "polling":
        return `Realtime is down, so this page reads every ${every(this.#sync.poll_interval)} instead. Nothing is lost, it only comes later.${waiting}`;
      case "stale":
        return `The workshop's server hasn't answered for ${old || "a while"}. You see the last known state.${waiting}`;
      case "loading":
        return this.#sync.reason ? "The workshop's server doesn't answer yet. Trying again." : "";
      default:
        return waiting.trim();
    }
  }
}
