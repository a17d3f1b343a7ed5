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
export function say(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

export function make(tag, { name = "", text = "", data = {}, attributes = {} } = {}, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== "") element.textContent = text;
  Object.assign(element.dataset, data);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
