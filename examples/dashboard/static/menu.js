// A menu for one ticket: opened by a button, walked with arrow keys, closed with Escape.

import { el } from "./dom.js";

let open = null;

export function closeMenu({ focus = false } = {}) {
  if (!open) return;
  const { menu, button, find } = open;
  open = null;
  menu.remove();
  const back = button.isConnected ? button : find();
  back?.setAttribute("aria-expanded", "false");
  if (focus) back?.focus();
}

/**
 * @param button The button that opens it.
 * @param find Finds that button again when the card was drawn anew meanwhile.
 * @param groups [{ title, items: [{ text, isChosen, act }] }]
 */
export function openMenu(button, find, label, groups) {
  closeMenu();
  const menu = el("div", { class: "menu", role: "menu", "aria-label": label, popover: "manual" });
  for (const group of groups.filter((one) => one.items.length)) {
    const id = `menu-${group.title.replaceAll(/\W+/g, "-").toLowerCase()}`;
    menu.append(
      el("div", { role: "group", "aria-labelledby": id },
        el("p", { class: "menu-title", id, role: "presentation" }, group.title),
        group.items.map(({ text, note, isChosen, act }) =>
          el("button", {
            type: "button",
            class: "menu-item",
            role: isChosen === undefined ? "menuitem" : "menuitemradio",
            "aria-checked": isChosen === undefined ? undefined : String(isChosen),
            tabindex: "-1",
            onclick: () => {
              closeMenu({ focus: true });
              if (!isChosen) act();
            },
          }, el("span", {}, text), note && el("small", {}, note)),
        ),
      ),
    );
  }
  document.querySelector("main").append(menu);
  menu.showPopover();
  place(menu, button);
  button.setAttribute("aria-expanded", "true");
  open = { menu, button, find };
  const items = [...menu.querySelectorAll(".menu-item")];
  const go = (index) => items.at(((index % items.length) + items.length) % items.length)?.focus();
  menu.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 };
    if (event.key in moves) go(moves[event.key]);
    else if (event.key === "Escape") closeMenu({ focus: true });
    else if (event.key === "Tab") return closeMenu({ focus: true });
    else if (event.key.length === 1) items.find((item) => item.textContent.toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
    else return;
    if (event.key !== " " && event.key !== "Enter") event.preventDefault();
  });
  (items.find((item) => item.getAttribute("aria-checked") === "true") ?? items[0])?.focus();
}

function place(menu, button) {
  const at = button.getBoundingClientRect();
  const size = menu.getBoundingClientRect();
  const below = at.bottom + 4 + size.height <= innerHeight;
  menu.style.top = `${Math.max(8, below ? at.bottom + 4 : at.top - size.height - 4)}px`;
  menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
}

document.addEventListener("pointerdown", (event) => {
  if (open && !open.menu.contains(event.target) && !open.button.contains(event.target)) closeMenu();
});
const follow = () => {
  if (!open) return;
  const button = open.button.isConnected ? open.button : open.find();
  if (button) place(open.menu, button);
  else closeMenu();
};
addEventListener("resize", follow);
addEventListener("scroll", follow, { passive: true });
