// Lines with their intervals over layers, and rows of points with theirs: the two kinds of chart on the page.

import { element, onPointer, shape, shown, tooltip } from "./dom.js";
import { LINES } from "./colours.js";
import { fitted } from "./fit.js";
import { textWidth } from "./grid.js";
import { walkPoints } from "./keys.js";

const MARGIN = { left: 46, right: 12, top: 24, bottom: 30 };
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticksOf(low, high, count = 4) {
  const span = high - low || 1, unit = 10 ** Math.floor(Math.log10(span / count));
  const step = unit * ([10, 5, 2, 1].find((factor) => span / (factor * unit) >= count - 1) ?? 1);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(Math.abs(tick) < step / 1e6 ? 0 : tick);
  return ticks;
}

function extent(values) {
  const known = values.filter(Number.isFinite);
  const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
  return low === high ? [low, high + 1] : [low - 0.04 * (high - low), high + 0.06 * (high - low)];
}

/**
 * Draws one panel of lines. `x` are the places (words under the axis), `lines` are {name, colour, values, low, high, n}, `bands` are
 * {low, high, words}; numbers are as drawn, in `unit`.
 */
function linePanel({ title, x, lines, bands = [], unit, range = null, width = 330, height = 220 }) {
  const [low, high] = range ?? extent([...lines.flatMap((line) => [...line.values, ...(line.low ?? []), ...(line.high ?? [])]), ...bands.flatMap((band) => [...band.low, ...band.high])]);
  const [inner, tall] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
  const across = (place) => MARGIN.left + (x.length > 1 ? (place / (x.length - 1)) * inner : inner / 2);
  const up = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * tall;
  const drawing = shape("g", null), inside = shape("svg", { x: 0, y: MARGIN.top - 4, width, height: tall + 8, viewBox: `0 ${MARGIN.top - 4} ${width} ${tall + 8}`, overflow: "hidden" });
  const ink = { fill: "currentColor", "font-size": 11 };
  drawing.append(shape("text", { ...ink, x: MARGIN.left, y: 13, "font-weight": 600 }, title));
  for (const tick of ticksOf(low, high)) {
    drawing.append(shape("line", { x1: MARGIN.left, x2: MARGIN.left + inner, y1: up(tick), y2: up(tick), stroke: "currentColor", "stroke-opacity": tick === 0 ? 0.45 : 0.12 }),
      shape("text", { ...ink, x: MARGIN.left - 6, y: up(tick) + 4, "text-anchor": "end", opacity: 0.8 }, shown(tick, 3)));
  }
  const step = Math.max(1, Math.ceil((x.length * (Math.max(...x.map((words) => textWidth(words))) + 14)) / inner));
  x.forEach((words, place) => place % step === 0 && drawing.append(shape("text", { ...ink, x: across(place), y: height - 14, "text-anchor": "middle", opacity: 0.8 }, words)));
  const area = (first, second) => {
    const there = x.map((_, place) => place).filter((place) => Number.isFinite(first[place]) && Number.isFinite(second[place]));
    return there.length ? `M${there.map((place) => `${across(place)} ${up(first[place])}`).join("L")}L${there.reverse().map((place) => `${across(place)} ${up(second[place])}`).join("L")}Z` : "";
  };
  for (const band of bands) {
    inside.append(shape("path", { d: area(band.low, band.high), fill: band.colour ?? "currentColor", "fill-opacity": 0.1, stroke: band.colour ?? "currentColor", "stroke-opacity": 0.35, "stroke-dasharray": "1 3" }));
  }
  lines.forEach((line, index) => {
    const dash = DASHES[Math.floor(index / LINES.length) % DASHES.length];
    if (line.low) inside.append(shape("path", { d: area(line.low, line.high), fill: line.colour, "fill-opacity": 0.16 }));
    inside.append(shape("path", { d: pathOf(line.values, across, up), fill: "none", stroke: line.colour, "stroke-width": 2, "stroke-dasharray": line.dash ?? dash }));
    line.values.forEach((value, place) => Number.isFinite(value) && inside.append(shape("circle", { cx: across(place), cy: up(value), r: x.length > 20 ? 1.5 : 2.6, fill: line.colour })));
  });
  drawing.append(inside);
  const told = (line, place) => [`${line.name}, ${x[place]}`, `${shown(line.values[place], 4)} ${unit}` +
    (line.low && Number.isFinite(line.low[place]) ? ` [${shown(line.low[place], 3)}, ${shown(line.high[place], 3)}]` : ""), ...(line.n ? [`n = ${line.n[place]}`] : [])];
  drawing.nearest = (left, top) => {
    let best = null;
    for (const line of lines) line.values.forEach((value, place) => {
      const distance = Math.hypot(across(place) - left, up(value) - top);
      if (Number.isFinite(value) && (!best || distance < best.distance)) best = { distance, line, place };
    });
    return best && best.distance < 30 ? told(best.line, best.place) : null;
  };
  drawing.rows = lines.map((line) => line.values.flatMap((value, place) => (Number.isFinite(value) ? [{ x: across(place), y: up(value), lines: told(line, place) }] : [])));
  return { drawing, width, height, title };
}

