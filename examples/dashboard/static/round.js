// The transporter's page: stops by day and time.

import { byId, el, reconcile, setText } from "./dom.js";
import { pendingNote, startPage, wishButton } from "./page.js";
import { day, device, isFinal, localInput, statusName, time } from "./words.js";

const SAYS = { ready: "Repaired: bring it home", open: "Bring it to the workshop", assigned: "Bring it to the workshop" };

function card(page, ticket) {
  const input = el("input", { type: "datetime-local", id: `at-${ticket.id}`, required: true, value: localInput(new Date(ticket.scheduled_at ?? Date.now())), data: { focus: "at" } });
  const move = el("details", { class: "move" },
    el("summary", { data: { focus: "move" } }, "Another time", el("span", { class: "unseen" }, ` for ${ticket.label}`)),
    el("form", { onsubmit: (event) => {
      event.preventDefault();
      const at = new Date(input.value).toISOString();
      page.outbox.send(ticket, { command: "move", at }, { scheduled_at: at });
    } },
    el("p", { class: "field" }, el("label", { for: input.id }, "New time"), input),
    el("button", { type: "submit", class: "button" }, "Change")));
  return el("li", { class: "tag stop", data: { status: ticket.status, pending: ticket.pending ?? "" } },
    el("p", { class: "stop-time" }, ticket.scheduled_at ? el("time", { datetime: ticket.scheduled_at }, time(ticket.scheduled_at)) : "No time yet"),
    el("div", { class: "stop-words" },
      el("p", { class: "tag-top" }, el("span", { class: "number" }, ticket.label), el("span", { class: "state" }, statusName(ticket.status))),
      el("h3", { class: "tag-title" }, SAYS[ticket.status] ?? "In the workshop"),
      el("p", { class: "device" }, [ticket.appliance_type, device(ticket)].filter(Boolean).join(", ")),
      el("dl", { class: "way" }, el("div", {}, el("dt", {}, "From"), el("dd", {}, ticket.pickup_address || "not given")), el("div", {}, el("dt", {}, "To"), el("dd", {}, ticket.delivery_address || "not given"))),
      !isFinal(ticket) && el("div", { class: "actions" },
        ticket.status === "ready" && wishButton(page, ticket, "Delivered", { command: "status", status: "completed" }, { status: "completed" }, { isPrimary: true }), move),
      pendingNote(ticket)));
}

function draw(page) {
  const tickets = page.tickets.all().sort((a, b) => (a.scheduled_at ?? "9").localeCompare(b.scheduled_at ?? "9") || a.number - b.number);
  const todo = tickets.filter((ticket) => !isFinal(ticket));
  const groups = new Map();
  for (const ticket of todo) {
    const name = ticket.scheduled_at ? day(ticket.scheduled_at) : "No time yet";
    groups.set(name, [...(groups.get(name) ?? []), ticket]);
  }
  const done = tickets.filter(isFinal);
  if (done.length) groups.set("Done", done);
  reconcile(byId("round-list"), [...groups], {
    key: ([name]) => name,
    signature: ([name]) => name,
    make: ([name]) => el("section", { "aria-label": name }, el("h2", { class: "day" }, name), el("ul", { class: "stack wide" })),
  });
  for (const [name, stops] of groups) {
    reconcile(byId("round-list").querySelector(`[data-key="${CSS.escape(name)}"] > ul`), stops, {
      key: (ticket) => ticket.id,
      signature: (ticket) => JSON.stringify([ticket.version, ticket.pending, ticket.status, ticket.scheduled_at]),
      make: (ticket, before) => {
        const node = card(page, ticket);
        if (before) node.classList.add("is-fresh");
        return node;
      },
    });
  }
  byId("round-list").dataset.empty = page.isLoading ? "Loading" : "No stops on your round.";
  setText(byId("round-count"), String(todo.length));
}

startPage({ draw, tell: (event) => (event.name === "assigned" ? `A new stop: ${event.label}` : event.name === "unassigned" ? `${event.label} is off your round` : null) });
