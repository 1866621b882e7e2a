// Latency of the last changes on a logarithmic scale, drawn by hand: dots by Realtime, diamonds by polling.

import { byId, el, setText, svg } from "./dom.js";
import { span } from "./words.js";

const WIDTH = 360;
const HEIGHT = 132;
const LEFT = 44;
const LOW = 0.005;
const HIGH = 60;
const MOST = 60;
const LINES = [0.01, 0.1, 1, 10];
const KINDS = {
  realtime: { name: "Realtime", sources: ["realtime"] },
  reads: { name: "Reading (poll, confirm, refresh)", sources: ["poll", "refetch", "refresh"] },
};

const y = (seconds) => {
  const part = Math.log(Math.min(HIGH, Math.max(LOW, seconds)) / LOW) / Math.log(HIGH / LOW);
  return HEIGHT - 10 - part * (HEIGHT - 20);
};

export class Chart {
  #points = [];
  #sources = {};
  #plot = svg("g", {});
  #image;
  #share = el("div", { class: "share", "aria-hidden": "true" }, el("span", { class: "share-realtime" }), el("span", { class: "share-reads" }));
  #words = {};
  #pulse = null;

  /** `pulse` is a link in the head of the page that shows the same without axes. */
  constructor(place = byId("chart"), pulse = byId("pulse")) {
    if (!place) return;
    if (pulse) {
      this.#pulse = { plot: svg("g", {}), words: el("span", {}) };
      pulse.append(svg("svg", { viewBox: `${LEFT} 0 ${WIDTH - LEFT} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.#pulse.plot), this.#pulse.words);
    }
    const grid = LINES.map((seconds) => [
      svg("line", { x1: LEFT, x2: WIDTH, y1: y(seconds), y2: y(seconds), class: "grid" }),
      svg("text", { x: LEFT - 6, y: y(seconds) + 4, class: "tick", "text-anchor": "end" }, span(seconds)),
    ]);
    this.#image = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, grid.flat(), this.#plot);
    const legend = el("dl", { class: "legend" });
    for (const [kind, { name }] of Object.entries(KINDS)) {
      this.#words[kind] = el("dd", {});
      legend.append(el("div", { data: { kind } }, el("dt", {}, name), this.#words[kind]));
    }
    place.append(this.#image, this.#share, legend);
    this.#draw();
  }

  replace(points) {
    this.#points = points.slice(-MOST);
    this.#draw();
  }

  add(events) {
    this.#points = [...this.#points, ...events.filter((event) => event.latency !== null)].slice(-MOST);
    this.#draw();
  }

  set sources(sources) {
    this.#sources = sources ?? {};
    this.#draw();
  }

  #summary(kind) {
    const found = KINDS[kind].sources.map((source) => this.#sources[source]).filter(Boolean);
    const latencies = this.#points.filter((point) => KINDS[kind].sources.includes(point.source)).map((point) => point.latency).sort((a, b) => a - b);
    return { count: found.reduce((sum, one) => sum + one, 0), p50: latencies[Math.floor((latencies.length - 1) / 2)] };
  }

  #draw() {
    if (!this.#image) return;
    const step = (WIDTH - LEFT - 12) / (MOST - 1);
    const xOf = (index) => WIDTH - 6 - (this.#points.length - 1 - index) * step;
    this.#plot.replaceChildren(
      ...this.#points.map((point, index) => {
        const x = xOf(index);
        const at = y(point.latency);
        return point.source === "realtime"
          ? svg("circle", { cx: x, cy: at, r: 3.2, class: "dot-realtime" })
          : svg("path", { d: `M${x} ${at - 4.5}l4.5 4.5-4.5 4.5-4.5-4.5z`, class: "dot-reads" });
      }),
    );
    const counts = {};
    for (const kind of Object.keys(KINDS)) {
      const { count, p50 } = this.#summary(kind);
      counts[kind] = count;
      setText(this.#words[kind], count ? `${count} ${count === 1 ? "change" : "changes"}${p50 === undefined ? "" : `, half within ${span(Math.max(0, p50))}`}` : "none yet");
    }
    if (this.#pulse) {
      this.#pulse.plot.replaceChildren(
        ...this.#points.map((point, index) =>
          svg("line", { x1: xOf(index), x2: xOf(index), y1: HEIGHT, y2: y(point.latency), class: point.source === "realtime" ? "bar-realtime" : "bar-reads" })),
      );
      byId("pulse").classList.toggle("is-empty", !this.#points.length);
      const all = this.#points.map((point) => point.latency).sort((a, b) => a - b);
      setText(this.#pulse.words, all.length ? `Half of the last ${all.length} changes within ${span(Math.max(0, all[(all.length - 1) >> 1]))}` : "");
    }
    const total = counts.realtime + counts.reads;
    this.#share.hidden = !total;
    this.#share.firstElementChild.style.flexGrow = counts.realtime;
    this.#share.lastElementChild.style.flexGrow = counts.reads;
    this.#image.setAttribute("aria-label", `Time from the database to this dashboard. Realtime: ${this.#words.realtime.textContent}. Reading: ${this.#words.reads.textContent}.`);
  }
}
