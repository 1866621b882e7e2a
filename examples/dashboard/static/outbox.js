// Wishes on their way: shown at once, sent once, kept while the line is cut, and explained when refused.

import { toast } from "./dom.js";

const AGAIN = 4000; // Milliseconds between tries while nothing says that the line is back.
const HEADERS = { "content-type": "application/json", "x-dashboard": "1" };

/** Also where the page is not served over https, and `crypto.randomUUID` is not there. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** Ask the dashboard; throws only when no answer came. */
export async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: HEADERS, body: JSON.stringify(body), signal: AbortSignal.timeout(20000) });
  return { status: answer.status, body: await answer.json().catch(() => ({})) };
}

export class Outbox {
  #tickets;
  #onEnd;
  #waiting = [];
  #isFlushing = false;
  #tried = 0;

  constructor(tickets, onEnd) {
    this.#tickets = tickets;
    this.#onEnd = onEnd;
  }

  get size() {
    return this.#waiting.length;
  }

  /** One wish about a ticket; `patch` is what the page shows until the answer comes. */
  async send(ticket, command, patch) {
    if (this.#tickets.get(ticket.id)?.pending) return;
    const wish = { label: ticket.label, body: { ...command, ticket_id: ticket.id, version: ticket.version, key: uuid() } };
    this.#tickets.wish(ticket.id, { ...patch, pending: "sending" });
    if (!(await this.#try(wish))) {
      this.#waiting.push(wish);
      toast(`${ticket.label}: kept here, and sent as soon as the line is back.`);
    }
  }

  /** Send what waits, in order: at once when the line is surely back, else now and then. */
  async flush({ isBack = false } = {}) {
    const isEarly = !isBack && performance.now() - this.#tried < AGAIN;
    if (this.#isFlushing || !this.#waiting.length || isEarly) return;
    this.#isFlushing = true;
    try {
      while (this.#waiting.length && (await this.#try(this.#waiting[0]))) this.#waiting.shift();
    } finally {
      this.#isFlushing = false;
      this.#tried = performance.now();
    }
  }

  /** Whether an answer came. The key makes it harmless to ask again. */
  async #try({ label, body }) {
    let answer;
    try {
      answer = await post("api/command", body);
    } catch {
      answer = { status: 0, body: { kind: "unavailable" } };
    }
    if (answer.body.kind === "unavailable") {
      this.#tickets.wish(body.ticket_id, { pending: "waiting" });
      return false;
    }
    this.#tickets.settle(body.ticket_id, answer.body.version);
    if (answer.body.kind === "signed-out") this.#onEnd();
    // Who was faster comes by the stream, and says it better.
    else if (answer.status !== 200) toast(`${label}: ${answer.body.text ?? "That didn't work."}`, "problem", { about: body.ticket_id, isWeak: true });
    return true;
  }

  /** A new ticket. It has no key of its own, so it is never sent twice: no answer is said at once. */
  async create(fields) {
    try {
      const answer = await post("api/command", { command: "create", ...fields });
      if (answer.status === 200) return answer.body;
      toast(answer.body.text ?? "That didn't work.", "problem");
    } catch {
      toast("There is no line to the workshop. Nothing was sent.", "problem");
    }
    return null;
  }
}
