// What this page shows: the newest row of each ticket by version, and over it what the person just wished.

const MOST_GONE = 1000; // A row that comes later than this many others that left is not expected any more.

export class Tickets extends EventTarget {
  #rows = new Map();
  #gone = new Map();
  #wishes = new Map();

  /** A whole board: what it does not hold is gone. */
  replace(rows) {
    this.#rows = new Map(rows.map((row) => {
      const held = this.#rows.get(row.id);
      return [row.id, held && held.version > row.version ? held : row];
    }));
    this.#gone.clear();
    this.#tell();
  }

  /** Rows may come twice, late and in any order: only a newer version counts. */
  apply({ tickets = [], removed = [] }) {
    for (const row of tickets) {
      const known = Math.max(this.#rows.get(row.id)?.version ?? 0, this.#gone.get(row.id) ?? 0);
      if (row.version > known) {
        this.#rows.set(row.id, row);
        this.#gone.delete(row.id);
      }
    }
    for (const { id, version } of removed) {
      const known = this.#rows.get(id)?.version ?? 0;
      if (version === null || version >= known) {
        this.#rows.delete(id);
        this.#gone.set(id, version ?? known);
      }
    }
    while (this.#gone.size > MOST_GONE) this.#gone.delete(this.#gone.keys().next().value);
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

  /** It is done, or refused. */
  settle(id) {
    this.#wishes.delete(id);
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
