// How things are called, in one place.

export const STATUSES = {
  open: "Open",
  assigned: "Assigned",
  in_progress: "In progress",
  waiting_parts: "Waiting for parts",
  ready: "Ready",
  completed: "Completed",
  cancelled: "Cancelled",
};

// Which status may follow which, and for whom; the database has the last word.
const OFFICE = ["admin", "staff"];
const WORKERS = [...OFFICE, "technician"];
const STEPS = {
  open: { cancelled: OFFICE },
  assigned: { in_progress: WORKERS, cancelled: OFFICE },
  in_progress: { waiting_parts: WORKERS, ready: WORKERS, completed: WORKERS, cancelled: OFFICE },
  waiting_parts: { in_progress: WORKERS, cancelled: OFFICE },
  ready: { in_progress: WORKERS, completed: [...WORKERS, "transporter"], cancelled: OFFICE },
};

export const nextStatuses = (status, role) =>
  Object.entries(STEPS[status] ?? {}).filter(([, roles]) => roles.includes(role)).map(([next]) => next);

export const isFinal = (ticket) => ticket.status === "completed" || ticket.status === "cancelled";
export const statusName = (status) => STATUSES[status] ?? status;
export const ROLES = { admin: "Admin", staff: "Office", technician: "Technician", transporter: "Transporter", customer: "Customer" };
export const PRIORITIES = { urgent: "Urgent", high: "High", normal: "Normal", low: "Low" };
export const priorityRank = (ticket) => ["urgent", "high", "normal", "low"].indexOf(ticket.priority);

export const device = (ticket) => [ticket.appliance_brand, ticket.appliance_model].filter(Boolean).join(" ") || ticket.appliance_type || "";
export const initials = (name) => name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => word[0]).join("").toUpperCase();

export function span(seconds) {
  if (seconds < 0.0005) return "0 ms";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
export const time = (iso) => TIME.format(new Date(iso));
export const day = (iso) => {
  const date = new Date(iso);
  const days = Math.round((new Date(date).setHours(0, 0, 0, 0) - new Date().setHours(0, 0, 0, 0)) / 86400000);
  return { 0: "Today", 1: "Tomorrow", "-1": "Yesterday" }[days] ?? DAY.format(date);
};

/** The value of an <input type="datetime-local">, in this machine's time. */
export const localInput = (date) => new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);

/** What happened, as one sentence. */
export function sentence(event, nameOf) {
  const who = event.technician ? nameOf(event.technician) : null;
  switch (event.name) {
    case "assigned":
      return who ? `${event.label} went to ${who}` : `${event.label} was assigned`;
    case "unassigned":
      return who ? `${event.label} went to ${who}` : `${event.label} is back in the pool`;
    case "created":
      return `${event.label} came in: ${event.title}`;
    case "removed":
      return `${event.label} left this view`;
    default:
      if (event.changes.includes("status")) return `${event.label} is now ${statusName(event.status).toLowerCase()}`;
      if (event.changes.includes("scheduled_at")) return `${event.label} has a new time for transport`;
      return event.changes.length ? `${event.label} was edited` : `${event.label} was changed, and is as it was before`;
  }
}

/** Who was faster than this person, and how the ticket is now; null when the page showed that already. */
export function fasterSentence(event, nameOf) {
  const is = (...columns) => columns.some((one) => event.changes.includes(one));
  const now = !event.in_view ? "is with a colleague"
    : is("assigned_technician_id") ? (event.technician ? `is with ${nameOf(event.technician)}` : "is back in the pool")
    : is("status") ? `is ${statusName(event.status).toLowerCase()}`
    : event.changes.length ? "reads differently" : null;
  return now && `Somebody was a moment faster: ${event.label} ${now} now. Nothing was overwritten.`;
}
