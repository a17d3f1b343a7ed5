// Shards, failures and kinds of boxes.
import { byId, count, dollars, keep, make, rate, say } from "./words.js";

export function cells(page) {
  const { shards, per_cell: perCell, cells: all } = page.cells;
  const holder = byId("cells");
  holder.className = `cells ${all.length <= 60 ? "few" : all.length <= 180 ? "some" : ""}`;
  while (holder.childElementCount > all.length) holder.lastElementChild.remove();
  while (holder.childElementCount < all.length) holder.append(make("i"));
  // The queue names a hundred failed shards: where there are more, some of those that seem pending are among them.
  const rest = page.failures_unnamed > 0 ? "pending or failed" : "pending";
  all.forEach(([done, leased, delayed, dead], index) => {
    const cell = holder.children[index];
    const total = Math.min(perCell, shards - index * perCell);
    const state = dead ? "dead" : delayed ? "delayed" : leased ? "leased" : "";
    if (cell.className !== state) cell.className = state;
    cell.style.setProperty("--done", `${Math.round((100 * done) / total)}%`);
    const name = perCell === 1 ? `shard ${index}` : `shards ${index * perCell} to ${index * perCell + total - 1}`;
    const counts = { done, leased, delayed, dead, [rest]: total - done - leased - delayed - dead };
    const said = Object.entries(counts).filter(([, number]) => number > 0);
    cell.title = `${name}: ${said.map(([word, number]) => (perCell === 1 ? word : `${number} ${word}`)).join(", ")}`;
  });
  say("per-cell", perCell === 1 ? `${count(shards)} in all` : `${count(shards)} in all, ${perCell} a cell`);
  const words = ["done", "leased", "pending", "delayed", "dead"];
  const seen = words.filter((word) => page.shards[word] > 0 || ["done", "leased", "pending"].includes(word));
  holder.setAttribute("aria-label", `Shards: ${seen.map((word) => `${count(page.shards[word])} ${word}`).join(", ")}`);
  const entry = ([word, number]) => make("li", { name: word }, make("b", { text: number }), ` ${word}`);
  keep(byId("legend"), seen.map((word) => [word, count(page.shards[word])]), JSON.stringify, entry);
}

function failedShard(failure) {
  const word = failure.state === "dead" ? "dead" : "will be tried again";
  const counts = `${failure.attempts} attempts, ${failure.lost_leases} lost leases`;
  return make(
    "li",
    { name: failure.state },
    make("b", { text: `Shard ${failure.shard}` }),
    word,
    make("small", { text: `${failure.message} (${counts})` }),
  );
}

const refusedPart = (part) =>
  make("li", { name: "refused" }, make("b", { text: part.name }), "is no part", make("small", { text: part.reason }));

export function failures(page) {
  const named = page.failures.length;
  const all = [...page.failures, ...page.refused_parts];
  keep(byId("failures"), all, JSON.stringify, (one) => ("shard" in one ? failedShard(one) : refusedPart(one)));
  byId("no-failures").hidden = all.length > 0;
  say("no-failures", page.source === "store" ? "Only the queue knows them." : "None.");
  const cut = `${count(named)} of ${count(named + page.failures_unnamed)}`;
  say("failures-more", page.failures_unnamed > 0 ? cut : "");
}

export function money(page) {
  const kinds = page.cost ? page.cost.by_gpu : [];
  byId("money").hidden = kinds.length === 0;
  if (kinds.length === 0) return;
  const { billed, an_hour: hour, budget } = page.cost;
  const rates = [billed === null ? `${dollars(hour)} an hour` : "billed"];
  if (budget !== null) rates.push(`budget ${dollars(budget)}`);
  say("money-more", rates.join(", "));
  keep(byId("kinds"), kinds, JSON.stringify, kindOfBox);
}

function kindOfBox(kind) {
  const boxes = kind.boxes === 1 ? "1 box" : `${count(kind.boxes)} boxes`;
  const name = make("div", {}, make("b", { text: kind.gpu }));
  name.append(make("small", { text: `${boxes}, ${count(kind.items)} items, ${rate(kind.items_per_second)} a second each` }));
  const price = make("div", { name: "number", text: dollars(kind.dollars) });
  if (kind.per_thousand !== null) {
    price.append(make("small", { text: `${dollars(kind.per_thousand)} for 1,000` }));
  }
  return make("li", {}, name, price);
}