function pathOf(values, across, up) {
  let path = "", pen = "M";
  values.forEach((value, place) => {
    if (!Number.isFinite(value)) return void (pen = "M");
    path += `${pen}${across(place)} ${up(value)}`;
    pen = "L";
  });
  return path;
}

/**
 * Panels of lines (see `linePanel`) side by side in one drawing, as many in a row as there is room for, with one legend. `size` is that of a
 * panel, which is narrower where there is less room.
 */
export function panels(parts, legend, label, { perRow = 4, size: [widest, height] = [330, 220] } = {}) {
  const drawing = fitted(Math.max(1, Math.min(perRow, parts.length)) * widest, (room) => {
    const columns = Math.max(1, Math.floor(room / widest)), width = Math.min(widest, room);
    return panelsOf(parts.map((part) => linePanel({ ...part, width, height })), label, { columns, width, height });
  });
  return element("div", null, drawing, legend.length ? element("div", { class: "legend" }, legend.map(({ name, colour, dash }) =>
    element("span", null, shape("svg", { width: 22, height: 10, "aria-hidden": "true" }, shape("line", { x1: 0, x2: 22, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash ?? "" })), ` ${name}`))) : null);
}

function panelsOf(parts, label, { columns, width, height }) {
  const rows = Math.ceil(parts.length / columns);
  const drawing = shape("svg", { class: "drawing", viewBox: `0 0 ${columns * width} ${rows * height}`, width: columns * width, height: rows * height, role: "img", "aria-label": label, "font-family": "inherit" });
  parts.forEach((part, index) => {
    part.drawing.setAttribute("transform", `translate(${(index % columns) * width} ${Math.floor(index / columns) * height})`);
    drawing.append(part.drawing);
  });
  onPointer(drawing, (event) => {
    const box = drawing.getBoundingClientRect(), scale = (columns * width) / box.width;
    const [left, top] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    return parts[Math.floor(top / height) * columns + Math.floor(left / width)]?.drawing.nearest?.(left % width, top % height);
  });
  walkPoints(drawing, columns * width, parts.flatMap((part, index) => part.drawing.rows.map((row) => row.map(({ x, y, lines }) =>
    ({ x: x + (index % columns) * width, y: y + Math.floor(index / columns) * height, lines: [part.title, ...lines] })))));
  return drawing;
}

// Where a row's words leave less than this to its points, they stand above them.
const LEAST_BESIDE = 300;

/**
 * Rows of points: `rows` are {label, points: [{value, low, high, colour, filled, words, mark}]}. `mark`: "dot", "cross" or "tick".
 */
