// What this page shows: the rows that the stream tells, and over them what the person just wished.

export class Tickets extends EventTarget {
  #rows = new Map();
  #wishes = new Map();

  /** A whole board: what it does not hold is gone. */
  replace(rows) {
    this.#rows.clear();
    this.apply({ tickets: rows, removed: [] });
  }

  /** Messages of one stream come in order, so the last one is right. */
  apply({ tickets, removed }) {
    for (const row of tickets) this.#rows.set(row.id, row);
    for (const id of removed) this.#rows.delete(id);
    this.#tell();
  }

  get(id) {
    const row = this.#rows.get(id);
    return row && { ...row, ...this.#wishes.get(id) };
  }

  all() {
    return [...this.#rows.keys()].map((id) => this.get(id));
  }

  /** Show it as if it were done already; `pending` is "sending" or "waiting". */
  wish(id, patch) {
    this.#wishes.set(id, { ...this.#wishes.get(id), ...patch });
    this.#tell();
  }

  /** It was answered: refused, or done with a version that the stream tells any moment. */
  settle(id, version = 0) {
    const wish = this.#wishes.get(id);
    if (wish) wish.until = version;
    this.#tell();
  }

  #tell() {
    for (const [id, { until }] of this.#wishes) {
      if (until <= (this.#rows.get(id)?.version ?? Infinity)) this.#wishes.delete(id);
    }
    this.dispatchEvent(new Event("change"));
  }
}
