// What all pages of a signed-in person share: head, feed, tickets, outbox, connection and chart.

import { Chart } from "./chart.js";
import { Connection } from "./connection.js";
import { announce, byId, el, svg, toast } from "./dom.js";
import { Feed } from "./feed.js";
import { Outbox, post } from "./outbox.js";
import { Tickets } from "./tickets.js";
import { ROLES, initials, sentence } from "./words.js";

export const mark = () =>
  svg("svg", { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true" },
    svg("path", { d: "M7 5h18v16l-9 7-9-7z", class: "mark-tag" }),
    svg("circle", { cx: 16, cy: 11, r: 3, class: "mark-hole" }));

export const avatar = (name, { isNobody = false } = {}) =>
  el("span", { class: isNobody ? "avatar nobody" : "avatar", "aria-hidden": "true" }, isNobody ? "" : initials(name));

/**
 * @param draw Draws the page from `page.tickets`; called at most once a frame.
 * @param tell What to say about an event, or null; by default every event is announced.
 */
export function startPage({ draw, tell = (event, nameOf) => sentence(event, nameOf) }) {
  const leave = () => location.assign("/?ended");
  const tickets = new Tickets();
  const outbox = new Outbox(tickets, leave);
  const connection = new Connection(outbox);
  const chart = new Chart();
  const feed = new Feed();
  const page = {
    me: null, people: {}, online: [], news: [], isLoading: true, tickets, outbox, connection, chart, feed,
    nameOf: (id) => page.people[id]?.name || "a colleague",
  };
  const who = el("p", { class: "who" });
  byId("top").append(
    el("a", { class: "brand", href: "./", "aria-label": "JamesTronic, home" }, mark(), el("span", {}, "JamesTronic")),
    connection.chip, who,
    el("button", { type: "button", class: "button quiet", onclick: async () => {
      await post("api/sign-out", {}).catch(() => null);
      location.assign("/");
    } }, "Sign out"),
  );
  byId("top").after(connection.banner);

  let isPlanned = false;
  const plan = () => {
    if (isPlanned) return;
    isPlanned = true;
    // Not requestAnimationFrame: a window that is not seen is right as well.
    setTimeout(() => {
      isPlanned = false;
      if (page.me) draw(page);
    });
  };
  tickets.addEventListener("change", plan);

  feed.addEventListener("state", ({ detail }) => (connection.link = detail));
  feed.addEventListener("board", ({ detail }) => {
    Object.assign(page, { me: detail.me, people: detail.people, isLoading: detail.is_loading });
    if (detail.online) page.online = detail.online;
    who.replaceChildren(avatar(page.me.name), el("span", { class: "who-name" }, page.me.name), el("small", {}, ROLES[page.me.role] ?? page.me.role));
    connection.sync = detail.sync;
    chart.replace(detail.points);
    chart.sources = detail.sync.sources;
    if (!detail.is_loading) tickets.replace(detail.tickets);
    document.body.dataset.ready = String(!detail.is_loading);
    plan();
    outbox.flush({ isBack: true });
  });
  feed.addEventListener("changes", ({ detail }) => {
    tickets.apply(detail);
    page.news = [...detail.events, ...page.news].slice(0, 30);
    chart.add(detail.events);
    chart.sources = detail.sync.sources;
    connection.sync = detail.sync;
    for (const event of detail.events) {
      const said = tell(event, page.nameOf, page);
      if (said) announce(said);
    }
  });
  feed.addEventListener("sync", ({ detail }) => {
    connection.sync = detail;
    chart.sources = detail.sources;
    outbox.flush();
  });
  feed.addEventListener("people", ({ detail }) => {
    page.people = detail;
    plan();
  });
  feed.addEventListener("online", ({ detail }) => {
    page.online = detail.online ?? [];
    plan();
  });
  feed.addEventListener("closed", leave);
  feed.start();
  return page;
}

/** A button that sends one wish about a ticket. */
export const wishButton = (page, ticket, text, command, patch, { isPrimary = false } = {}) =>
  el("button", {
    type: "button",
    class: isPrimary ? "button primary" : "button",
    "aria-disabled": ticket.pending ? "true" : undefined,
    data: { focus: text },
    onclick: () => page.outbox.send(ticket, command, patch),
  }, text, el("span", { class: "unseen" }, ` ${ticket.label}`));

export const pendingNote = (ticket) =>
  ticket.pending && el("p", { class: "pending" }, ticket.pending === "waiting" ? "Waiting for the line" : "Saving");

export { toast };
