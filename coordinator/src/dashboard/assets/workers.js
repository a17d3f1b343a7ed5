// The table of workers. A row stays as long as its worker does; its cells are written where they changed.
import { ago, byId, count, keep, make, rate, say, write } from "./words.js";

const NUMBERS = [
  ["Items/s", (worker) => rate(worker.items_per_second)],
  ["Busy", (worker) => (worker.busy_percent === null ? "–" : `${worker.busy_percent} %`)],
  ["Last seen", (worker) => ago(worker.seen_seconds)],
  ["Shards", (worker) => count(worker.shards)],
  ["Items", (worker) => count(worker.items)],
];

// Texts, each with what stands below it.
const TEXTS = [
  ["id", (worker) => [worker.id, worker.box]],
  ["state", (worker) => [worker.condition, blame(worker.host_failures)]],
  ["device", (worker) => [worker.device, ""]],
];

function blame(failures) {
  if (failures === 0) return "";
  return failures === 1 ? "1 failure of its machine" : `${failures} failures of its machine`;
}

function empty() {
  const cell = (name, data, ...children) => make("td", { name, data, attributes: { role: "cell" } }, ...children);
  const texts = TEXTS.map(([name]) => cell(name, {}, make("span"), make("span", { name: "of" })));
  const numbers = NUMBERS.map(([label]) => cell("number", { label }));
  return make("tr", { attributes: { role: "row" } }, ...texts, ...numbers);
}

function fill(row, worker) {
  if (row.dataset.condition !== worker.condition) row.dataset.condition = worker.condition;
  TEXTS.forEach(([, texts], index) => {
    const [above, below] = row.children[index].children;
    const [text, more] = texts(worker);
    write(above, text);
    write(below, more);
    below.hidden = more === "";
  });
  NUMBERS.forEach(([, text], index) => write(row.children[TEXTS.length + index], text(worker)));
}

export function workers(page) {
  keep(byId("workers"), page.workers, (worker) => worker.id, empty, fill);
  document.querySelector("table.workers").hidden = page.workers.length === 0;
  byId("no-workers").hidden = page.workers.length > 0;
  say("no-workers", page.source === "store" ? "Only the queue knows the workers." : "No worker has been heard yet.");
  const all = page.workers_total;
  const rest = all - page.workers.length;
  const working = all === 0 ? "" : `${count(page.conditions.working)} of ${count(all)} working`;
  say("workers-more", rest > 0 ? `${working}, ${count(rest)} not shown` : working);
}
