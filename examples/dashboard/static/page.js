// What all pages of a signed-in person share: head, feed, tickets, outbox, connection and chart.

import { Chart } from "./chart.js";
import { Connection } from "./connection.js";
import { announce, byId, el, svg, toast } from "./dom.js";
import { Feed } from "./feed.js";
import { Outbox, post } from "./outbox.js";
import { Tickets } from "./tickets.js";
import { ROLES, fasterSentence, initials, sentence } from "./words.js";

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
    connection.chip, connection.details, who,
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
  const sync = (told) => {
    connection.sync = told;
    chart.sources = told.sources;
    byId("main").setAttribute("aria-busy", String(told.is_loading));
  };

  feed.addEventListener("state", ({ detail }) => (connection.link = detail));
  feed.addEventListener("board", ({ detail }) => {
    Object.assign(page, { me: detail.me, people: detail.people, isLoading: !detail.tickets });
    if (detail.online) page.online = detail.online;
    who.replaceChildren(avatar(page.me.name), el("span", { class: "who-name" }, page.me.name), el("small", {}, ROLES[page.me.role] ?? page.me.role));
    sync(detail.sync);
    chart.replace(detail.points);
    if (detail.tickets) tickets.replace(detail.tickets);
    plan();
    outbox.flush({ isBack: true });
  });
  feed.addEventListener("changes", ({ detail }) => {
    const happened = detail.events.filter((event) => event.name !== "conflicted");
    for (const event of happened) {
      // Before the rows are new: what is pending in this moment is this person's own doing.
      const said = tell(event, page.nameOf, page);
      if (said) announce(said);
    }
    for (const event of detail.events.filter((event) => event.name === "conflicted")) {
      const said = fasterSentence(event, page.nameOf);
      if (said) toast(said, "problem", { about: event.id });
    }
    tickets.apply(detail);
    page.news = [...happened, ...page.news].slice(0, 30);
    chart.add(happened);
    sync(detail.sync);
  });
  feed.addEventListener("sync", ({ detail }) => {
    sync(detail);
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
