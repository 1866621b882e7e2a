// How this page learns of changes, in words: a chip in the head, and a line below it while something is wrong.

import { announce, el, reconcile, setText } from "./dom.js";
import { span } from "./words.js";

const TITLES = { live: "Live", polling: "Polling", stale: "Out of date", offline: "Offline", loading: "Loading" };

const WAYS = { broadcast: "Broadcast", postgres_changes: "Postgres Changes" };

const every = (seconds) => (Math.round(seconds) === 1 ? "second" : `${Math.round(seconds)} seconds`);

export class Connection {
  #dot = el("span", { class: "chip-dot", "aria-hidden": "true" });
  #title = el("strong", { class: "chip-title" });
  #age = el("span", { class: "chip-age" });
  #list = el("dl", {});
  #sync = { kind: "loading", age: null, reason: null, is_loading: true };
  #at = performance.now();
  #link = "connecting";
  #said = null;

  constructor(outbox) {
    this.outbox = outbox;
    this.chip = el("button", { type: "button", class: "chip", id: "connection", popovertarget: "details" }, this.#dot, this.#title, this.#age);
    this.details = el("div", { class: "details", id: "details", popover: "", role: "group", "aria-label": "Connection" }, this.#list);
    this.details.addEventListener("beforetoggle", () => {
      const at = this.chip.getBoundingClientRect();
      this.details.style.top = `${at.bottom + 6}px`;
      this.details.style.left = `${Math.max(8, Math.min(at.left, innerWidth - 328))}px`;
    });
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
    this.chip.dataset.busy = String(this.#link === "connecting" || (this.#link === "open" && this.#sync.is_loading));
    reconcile(this.#list, this.#facts(kind, old), {
      key: ([name]) => name,
      signature: ([, text]) => text,
      make: ([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)),
    });
    const line = this.#line(kind, old);
    this.banner.hidden = !line;
    this.banner.dataset.kind = kind;
    setText(this.banner, line);
    if (this.#said !== kind) {
      if (this.#said !== null && kind !== "loading") announce(`Connection: ${TITLES[kind] ?? kind}. ${line}`);
      this.#said = kind;
    }
  }

  #facts(kind, old) {
    const { transport, poll_interval: pause, is_loading: isLoading, reason } = this.#sync;
    return [
      ["State", TITLES[kind] ?? kind],
      ["Changes come by", WAYS[transport] ?? (pause ? `reading every ${every(pause)}` : "not yet")],
      ["Last read", old ? `${old} ago` : "not yet"],
      ["Reading now", isLoading ? "yes" : "no"],
      ...(reason ? [["Reason", reason]] : []),
    ];
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
