// The door: sign in as somebody of the demo, or with an account.

import { byId, el } from "./dom.js";
import { post } from "./outbox.js";
import { avatar, mark } from "./page.js";
import { ROLES } from "./words.js";

const problem = byId("problem");
byId("brand").prepend(mark());
if (new URLSearchParams(location.search).has("ended")) problem.textContent = "Your session has ended. Please sign in again.";

async function enter(credentials, button) {
  problem.textContent = "";
  button.setAttribute("aria-disabled", "true");
  try {
    const { status, body } = await post("api/sign-in", credentials);
    if (status === 200) return location.assign(body.location);
    problem.textContent = body.text ?? "That didn't work.";
  } catch {
    problem.textContent = "The dashboard doesn't answer.";
  }
  button.removeAttribute("aria-disabled");
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const missing = [...form.querySelectorAll("input")].find((input) => !input.validity.valid);
  if (missing) {
    problem.textContent = missing.name === "email" ? "Please give your e-mail address." : "Please give your password.";
    return missing.focus();
  }
  enter({ email: form.email.value, password: form.password.value }, form.querySelector("button"));
});

const { people } = await fetch("api/demo").then((answer) => answer.json()).catch(() => ({ people: [] }));
byId("people").hidden = !people.length;
byId("people-list").append(
  ...people.map(({ email, name, role }) =>
    el("li", {}, el("button", { type: "button", class: "person", onclick: (event) => enter({ email }, event.currentTarget) },
      avatar(name), el("span", { class: "person-name" }, name), el("small", {}, ROLES[role] ?? role)))),
);
