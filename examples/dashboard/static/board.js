// The admin's board: columns by status, a team to drag tickets to, and a menu for whoever does not drag.

import { byId, el, reconcile, restoreFocus, setText, toast } from "./dom.js";
import { closeMenu, openMenu } from "./menu.js";
import { post } from "./outbox.js";
import { avatar, pendingNote, startPage } from "./page.js";
import { PRIORITIES, ROLES, STATUSES, device, isFinal, localInput, nextStatuses, priorityRank, sentence, statusName, time, day } from "./words.js";

const COLUMNS = [
  { id: "open", statuses: ["open"] },
  { id: "assigned", statuses: ["assigned"] },
  { id: "in_progress", statuses: ["in_progress"] },
  { id: "waiting_parts", name: "Waiting", statuses: ["waiting_parts"] },
  { id: "ready", statuses: ["ready"] },
  { id: "done", name: "Done", statuses: ["completed", "cancelled"] },
];
const MOST_SHOWN = 60; // Cards of one column; the rest is counted.
const filter = { text: "", holder: "", priority: "" };
let current;

// --- wishes -----------------------------------------------------------------------------------------

const team = (page) => Object.values(page.people).filter((one) => one.role === "technician").sort((a, b) => a.name.localeCompare(b.name));
const assign = (page, ticket, person) =>
  page.outbox.send(ticket, { command: "assign", technician_id: person.id }, { technician: person.id, status: ticket.technician && ticket.status !== "open" ? ticket.status : "assigned" });
const unassign = (page, ticket) => page.outbox.send(ticket, { command: "unassign" }, { technician: null, status: "open" });
const setStatus = (page, ticket, status) => page.outbox.send(ticket, { command: "status", status }, { status });

function openChanges(page, id, button) {
  const ticket = page.tickets.get(id);
  if (!ticket || ticket.pending) return;
  const find = () => document.querySelector(`[data-key="${id}"] [data-focus="change"]`);
  const isOver = isFinal(ticket);
  openMenu(button, find, `Change ${ticket.label}`, [
    { title: "Assign to", items: isOver ? [] : [
      ...team(page).map((person) => ({ text: person.name, note: `${load(page, person.id)}`, isChosen: ticket.technician === person.id, act: () => assign(page, ticket, person) })),
      { text: "Nobody", isChosen: !ticket.technician, act: () => unassign(page, ticket) },
    ] },
    { title: "Move to", items: nextStatuses(ticket.status, page.me.role).map((status) => ({ text: statusName(status), act: () => setStatus(page, ticket, status) })) },
    { title: "Transport", items: isOver ? [] : [{ text: ticket.scheduled_at ? "Change the time" : "Schedule", act: () => openTransport(page, ticket) }] },
  ]);
}

const load = (page, id) => {
  const jobs = page.tickets.all().filter((ticket) => ticket.technician === id && !isFinal(ticket)).length;
  return jobs === 1 ? "1 job" : `${jobs} jobs`;
};

// --- dialogs ----------------------------------------------------------------------------------------

