// Numbers, times and money as a person says them, and small helpers for elements. Text is only ever set as text.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const count = (number) => whole.format(number);

export const rate = (number) =>
  number === null || number === undefined ? "–" : number.toFixed(number < 100 ? 1 : 0);

export function duration(seconds) {
  const all = Math.max(0, Math.round(seconds));
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${String(all % 60).padStart(2, "0")} s`;
  return `${Math.floor(all / 3600)} h ${String(Math.floor((all % 3600) / 60)).padStart(2, "0")} min`;
}

export function ago(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

export function dollars(amount) {
  const size = Math.abs(amount);
  const digits = size > 0 && size < 0.0001 ? 6 : size > 0 && size < 0.1 ? 4 : 2;
  return `$${amount.toFixed(digits)}`;
}

export const clock = (seconds, withSeconds = false) =>
  new Date(seconds * 1000).toLocaleTimeString("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    ...(withSeconds ? { second: "2-digit" } : {}),
  });

export const byId = (id) => document.getElementById(id);

// Sets text only where it changed, so that a screen reader is left in peace.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const say = (id, text) => write(byId(id), text);

export function make(tag, { name = "", text = "", data = {}, attributes = {} } = {}, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== "") element.textContent = text;
  Object.assign(element.dataset, data);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const keys = new WeakMap();

// Makes the children of `holder` those that stand for `values`. One that is there already, by its key, stays where it
// is, so that what is selected or read aloud keeps its place; `update` tells it what is new.
export function keep(holder, values, key, create, update = () => {}) {
  const have = new Map([...holder.children].map((child) => [keys.get(child), child]));
  const wanted = values.map((value) => {
    const child = have.get(key(value)) ?? create(value);
    keys.set(child, key(value));
    update(child, value);
    return child;
  });
  const stay = new Set(wanted);
  for (const child of [...holder.children]) if (!stay.has(child)) child.remove();
  wanted.forEach((child, index) => {
    if (holder.children[index] !== child) holder.insertBefore(child, holder.children[index] ?? null);
  });
}
