// Shards, workers, failures and kinds of boxes.
import { ago, byId, count, dollars, make, rate, say } from "./words.js";

export function cells(page) {
  const { shards, per_cell: perCell, cells: all } = page.cells;
  const holder = byId("cells");
  holder.className = `cells ${all.length <= 60 ? "few" : all.length <= 180 ? "some" : ""}`;
  while (holder.childElementCount > all.length) holder.lastElementChild.remove();
  while (holder.childElementCount < all.length) holder.append(make("i"));
  all.forEach(([done, leased, delayed, dead], index) => {
    const cell = holder.children[index];
    const total = Math.min(perCell, shards - index * perCell);
    const state = dead ? "dead" : delayed ? "delayed" : leased ? "leased" : "";
    if (cell.className !== state) cell.className = state;
    cell.style.setProperty("--done", `${Math.round((100 * done) / total)}%`);
    const name = perCell === 1 ? `shard ${index}` : `shards ${index * perCell} to ${index * perCell + total - 1}`;
    const counts = { done, leased, delayed, dead, pending: total - done - leased - delayed - dead };
    const said = Object.entries(counts).filter(([, number]) => number > 0);
    cell.title = `${name}: ${said.map(([word, number]) => (perCell === 1 ? word : `${number} ${word}`)).join(", ")}`;
  });
  say("per-cell", perCell === 1 ? `${count(shards)} in all` : `${count(shards)} in all, ${perCell} a cell`);
  const words = ["done", "leased", "pending", "delayed", "dead"];
  const seen = words.filter((word) => page.shards[word] > 0 || ["done", "leased", "pending"].includes(word));
  holder.setAttribute("aria-label", `Shards: ${seen.map((word) => `${count(page.shards[word])} ${word}`).join(", ")}`);
  byId("legend").replaceChildren(
    ...seen.map((word) => make("li", { name: word }, make("b", { text: count(page.shards[word]) }), ` ${word}`)),
  );
}

const COLUMNS = [
  ["Items/s", (worker) => rate(worker.items_per_second)],
  ["Busy", (worker) => (worker.busy_percent === null ? "–" : `${worker.busy_percent} %`)],
  ["Last seen", (worker) => ago(worker.seen_seconds)],
  ["Shards", (worker) => count(worker.shards)],
  ["Items", (worker) => count(worker.items)],
];

function row(worker) {
  const cell = (name, ...children) => make("td", { name, attributes: { role: "cell" } }, ...children);
  const id = cell("id", worker.id);
  if (worker.box) id.append(make("span", { name: "of", text: worker.box }));
  const state = cell("state", worker.condition);
  if (worker.host_failures > 0) {
    const times = worker.host_failures === 1 ? "1 failure" : `${worker.host_failures} failures`;
    state.append(make("span", { name: "of", text: `${times} of its machine` }));
  }
  const numbers = COLUMNS.map(([label, text]) =>
    make("td", { name: "number", text: text(worker), data: { label }, attributes: { role: "cell" } }),
  );
  const of = { data: { condition: worker.condition }, attributes: { role: "row" } };
  return make("tr", of, id, state, cell("device", worker.device), ...numbers);
}

export function workers(page) {
  byId("workers").replaceChildren(...page.workers.map(row));
  document.querySelector("table.workers").hidden = page.workers.length === 0;
  byId("no-workers").hidden = page.workers.length > 0;
  say("no-workers", page.source === "store" ? "Only the queue knows the workers." : "No worker has been heard yet.");
  const working = page.workers.filter((worker) => worker.condition === "working").length;
  const rest = page.workers_total - page.workers.length;
  const all = page.workers_total === 0 ? "" : `${count(working)} of ${count(page.workers_total)} working`;
  say("workers-more", rest > 0 ? `${all}, ${count(rest)} not shown` : all);
}

export function failures(page) {
  const shards = page.failures.map((failure) => {
    const word = failure.state === "dead" ? "dead" : "will be tried again";
    const counts = `${failure.attempts} attempts, ${failure.lost_leases} lost leases`;
    return make(
      "li",
      { name: failure.state },
      make("b", { text: `Shard ${failure.shard}` }),
      word,
      make("small", { text: `${failure.message} (${counts})` }),
    );
  });
  const refused = page.refused_parts.map((part) =>
    make("li", { name: "refused" }, make("b", { text: part.name }), "is no part", make("small", { text: part.reason })),
  );
  byId("failures").replaceChildren(...shards, ...refused);
  byId("no-failures").hidden = shards.length + refused.length > 0;
  say("no-failures", page.source === "store" ? "Only the queue knows them." : "None.");
}

export function money(page) {
  const kinds = page.cost ? page.cost.by_gpu : [];
  byId("money").hidden = kinds.length === 0;
  if (kinds.length === 0) return;
  const { billed, an_hour: hour, budget } = page.cost;
  const rates = [billed === null ? `${dollars(hour)} an hour` : "billed"];
  if (budget !== null) rates.push(`budget ${dollars(budget)}`);
  say("money-more", rates.join(", "));
  byId("kinds").replaceChildren(
    ...kinds.map((kind) => {
      const boxes = kind.boxes === 1 ? "1 box" : `${count(kind.boxes)} boxes`;
      const name = make("div", {}, make("b", { text: kind.gpu }));
      name.append(make("small", { text: `${boxes}, ${count(kind.items)} items, ${rate(kind.items_per_second)} a second each` }));
      const price = make("div", { name: "number", text: dollars(kind.dollars) });
      if (kind.per_thousand !== null) {
        price.append(make("small", { text: `${dollars(kind.per_thousand)} for 1,000` }));
      }
      return make("li", {}, name, price);
    }),
  );
}
