// Elements without innerHTML: text is only ever text.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const el = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);
export const byId = (id) => document.getElementById(id);

/** Set text only where it differs, so that nothing is drawn or read aloud again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Make a list show items: nodes are kept by key, made anew when their signature changes, and moved when
 * their place does. Focus inside a node survives by its `data-focus`.
 */
export function reconcile(list, items, { key, signature, make }) {
  const held = document.activeElement?.closest("[data-key]");
  const focus = held && { key: held.dataset.key, name: document.activeElement.dataset.focus };
  const before = new Map([...list.children].map((node) => [node.dataset.key, node]));
  let place = list.firstElementChild;
  for (const item of items) {
    const id = key(item);
    const wanted = signature(item);
    let node = before.get(id);
    before.delete(id);
    if (node?.dataset.signature !== wanted) {
      const fresh = make(item, node);
      fresh.dataset.key = id;
      fresh.dataset.signature = wanted;
      if (node) {
        if (place === node) place = fresh;
        node.replaceWith(fresh);
      }
      node = fresh;
    }
    if (node === place) place = place.nextElementSibling;
    else list.insertBefore(node, place);
  }
  for (const node of before.values()) node.remove();
  return focus;
}

/** Give the focus back to where it was, also when its ticket has moved to another list. */
export function restoreFocus(focus) {
  if (!focus?.name || document.activeElement !== document.body) return;
  const node = document.querySelector(`[data-key="${CSS.escape(focus.key)}"]`);
  (node?.querySelector(`[data-focus="${CSS.escape(focus.name)}"]`) ?? node?.querySelector("button"))?.focus({ preventScroll: true });
}

let region;
/** Say something to people who listen instead of look. */
export function announce(text) {
  region ??= document.body.appendChild(el("div", { class: "unseen", role: "status", "aria-live": "polite" }));
  const line = region.appendChild(el("p", {}, text));
  setTimeout(() => line.remove(), 10000);
}

let shelf;
/**
 * A short message at the edge of the screen; it goes by itself, unless the pointer or the focus rests on it.
 * Of problems with one thing (`about`) the last is shown, unless it is weak.
 */
export function toast(text, kind = "info", { about = "", isWeak = false } = {}) {
  shelf ??= document.body.appendChild(el("section", { class: "toasts", "aria-label": "Messages" }));
  const close = el("button", { type: "button", class: "toast-close", "aria-label": "Dismiss" }, "×");
  const before = about ? shelf.querySelector(`[data-about="${about}"]`) : null;
  if (before && isWeak) return;
  before?.remove();
  const node = el("div", { class: "toast", data: { kind, about }, role: kind === "problem" ? "alert" : "status" }, el("p", {}, text), close);
  shelf.append(node);
  while (shelf.children.length > 4) shelf.firstElementChild.remove();
  const leave = () => (node.matches(":hover, :focus-within") ? setTimeout(leave, 2000) : node.remove());
  close.addEventListener("click", () => node.remove());
  setTimeout(leave, kind === "problem" ? 12000 : 6000);
}
