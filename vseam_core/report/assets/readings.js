// Do heads that look also cause? Every head as a point: what is read of it, and what replacing it does.

import { element, onPointer, selection, shape, shown, withInterval } from "./dom.js";
import { LINES } from "./colours.js";
import { figure, fileName } from "./figures.js";
import { fitted } from "./fit.js";
import { ticksOf } from "./charts.js";
import { textWidth } from "./grid.js";
import { walkPoints } from "./keys.js";
import { taskChooser } from "./tasks.js";

const WIDEST = 560, HEIGHT = 380, NAMED = 5, MARGIN = { left: 58, right: 16, top: 12, bottom: 44 };

function rangeOf(values) {
  const known = values.filter(Number.isFinite), [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
  const room = 0.06 * (high - low || 1);
  return [low - room, high + room];
}

// The strongest points with a place for their names, without those whose name would lie on another's.
function namesOf(points, across, up, width) {
  const placed = [];
  for (const point of [...points].sort((one, two) => Math.abs(two.y) - Math.abs(one.y)).slice(0, NAMED)) {
    const far = across(point.x) > width - 70, x = across(point.x) + (far ? -7 : 7), y = up(point.y), wide = textWidth(point.name);
    const left = far ? x - wide : x;
    if (placed.every((other) => Math.abs(other.y - y) > 12 || other.left > left + wide + 2 || left > other.left + other.wide + 2)) placed.push({ point, x, y, far, left, wide });
  }
  return placed;
}

function scatter(points, label, below, width) {
  const [left, right] = rangeOf(points.map((point) => point.x)), [bottom, top] = rangeOf(points.map((point) => point.y));
  const across = (value) => MARGIN.left + ((value - left) / (right - left)) * (width - MARGIN.left - MARGIN.right);
  const up = (value) => HEIGHT - MARGIN.bottom - ((value - bottom) / (top - bottom)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const drawing = shape("svg", { class: "drawing", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": label, "font-size": 11, "font-family": "inherit" });
  const line = (x1, x2, y1, y2, tick) => shape("line", { x1, x2, y1, y2, stroke: "currentColor", "stroke-opacity": tick === 0 ? 0.5 : 0.13 });
  const words = (attributes, text) => shape("text", { fill: "currentColor", opacity: 0.85, ...attributes }, text);
  for (const tick of ticksOf(left, right, Math.min(6, Math.floor(width / 80)))) drawing.append(line(across(tick), across(tick), MARGIN.top, HEIGHT - MARGIN.bottom, tick), words({ x: across(tick), y: HEIGHT - MARGIN.bottom + 15, "text-anchor": "middle" }, shown(tick, 3)));
  for (const tick of ticksOf(bottom, top, 5)) drawing.append(line(MARGIN.left, width - MARGIN.right, up(tick), up(tick), tick), words({ x: MARGIN.left - 6, y: up(tick) + 4, "text-anchor": "end" }, shown(tick, 3)));
  drawing.append(words({ x: (MARGIN.left + width - MARGIN.right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, below),
    words({ x: 13, y: (MARGIN.top + HEIGHT - MARGIN.bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 13 ${(MARGIN.top + HEIGHT - MARGIN.bottom) / 2})` }, "effect of replacing the head (nats)"));
  const told = (point) => [point.name, `reading ${shown(point.x, 3)}`, `effect ${shown(point.y, 3)} nats`];
  for (const point of points) {
    const dot = shape("circle", { cx: across(point.x), cy: up(point.y), r: 4, fill: LINES[0], "fill-opacity": 0.7 });
    onPointer(dot, () => told(point));
    drawing.append(dot);
  }
  for (const { point, x, y, far } of namesOf(points, across, up, width)) {
    drawing.append(shape("text", { x, y: y + 4, "text-anchor": far ? "end" : "start", fill: "currentColor", class: "halo" }, point.name));
  }
  walkPoints(drawing, width, [[...points].sort((one, two) => one.x - two.x).map((point) => ({ x: across(point.x), y: up(point.y), lines: told(point) }))]);
  return drawing;
}

/** The view of readings beside effects; null without any. */
export function readingsView(page) {
  const all = page.content.readings ?? [];
  if (!all.length) return null;
  const place = element("div"), readings = element("div", { class: "controls" }), numbers = element("div");
  let here = all, state = { reading: all[0].reading };
  const draw = () => {
    const chosen = here.find((entry) => entry.reading === state.reading) ?? here[0];
    readings.replaceChildren(selection("Reading", here.map((entry) => [entry.reading, entry.reading]), chosen.reading, (value) => { state.reading = value; draw(); }));
    const values = page.numbers(chosen.values), count = chosen.heads.length;
    const points = chosen.heads.map((name, head) => ({ name, x: values[head], y: values[count + head] })).filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y));
    place.replaceChildren(points.length ? fitted(WIDEST, (width) => scatter(points, `${chosen.reading} beside what replacing each head does: ${chosen.model}, ${chosen.label}`, `share of attention: ${chosen.reading}`, width)) : element("p", { class: "note" }, "The single heads are not known."));
    numbers.replaceChildren(element("dl", { class: "facts" }, Object.entries(chosen.tests).flatMap(([effect, test]) => [
      element("dt", null, effect === "signed" ? "rank correlation with the effect" : "rank correlation with the size of the effect"),
      element("dd", null, test.rank_correlation === null ? "not determined" : `${withInterval(test.rank_correlation, test.low ?? NaN, test.high ?? NaN)}, p = ${shown(test.p_value, 2)} (${test.heads} heads${test.low === null ? "; too few images for an interval" : ""})`)])));
    frame.setCaption(`One point for each head: the mean reading on ${chosen.n_readings} clean images, and the mean effect on the logit difference of replacing the head by ${chosen.words} on ${chosen.n_effects} samples (above 0: the head supports the right answer). ` +
      "Limits of the correlation: images drawn with replacement; p: heads exchanged within their layers, so that it does not count that both grow or fall with depth. A control reading should correlate with nothing.");
  };
  const chooser = taskChooser(page, all, (entries) => { here = entries; draw(); });
  const frame = figure({ title: "", body: element("div", null, chooser.controls, readings, element("div", { class: "beside" }, place, numbers)), name: () => fileName("looking-and-causing", here[0].model, here[0].dataset),
    rows: () => [["model", "dataset", "tracer", "reading", "operation", "head", "reading_mean", "effect"], ...all.flatMap((entry) => {
      const values = page.numbers(entry.values), count = entry.heads.length;
      return entry.heads.map((name, head) => [entry.model, entry.dataset, entry.tracer, entry.reading, entry.operation, name, values[head], values[count + head]]);
    })] });
  chooser.update();
  return frame;
}
