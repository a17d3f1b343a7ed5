// Pause, resume and drain, with the token; and the dialog that asks for it.
import { ask, hasToken, rememberToken } from "./stream.js";
import { byId, say } from "./words.js";

const DONE = {
  pause: "Paused: workers finish what they hold and claim nothing.",
  resume: "Workers claim again.",
  drain: "Draining: workers finish what they hold and exit.",
};

// Resolves to whether the person went on.
function dialog(title, why, wantsToken) {
  const box = byId("ask");
  say("ask-title", title);
  say("ask-why", why);
  box.querySelector("label").hidden = !wantsToken;
  byId("token").hidden = !wantsToken;
  byId("token").value = "";
  box.returnValue = "no";
  box.showModal();
  (wantsToken ? byId("token") : byId("ask-yes")).focus();
  return new Promise((resolve) => {
    const closed = () => {
      const goOn = box.returnValue === "yes";
      if (goOn && wantsToken) rememberToken(byId("token").value.trim());
      byId("token").value = "";
      resolve(goOn);
    };
    box.addEventListener("close", closed, { once: true });
  });
}

export const askForToken = (why) => dialog("Dashboard token", why, true);

async function give(order) {
  if (order === "drain") {
    const why = "Workers finish what they hold and exit.";
    if (!(await dialog("Drain this run?", why, false))) return;
  }
  if (!hasToken() && !(await askForToken("Orders to the queue take the token the dashboard was started with."))) return;
  say("answer", "…");
  try {
    const answer = await ask(`/api/${order}`, { method: "POST" });
    if (answer.status === 401) rememberToken(null);
    say("answer", answer.ok ? DONE[order] : `Not done: ${(await answer.json()).error}`);
  } catch {
    say("answer", "Not done: the dashboard's server does not answer.");
  }
}

export function start() {
  // Enter in the field means yes, not the first button.
  byId("token").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    byId("ask").close("yes");
  });
  for (const button of document.querySelectorAll("[data-order]")) {
    button.addEventListener("click", () => give(button.dataset.order));
  }
}

// Which orders make sense now.
export function show(page) {
  byId("orders").hidden = !page.takes_orders || page.stage === "finished";
  const useless = { pause: ["paused"], resume: ["running"], drain: ["draining"] };
  for (const button of document.querySelectorAll("[data-order]")) {
    button.disabled = useless[button.dataset.order].includes(page.stage);
  }
}
