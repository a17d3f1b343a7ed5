// The page: takes messages, and writes them down.
import * as chart from "./chart.js";
import * as dialog from "./dialog.js";
import * as lists from "./lists.js";
import * as orders from "./orders.js";
import { listen } from "./stream.js";
import { byId, clock, count, dollars, duration, make, rate, say } from "./words.js";
import { workers } from "./workers.js";

let last = null;

function notices(texts) {
  const have = [...byId("notices").children].map((notice) => notice.textContent);
  if (have.join("\n") === texts.join("\n")) return;
  byId("notices").replaceChildren(...texts.map((text) => make("p", { name: "notice", text })));
}

function figures(page) {
  const { items } = page;
  say("items", count(items.done + items.failed));
  const failed = items.failed > 0 ? `, ${count(items.failed)} failed` : "";
  say("items-more", `of ${count(items.total)}${failed}`);
  byId("items-more").classList.toggle("bad", items.failed > 0);
  say("rate", rate(page.items_per_second));
  say("rate-more", page.items_per_second === null ? "unknown without the queue" : "items a second");
  const left = page.stage === "finished" ? "none" : page.eta_seconds === null ? "–" : duration(page.eta_seconds);
  say("left", left);
  const moves = page.stage === "running" && page.eta_seconds !== null;
  say("left-more", moves ? `until ${clock(page.at + page.eta_seconds)}` : page.eta_seconds === null ? "unknown" : "");
  money(page.cost);
}

function money(cost) {
  say("cost", cost ? dollars(cost.billed ?? cost.so_far) : "–");
  if (!cost) return say("cost-more", "no rented boxes");
  const end = cost.projected === null ? `${dollars(cost.an_hour)} an hour` : `about ${dollars(cost.projected)} at the end`;
  say("cost-more", cost.billed === null ? end : "billed");
}

function bar(page) {
  const share = (number) => `${(100 * number) / Math.max(1, page.items.total)}%`;
  byId("bar-done").style.width = share(page.items.done + page.items.failed);
  byId("bar-flight").style.width = share(page.items.in_flight);
  byId("bar").setAttribute("aria-valuenow", page.percent.toFixed(1));
}

function show(page) {
  last = page;
  document.title = `${page.percent.toFixed(1)} % · ${page.run}`;
  say("run", page.run);
  say("model", `${page.model}, ${count(page.dim)} dimensions`);
  say("stage", page.stage_words);
  byId("stage").dataset.stage = page.stage;
  say("percent", page.percent.toFixed(1));
  const old = page.trouble === null ? [] : [`This is how it stood at ${clock(page.at, true)}: ${page.trouble}`];
  notices([...old, ...page.notes]);
  figures(page);
  bar(page);
  chart.draw(page.rates);
  lists.cells(page);
  workers(page);
  lists.failures(page);
  lists.money(page);
  orders.show(page);
  byId("links").hidden = !page.reads_freely;
  say("connection", `live, ${clock(page.at, true)}`);
}

function away(seconds) {
  const when = last === null ? "" : ` This is how it stood at ${clock(last.at, true)}.`;
  notices([`The dashboard's server does not answer; it is asked again and again.${when}`]);
  say("connection", `not connected, trying again in ${seconds} s`);
}

// Who will not give the token is not asked again before they want to.
async function token() {
  const why = "This dashboard shows the run to those who have its token.";
  while (!(await dialog.askForToken(why))) {
    notices([why]);
    say("connection", "not connected: the token is missing");
    await clicked(byId("unlock"));
  }
}

function clicked(button) {
  button.hidden = false;
  return new Promise((resolve) => {
    const hide = () => {
      button.hidden = true;
      resolve();
    };
    button.addEventListener("click", hide, { once: true });
  });
}

chart.start();
dialog.start();
orders.start();
listen({ page: show, away, token });
