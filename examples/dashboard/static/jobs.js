// The technician's page, made for a phone: my jobs, the pool, and the next step of each as one large button.

import { byId, el, reconcile, restoreFocus, setText, toast } from "./dom.js";
import { pendingNote, startPage, wishButton } from "./page.js";
import { PRIORITIES, device, isFinal, priorityRank, statusName } from "./words.js";

const RANK = ["in_progress", "assigned", "ready", "waiting_parts"];
const STEPS = {
  assigned: [["Start", "in_progress"]],
  in_progress: [["Complete", "completed"], ["Ready", "ready"], ["Wait for parts", "waiting_parts"]],
  waiting_parts: [["Continue", "in_progress"]],
  ready: [["Complete", "completed"], ["Back to work", "in_progress"]],
};
const CAN_RELEASE = ["assigned", "in_progress", "waiting_parts"];

function buttons(page, ticket) {
  if (!ticket.technician) return [wishButton(page, ticket, "Claim", { command: "claim" }, { technician: page.me.id, status: "assigned" }, { isPrimary: true })];
  const steps = (STEPS[ticket.status] ?? []).map(([text, status], index) => wishButton(page, ticket, text, { command: "status", status }, { status }, { isPrimary: index === 0 }));
  if (CAN_RELEASE.includes(ticket.status)) steps.push(wishButton(page, ticket, "Give back", { command: "release" }, { technician: null, status: "open" }));
  return steps;
}

const card = (page, ticket) =>
  el("li", { class: "tag job", data: { status: ticket.status, priority: ticket.priority, pending: ticket.pending ?? "" } },
    el("p", { class: "tag-top" }, el("span", { class: "number" }, ticket.label),
      ["urgent", "high"].includes(ticket.priority) && el("span", { class: "priority" }, PRIORITIES[ticket.priority]),
      ticket.technician && el("span", { class: "state" }, statusName(ticket.status))),
    el(ticket.technician ? "h2" : "h3", { class: "tag-title" }, ticket.title),
    el("p", { class: "device" }, [device(ticket), page.people[ticket.customer]?.name && `for ${page.people[ticket.customer].name}`].filter(Boolean).join(", ")),
    ticket.description && el("p", { class: "words" }, ticket.description),
    el("p", { class: "actions" }, buttons(page, ticket)), pendingNote(ticket));

function list(page, id, tickets, empty) {
  const focus = reconcile(byId(`${id}-list`), tickets, {
    key: (ticket) => ticket.id,
    signature: (ticket) => JSON.stringify([ticket.version, ticket.pending, ticket.status, ticket.technician, page.people[ticket.customer]?.name]),
    make: (ticket, before) => {
      const node = card(page, ticket);
      if (before || page.news.some((event) => event.id === ticket.id && Date.now() - new Date(event.at) < 3000)) node.classList.add("is-fresh");
      return node;
    },
  });
  setText(byId(`${id}-count`), String(tickets.length));
  byId(`${id}-list`).dataset.empty = page.isLoading ? "Loading" : empty;
  return focus;
}

function draw(page) {
  const all = page.tickets.all();
  const mine = all.filter((ticket) => ticket.technician === page.me.id);
  const work = mine.filter((ticket) => !isFinal(ticket)).sort((a, b) => RANK.indexOf(a.status) - RANK.indexOf(b.status) || priorityRank(a) - priorityRank(b) || a.number - b.number);
  const pool = all.filter((ticket) => !ticket.technician && ticket.status === "open").sort((a, b) => priorityRank(a) - priorityRank(b) || a.number - b.number);
  const done = mine.filter(isFinal).sort((a, b) => b.updated_at.localeCompare(a.updated_at)).slice(0, 30);
  const focuses = [
    list(page, "mine", work, "Nothing to do right now. Have a look at the pool."),
    list(page, "pool", pool, "The pool is empty."),
    list(page, "done", done, ""),
  ];
  restoreFocus(focuses.find(Boolean));
  byId("done").hidden = !done.length;
  setText(byId("tab-mine"), String(work.length));
  setText(byId("tab-pool"), String(pool.length));
}

/** Only what concerns this person is said; the pool's coming and going is seen. */
function tell(event, nameOf, page) {
  const isMine = event.technician === page.me.id;
  const isOwn = event.source === "own write" || page.tickets.get(event.id)?.pending;
  if (event.name === "assigned" && isMine) {
    const said = `A new job for you: ${event.label}, ${event.title}`;
    if (!isOwn) toast(said);
    return said;
  }
  if (event.name === "unassigned") {
    const said = `${event.label} is no longer yours.`;
    if (!isOwn) toast(said);
    return said;
  }
  return isMine && event.changes.includes("status") ? `${event.label} is ${statusName(event.status).toLowerCase()}` : null;
}

startPage({ draw, tell });