function dialog(title, fields, submit, act) {
  const id = "dialog-title";
  const box = el("dialog", { class: "dialog", "aria-labelledby": id },
    el("form", { method: "dialog", onsubmit: async (event) => {
      event.preventDefault();
      if (await act(new FormData(event.target))) box.close();
    } },
    el("h2", { id }, title), fields,
    el("p", { class: "actions" },
      el("button", { type: "submit", class: "button primary" }, submit),
      el("button", { type: "button", class: "button", onclick: () => box.close() }, "Cancel"))));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

const field = (name, label, control) => {
  control.id = `field-${name}`;
  control.name = name;
  return el("p", { class: "field" }, el("label", { for: control.id }, label), control);
};

function openTransport(page, ticket) {
  const people = Object.values(page.people).filter((one) => one.role === "transporter");
  if (!people.length) return toast("There is no transporter in this workshop yet.");
  const at = ticket.scheduled_at ? new Date(ticket.scheduled_at) : new Date(Math.ceil(Date.now() / 3600000 + 1) * 3600000);
  dialog(`Transport of ${ticket.label}`, [
    field("who", "Who", el("select", {}, people.map((one) => el("option", { value: one.id }, one.name)))),
    field("at", "When", el("input", { type: "datetime-local", required: true, value: localInput(at) })),
  ], "Schedule", (form) => {
    const when = new Date(form.get("at"));
    page.outbox.send(ticket, { command: "schedule", transporter_id: form.get("who"), at: when.toISOString() }, { transporter: form.get("who"), scheduled_at: when.toISOString() });
    return true;
  });
}

function openNew(page) {
  dialog("New ticket", [
    field("title", "What is wrong?", el("input", { required: true, maxlength: 200, autocomplete: "off" })),
    field("appliance_brand", "Brand", el("input", { maxlength: 100, autocomplete: "off" })),
    field("appliance_type", "Appliance", el("input", { maxlength: 100, autocomplete: "off" })),
    field("priority", "Priority", el("select", {}, Object.entries(PRIORITIES).map(([value, name]) => el("option", { value, selected: value === "normal" }, name)))),
  ], "Create", async (form) => {
    const made = await page.outbox.create(Object.fromEntries([...form].filter(([, value]) => value)));
    if (made) toast(`${made.label} is open.`);
    return Boolean(made);
  });
}

// --- dragging ---------------------------------------------------------------------------------------

let dragged = null;

function dropTarget(node, allows, act) {
  const accepts = () => {
    const ticket = dragged && current.tickets.get(dragged);
    return ticket && !ticket.pending && allows(ticket) ? ticket : null;
  };
  node.addEventListener("dragover", (event) => {
    if (!accepts()) return;
    event.preventDefault();
    node.classList.add("is-over");
  });
  node.addEventListener("dragleave", (event) => !node.contains(event.relatedTarget) && node.classList.remove("is-over"));
  node.addEventListener("drop", (event) => {
    node.classList.remove("is-over");
    const ticket = accepts();
    if (!ticket) return;
    event.preventDefault();
    act(ticket);
  });
  node.refreshDrop = () => node.classList.toggle("is-target", Boolean(accepts()));
}

const refreshTargets = () => document.querySelectorAll("[data-drop]").forEach((node) => node.refreshDrop());

// --- drawing ----------------------------------------------------------------------------------------

function card(page, ticket) {
  const holder = ticket.technician ? page.nameOf(ticket.technician) : null;
  const button = el("button", {
    type: "button", class: "holder", "aria-haspopup": "menu", "aria-expanded": "false",
    "aria-disabled": ticket.pending ? "true" : undefined, data: { focus: "change" },
    onclick: (event) => (event.currentTarget.getAttribute("aria-expanded") === "true" ? closeMenu() : openChanges(page, ticket.id, event.currentTarget)),
  }, avatar(holder ?? "", { isNobody: !holder }), el("span", { class: "holder-name" }, holder ?? "Nobody yet"), el("span", { class: "unseen" }, `, change ${ticket.label}`));
  const node = el("li", { class: "tag", draggable: "true", data: { status: ticket.status, priority: ticket.priority, pending: ticket.pending ?? "" } },
    el("p", { class: "tag-top" }, el("span", { class: "number" }, ticket.label), ["urgent", "high"].includes(ticket.priority) && el("span", { class: "priority" }, PRIORITIES[ticket.priority])),
    el("h3", { class: "tag-title" }, ticket.title),
    device(ticket) && el("p", { class: "device" }, device(ticket)),
    ticket.scheduled_at && !isFinal(ticket) && el("p", { class: "device" }, `Transport ${day(ticket.scheduled_at).toLowerCase()}, ${time(ticket.scheduled_at)}`),
    ticket.status === "cancelled" && el("p", { class: "device" }, "Cancelled"),
    button, pendingNote(ticket));
  node.addEventListener("dragstart", (event) => {
    dragged = ticket.id;
    event.dataTransfer.setData("text/plain", ticket.label);
    event.dataTransfer.effectAllowed = "move";
    node.classList.add("is-dragged");
    refreshTargets();
  });
  node.addEventListener("dragend", () => {
    dragged = null;
    node.classList.remove("is-dragged");
    refreshTargets();
  });
  return node;
}

function drop(page, ticket, column) {
  if (column.id === "open") return unassign(page, ticket);
  if (column.id === "assigned") {
    const find = () => document.querySelector(`[data-key="${ticket.id}"] [data-focus="change"]`);
    return openChanges(page, ticket.id, find());
  }
  return setStatus(page, ticket, column.id === "done" ? "completed" : column.id);
}

const canDrop = (page, ticket, column) => {
  if (column.statuses.includes(ticket.status) || isFinal(ticket)) return false;
  if (column.id === "open") return Boolean(ticket.technician);
  if (column.id === "assigned") return !ticket.technician;
  return nextStatuses(ticket.status, page.me.role).includes(column.id === "done" ? "completed" : column.id);
};

const columns = COLUMNS.map((column) => {
  const count = el("span", { class: "count" });
  const list = el("ul", { class: "cards" });
  const title = el("h2", { id: `column-${column.id}` }, column.name ?? STATUSES[column.id], " ", count);
  const node = el("section", { class: "column", "aria-labelledby": title.id, data: { column: column.id, drop: "" } }, title, list);
  dropTarget(node, (ticket) => canDrop(current, ticket, column), (ticket) => drop(current, ticket, column));
  byId("board").append(node);
  return { ...column, node, list, count };
});

function tools(page) {
  const search = el("input", { type: "search", id: "filter-text", placeholder: "Number, fault or brand", autocomplete: "off", oninput: (event) => change("text", event.target.value) });
  const holder = el("select", { id: "filter-holder", onchange: (event) => change("holder", event.target.value) });
  const priority = el("select", { id: "filter-priority", onchange: (event) => change("priority", event.target.value) },
    el("option", { value: "" }, "Any priority"), Object.entries(PRIORITIES).map(([value, name]) => el("option", { value }, name)));
  const change = (name, value) => {
    filter[name] = value;
    draw(page);
  };
  byId("tools").append(
    el("search", { class: "filters" },
      el("p", { class: "field" }, el("label", { for: "filter-text" }, "Find"), search),
      el("p", { class: "field" }, el("label", { for: "filter-holder" }, "Technician"), holder),
      el("p", { class: "field" }, el("label", { for: "filter-priority" }, "Priority"), priority)),
    el("p", { id: "matches", class: "matches", role: "status" }),
    el("button", { type: "button", class: "button primary", onclick: () => openNew(page) }, "New ticket"));
  return holder;
}

let holderFilter;
function matches(ticket) {
  const words = `${ticket.label} ${ticket.title} ${device(ticket)} ${ticket.appliance_type ?? ""}`.toLowerCase();
  return (!filter.text || words.includes(filter.text.toLowerCase())) && (!filter.priority || ticket.priority === filter.priority)
    && (!filter.holder || (filter.holder === "nobody" ? !ticket.technician : ticket.technician === filter.holder));
}

const order = (a, b) => (isFinal(a) && isFinal(b) ? b.updated_at.localeCompare(a.updated_at) : priorityRank(a) - priorityRank(b) || a.number - b.number);

function drawTeam(page) {
  const here = new Set(page.online.map((one) => one.id));
  const items = [{ id: "nobody", name: "Nobody", load: page.tickets.all().filter((ticket) => !ticket.technician && !isFinal(ticket)).length },
    ...team(page).map((one) => ({ ...one, isHere: here.has(one.id), text: load(page, one.id) }))];
  reconcile(byId("team-list"), items, {
    key: (one) => `team-${one.id}`,
    signature: (one) => JSON.stringify(one),
    make: (one) => {
      const isNobody = one.id === "nobody";
      const node = el("li", { class: "mate", data: { drop: "" } }, avatar(isNobody ? "" : one.name, { isNobody }),
        el("span", { class: "mate-name" }, isNobody ? "The pool" : one.name),
        el("small", {}, isNobody ? `${one.load} open` : one.text, one.isHere && el("span", { class: "here" }, " · here now")));
      dropTarget(node, (ticket) => !isFinal(ticket) && (isNobody ? Boolean(ticket.technician) : ticket.technician !== one.id),
        (ticket) => (isNobody ? unassign(page, ticket) : assign(page, ticket, one)));
      return node;
    },
  });
  const options = [["", "Everybody"], ["nobody", "Nobody yet"], ...team(page).map((one) => [one.id, one.name])];
  if (holderFilter.dataset.options !== JSON.stringify(options)) {
    holderFilter.dataset.options = JSON.stringify(options);
    holderFilter.replaceChildren(...options.map(([value, name]) => el("option", { value, selected: value === filter.holder }, name)));
  }
}

function draw(page) {
  current = page;
  holderFilter ??= tools(page);
  drawTeam(page);
  const all = page.tickets.all();
  const shown = all.filter(matches).sort(order);
  let focus;
  for (const column of columns) {
    const tickets = shown.filter((ticket) => column.statuses.includes(ticket.status));
    setText(column.count, String(tickets.length));
    column.node.classList.toggle("is-empty", !tickets.length);
    const kept = reconcile(column.list, tickets.slice(0, MOST_SHOWN), {
      key: (ticket) => ticket.id,
      signature: (ticket) => JSON.stringify([ticket.version, ticket.pending, ticket.status, ticket.technician, ticket.scheduled_at, page.people[ticket.technician]?.name]),
      make: (ticket, before) => {
        const node = card(page, ticket);
        if (before || page.news.some((event) => event.id === ticket.id && Date.now() - new Date(event.at) < 3000)) node.classList.add("is-fresh");
        return node;
      },
    });
    focus ??= kept;
  }
  restoreFocus(focus);
  const isFiltered = filter.text || filter.holder || filter.priority;
  setText(byId("matches"), isFiltered ? `${shown.length} of ${all.length} tickets` : `${all.length} tickets`);
  reconcile(byId("news"), page.news.slice(0, 8), {
    key: (event) => `${event.id}-${event.version}-${event.name}`,
    signature: (event) => page.nameOf(event.technician),
    make: (event) => el("li", {}, el("time", { datetime: event.at }, time(event.at)), el("span", {}, sentence(event, page.nameOf)),
      el("small", { data: { source: event.source } }, { realtime: "realtime", "own write": "from here" }[event.source] ?? "reading")),
  });
  byId("news").classList.toggle("is-empty", !page.news.length);
  reconcile(byId("online"), page.online, {
    key: (one) => `online-${one.id}`,
    signature: (one) => JSON.stringify(one),
    make: (one) => el("li", {}, avatar(one.name), el("span", {}, one.name), el("small", {}, `${ROLES[one.role] ?? one.role}${one.windows > 1 ? `, ${one.windows} windows` : ""}`)),
  });
}

startPage({ draw });

const { can_cut: canCut } = await fetch("/api/demo").then((answer) => answer.json()).catch(() => ({}));
if (canCut) {
  const set = (isUp) => post("api/realtime", { is_up: isUp }).catch(() => toast("The dashboard doesn't answer.", "problem"));
  byId("chart").append(el("p", { class: "actions" },
    el("button", { type: "button", class: "button", onclick: () => set(false) }, "Cut Realtime"),
    el("button", { type: "button", class: "button", onclick: () => set(true) }, "Bring it back")));
}
