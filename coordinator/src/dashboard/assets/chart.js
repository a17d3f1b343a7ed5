// The rate over time as an SVG, drawn anew with every message and every size.
import { byId, clock, duration, rate, say } from "./words.js";

const LEFT = 40;
const BOTTOM = 24;
const TOP = 8;
const RIGHT = 6;

let points = [];
let hovered = null;

const svg = (tag, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

// The next of 1, 2, 5, 10, 20, ... that three steps of reach `highest`.
function step(highest) {
  const rough = Math.max(highest, 0.3) / 3;
  const ten = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * ten).find((size) => size >= rough * 0.999);
}

export function draw(rates) {
  points = rates;
  paint();
}

function scales(width, height) {
  const highest = Math.max(...points.map((point) => point[1]), 0);
  const size = step(highest);
  const top = size * Math.max(1, Math.ceil(highest / size - 0.001));
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  const x = (at) => LEFT + ((at - first) / Math.max(1, last - first)) * (width - LEFT - RIGHT);
  const y = (value) => height - BOTTOM - (value / top) * (height - BOTTOM - TOP);
  return { highest, size, top, first, last, x, y };
}

function paint() {
  const holder = byId("chart");
  const [width, height] = [holder.clientWidth, holder.clientHeight];
  if (width === 0) return;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  if (points.length < 2) {
    picture.append(svg("text", { class: "label", x: 0, y: 20 }, "The rate appears after the next looks."));
    picture.setAttribute("aria-label", "No rate yet");
    holder.replaceChildren(picture);
    return;
  }
  const at = scales(width, height);
  for (let value = 0; value <= at.top * 1.001; value += at.size) {
    const y = Math.round(at.y(value)) + 0.5;
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: width, y1: y, y2: y }));
    const digits = at.size < 1 ? 1 : 0;
    picture.append(svg("text", { class: "label", x: LEFT - 10, y: y + 4, "text-anchor": "end" }, value.toFixed(digits)));
  }
  const short = at.last - at.first < 600;
  for (const [moment, anchor] of [[at.first, "start"], [(at.first + at.last) / 2, "middle"], [at.last, "end"]]) {
    picture.append(
      svg("text", { class: "label", x: at.x(moment), y: height - 4, "text-anchor": anchor }, clock(moment, short)),
    );
  }
  const line = points.map(([moment, value]) => `${at.x(moment).toFixed(1)},${at.y(value).toFixed(1)}`).join("L");
  const ground = at.y(0).toFixed(1);
  picture.append(svg("path", { class: "area", d: `M${at.x(at.first)},${ground}L${line}L${at.x(at.last)},${ground}Z` }));
  picture.append(svg("path", { class: "curve", d: `M${line}` }));
  const now = points[points.length - 1];
  const shown = hovered === null ? now : nearest(at, hovered);
  if (hovered !== null) {
    const x = at.x(shown[0]);
    picture.append(svg("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: at.y(0) }));
  }
  picture.append(svg("circle", { class: "point", cx: at.x(shown[0]), cy: at.y(shown[1]), r: 4.5 }));
  const span = duration(at.last - at.first);
  picture.setAttribute(
    "aria-label",
    `Items a second over the last ${span}: now ${rate(now[1])}, at most ${rate(at.highest)}`,
  );
  say("reading", hovered === null ? `over ${span}` : `${rate(shown[1])} at ${clock(shown[0], true)}`);
  holder.replaceChildren(picture);
}

function nearest(at, x) {
  const distance = (point) => Math.abs(at.x(point[0]) - x);
  return points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
}

export function start() {
  const holder = byId("chart");
  new ResizeObserver(paint).observe(holder);
  holder.addEventListener("pointermove", (event) => {
    hovered = event.clientX - holder.getBoundingClientRect().left;
    paint();
  });
  holder.addEventListener("pointerleave", () => {
    hovered = null;
    paint();
  });
}
