// The customer's page: where each repair stands, and a form for the next one.

import { byId, el, reconcile, setText, toast } from "./dom.js";
import { startPage } from "./page.js";
import { day, device, statusName, time } from "./words.js";

const TRACK = [
  { name: "Reported", statuses: ["open"] },
  { name: "With a technician", statuses: ["assigned"] },
  { name: "In repair", statuses: ["in_progress", "waiting_parts"] },
  { name: "Ready", statuses: ["ready"] },
  { name: "With you again", statuses: ["completed"] },
];
const SAYS = {
  open: "We have your report. A technician takes it on soon.",
  assigned: "A technician has your repair and begins soon.",
  in_progress: "Your appliance is being repaired right now.",
  waiting_parts: "We wait for a spare part. The repair goes on as soon as it is here.",
  ready: "It works again! It waits for its way home.",
  completed: "Done. We hope that it serves you for a long time.",
  cancelled: "This repair was cancelled.",
};
const RANK = ["ready", "in_progress", "waiting_parts", "assigned", "open", "completed", "cancelled"];

function card(ticket) {
  const at = TRACK.findIndex((step) => step.statuses.includes(ticket.status));
  const transport = ticket.scheduled_at && !["completed", "cancelled"].includes(ticket.status);
  return el("li", { class: "tag repair", data: { status: ticket.status } },
    el("p", { class: "tag-top" }, el("span", { class: "number" }, ticket.label), el("span", { class: "state" }, statusName(ticket.status))),
    el("h2", { class: "tag-title" }, ticket.title),
    el("p", { class: "device" }, device(ticket)),
    at >= 0 && el("ol", { class: "track", "aria-label": `Progress of ${ticket.label}` }, TRACK.map((step, index) =>
      el("li", { data: { reached: String(index <= at) }, "aria-current": index === at ? "step" : undefined }, el("span", {}, step.name)))),
    el("p", { class: "words" }, SAYS[ticket.status] ?? ""),
    transport && el("p", { class: "words" }, el("strong", {}, ticket.status === "ready" ? "Delivery" : "Transport"), ` ${day(ticket.scheduled_at).toLowerCase()} at ${time(ticket.scheduled_at)}`));
}

function draw(page) {
  const tickets = page.tickets.all().sort((a, b) => RANK.indexOf(a.status) - RANK.indexOf(b.status) || b.number - a.number);
  reconcile(byId("repairs-list"), tickets, {
    key: (ticket) => ticket.id,
    signature: (ticket) => String(ticket.version),
    make: (ticket, before) => {
      const node = card(ticket);
      if (before) node.classList.add("is-fresh");
      return node;
    },
  });
  byId("repairs-list").dataset.empty = page.isLoading ? "Loading" : "Nothing is broken. How nice.";
  setText(byId("repairs-count"), String(tickets.length));
}

const page = startPage({ draw, tell: (event) => (event.changes.includes("status") ? `${event.label}: ${SAYS[event.status] ?? statusName(event.status)}` : null) });

const field = (name, label, control) => {
  control.id = `report-${name}`;
  control.name = name;
  return el("p", { class: "field" }, el("label", { for: control.id }, label), control);
};
const form = el("form", {
  onsubmit: async (event) => {
    event.preventDefault();
    const made = await page.outbox.create(Object.fromEntries([...new FormData(form)].filter(([, value]) => value)));
    if (!made) return;
    form.reset();
    byId("report").open = false;
    toast(`Thank you. Your report is ${made.label}.`);
  },
},
field("title", "What is wrong?", el("input", { required: true, maxlength: 200, autocomplete: "off" })),
field("description", "What happens, and since when?", el("textarea", { rows: 4, maxlength: 10000 })),
field("appliance_type", "Appliance", el("input", { maxlength: 100, autocomplete: "off" })),
field("appliance_brand", "Brand", el("input", { maxlength: 100, autocomplete: "off" })),
el("p", { class: "actions" }, el("button", { type: "submit", class: "button primary" }, "Report")));
byId("report").append(form);