export function pointRows({ width = 760, ...about }) {
  return fitted(width, (room) => pointsOf(about, room));
}

function pointsOf({ rows, unit, label, line = 24, left: beside = 150, zero = true }, width) {
  const values = rows.flatMap((row) => row.points.flatMap((point) => [point.value, point.low, point.high])).filter(Number.isFinite);
  const [low, high] = zero ? extent(values) : [Math.min(...values), Math.max(...values)];
  const above = width - beside < LEAST_BESIDE, left = above ? 12 : beside, step = above ? line + 15 : line;
  const inner = width - left - 20, across = (value) => left + ((value - low) / (high - low || 1)) * inner;
  const height = rows.length * step + (above ? 42 : 26);
  const middle = (index) => (index + 1) * step - line / 2 + 2;
  const drawing = shape("svg", { class: "drawing", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label, "font-size": 11, "font-family": "inherit" });
  const end = rows.length * step + 6;
  for (const tick of ticksOf(low, high, Math.max(2, Math.min(6, Math.floor(inner / 60))))) {
    drawing.append(shape("line", { x1: across(tick), x2: across(tick), y1: 4, y2: end, stroke: "currentColor", "stroke-opacity": tick === 0 ? 0.5 : 0.13 }),
      shape("text", { x: across(tick), y: end + 14, "text-anchor": "middle", fill: "currentColor", opacity: 0.8 }, shown(tick, 3)));
  }
  drawing.append(shape("text", above ? { x: width - 8, y: height - 6, "text-anchor": "end", fill: "currentColor", opacity: 0.8 }
    : { x: left - 10, y: height - 6, "text-anchor": "end", fill: "currentColor", opacity: 0.8 }, unit));
  rows.forEach((row, index) => {
    const y = middle(index);
    drawing.append(shape("text", above ? { x: 2, y: index * step + 13, fill: "currentColor", class: "halo" } : { x: left - 10, y: y + 4, "text-anchor": "end", fill: "currentColor" }, row.label));
    for (const point of row.points) {
      if (!Number.isFinite(point.value)) continue;
      if (Number.isFinite(point.low)) drawing.append(shape("line", { x1: across(point.low), x2: across(point.high), y1: y, y2: y, stroke: point.colour, "stroke-width": 2 }));
      drawing.append(pointShape(point, across(point.value), y));
    }
  });
  onPointer(drawing, (event) => {
    const box = drawing.getBoundingClientRect(), scale = width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const points = rows[Math.floor((y - 2) / step)]?.points.filter((point) => Number.isFinite(point.value) && Math.abs(across(point.value) - x) < 9) ?? [];
    return points.length ? points.slice(0, 4).map((point) => point.words) : null;
  });
  walkPoints(drawing, width, rows.map((row, index) => row.points.filter((point) => Number.isFinite(point.value)).sort((one, two) => one.value - two.value)
    .map((point) => ({ x: across(point.value), y: middle(index), lines: [row.label, point.words] }))));
  return drawing;
}

function pointShape({ mark = "dot", colour, filled = true }, x, y) {
  if (mark === "tick") return shape("line", { x1: x, x2: x, y1: y - 5, y2: y + 5, stroke: colour, "stroke-opacity": 0.45 });
  if (mark === "cross") return shape("path", { d: `M${x - 4} ${y - 4}L${x + 4} ${y + 4}M${x - 4} ${y + 4}L${x + 4} ${y - 4}`, stroke: colour, "stroke-width": 2 });
  if (mark === "diamond") return shape("path", { d: `M${x} ${y - 5.5}L${x + 5.5} ${y}L${x} ${y + 5.5}L${x - 5.5} ${y}Z`, fill: filled ? colour : "none", stroke: colour, "stroke-width": 1.6 });
  return shape("circle", { cx: x, cy: y, r: 4.5, fill: filled ? colour : "none", stroke: colour, "stroke-width": 1.8 });
}
