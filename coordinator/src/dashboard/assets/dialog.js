// The one dialog: a question, or the token. Who comes while it is open waits for a turn.
import { hasToken, rememberToken } from "./stream.js";
import { byId, say } from "./words.js";

let last = Promise.resolve();

function inTurn(question) {
  last = last.then(question);
  return last;
}

// Resolves to whether the person went on.
function show(title, why, wantsToken) {
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

export const confirm = (title, why) => inTurn(() => show(title, why, false));

// Whoever waited may find that the token was given meanwhile.
export const askForToken = (why) => inTurn(() => hasToken() || show("Dashboard token", why, true));

export function start() {
  // Enter in the field means yes, not the first button.
  byId("token").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    byId("ask").close("yes");
  });
}
