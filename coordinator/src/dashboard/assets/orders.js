// Pause, resume and drain, with the token.
import { askForToken, confirm } from "./dialog.js";
import { ask } from "./stream.js";
import { byId, say } from "./words.js";

const DONE = {
  pause: "Paused: workers finish what they hold and claim nothing.",
  resume: "Workers claim again.",
  drain: "Draining: workers finish what they hold and exit.",
};

async function give(order) {
  if (order === "drain") {
    const why = "Workers finish what they hold and exit.";
    if (!(await confirm("Drain this run?", why))) return;
  }
  if (!(await askForToken("Orders to the queue take the token the dashboard was started with."))) return;
  say("answer", "…");
  try {
    const answer = await ask(`/api/${order}`, { method: "POST" });
    say("answer", answer.ok ? DONE[order] : `Not done: ${(await answer.json()).error}`);
  } catch {
    say("answer", "Not done: the dashboard's server does not answer.");
  }
}

export function start() {
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
