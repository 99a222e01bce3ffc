// Screened paths: the strongest ones that were run exactly as a graph from the embeddings to the logits, and as a table.

import { element, onPointer, shape, shown, withInterval } from "./dom.js";
import { LINES } from "./colours.js";
import { figure, fileName, intervalCell, sortableTable } from "./figures.js";
import { fitted } from "./fit.js";
import { walkPoints } from "./keys.js";
import { taskChooser } from "./tasks.js";

const DRAWN = 24, WIDEST = 760, ROW = 58, LEFT = 48, RIGHT = 12, LEAST_STEP = 22;

function nodeOf(name) {
  if (name === "embeddings" || name === "logits") return { name, layer: name === "logits" ? Infinity : -1, place: null };
  const [, layer, head] = /^L(\d+)(?:H(\d+)|\.mlp)/.exec(name) ?? [];
  return { name: name.replace(/\.[qkv]$/, ""), layer: Number(layer), place: head === undefined ? "mlp" : Number(head) };
}

function isTold(row) {
  return row.low !== null && (row.low > 0 || row.high < 0);
}

function graph(entry, room) {
  const rows = entry.rows.slice(0, DRAWN), nodes = new Map();
  for (const row of rows) for (const end of [row.sender, row.receiver]) nodes.set(nodeOf(end).name, nodeOf(end));
  const layers = [...new Set([...nodes.values()].map((node) => node.layer))].sort((one, two) => one - two);
  const heads = Math.max(1, ...[...nodes.values()].map((node) => (typeof node.place === "number" ? node.place + 1 : 0)));
  const height = layers.length * ROW + 20, step = Math.max(LEAST_STEP, (room - LEFT - RIGHT) / (heads + 1.2)), width = Math.ceil(LEFT + RIGHT + step * (heads + 1.2));
  const at = (node) => ({ x: node.place === null ? (LEFT + width) / 2 : LEFT + step * (node.place === "mlp" ? heads + 0.6 : node.place + 0.5), y: height - 24 - ROW * layers.indexOf(node.layer) });
  const most = Math.max(...rows.map((row) => Math.abs(row.mean)));
  const drawing = shape("svg", { class: "drawing", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `The strongest paths of ${entry.model}, ${entry.label}`, "font-size": 11, "font-family": "inherit" });
  for (const layer of layers) if (Number.isFinite(layer) && layer >= 0) drawing.append(shape("text", { x: 6, y: height - 20 - ROW * layers.indexOf(layer), fill: "currentColor", opacity: 0.7 }, `layer ${layer}`));
  const curves = shape("g", { fill: "none" });
  const told = (row) => [`${row.sender} → ${row.receiver}`, withInterval(row.mean, row.low ?? NaN, row.high ?? NaN, "nats"), `estimated ${shown(row.estimate, 3)}; n = ${row.n}`];
  const placed = (row) => {
    const [from, to] = [row.sender, row.receiver].map((name) => at(nodeOf(name)));
    return { from, to, middle: (from.y + to.y) / 2 - (from.y === to.y ? 22 : 0) };
  };
  for (const row of [...rows].reverse()) {
    const { from, to, middle } = placed(row);
    const curve = shape("path", { d: `M${from.x} ${from.y - 9}C${from.x} ${middle},${to.x} ${middle},${to.x} ${to.y + 9}`, stroke: row.mean < 0 ? LINES[0] : LINES[1],
      "stroke-width": 1 + (7 * Math.abs(row.mean)) / most, "stroke-opacity": isTold(row) ? 0.75 : 0.3, "stroke-dasharray": isTold(row) ? "" : "5 4" });
    onPointer(curve, () => told(row));
    curves.append(curve);
  }
  drawing.append(curves);
  for (const node of nodes.values()) {
    const { x, y } = at(node);
    drawing.append(shape("text", { x, y: y + 4, "text-anchor": "middle", fill: "currentColor", class: "halo" }, typeof node.place === "number" || node.place === "mlp" ? node.name.replace(/^L\d+\.?/, "") : node.name));
  }
  walkPoints(drawing, width, [rows.map((row) => {
    const { from, to, middle } = placed(row);
    return { x: (from.x + to.x) / 2, y: middle, lines: told(row) };
  })]);
  return drawing;
}

/** The view of screened paths; null without any. */
export function pathsView(page) {
  const all = (page.content.screened_paths ?? []).filter((entry) => entry.rows.length);
  if (!all.length) return null;
  let chosen = all[0];
  const place = element("div"), table = element("div");
  const chooser = taskChooser(page, all, ([entry]) => {
    chosen = entry;
    place.replaceChildren(fitted(WIDEST, (width) => graph(entry, width)));
    table.replaceChildren(sortableTable(["path", "part", "nats", "share of the gap", "estimate", "n"],
      entry.rows.map((row) => [`${row.sender} → ${row.receiver}`, row.part, intervalCell(row.mean, row.low, row.high), row.share, row.estimate, row.n]), { limit: DRAWN }));
    frame.setCaption(`The ${Math.min(DRAWN, entry.rows.length)} strongest of the ${entry.top + entry.random} paths that were run exactly (${entry.direction}, senders changed at ${entry.positions} positions; n = ${entry.n}). Orange raises the logit difference, blue lowers it, ` +
      `width is the size; dashed: not told from 0, or too few images for an interval. They are the ${entry.top} best by estimate and ${entry.random} random ones of all ${entry.estimated}, estimated on other images. Rank correlation of estimates with exact effects: ` +
      `${shown(entry.rank_correlation, 2)} over all paths, ${shown(entry.rank_top, 2)} among the best, ${shown(entry.rank_random, 2)} among random ones; recall of the strongest ${withInterval(entry.recall, entry.recall_low ?? NaN, entry.recall_high ?? NaN)}. Only paths that were run can be quoted.`);
  });
  const frame = figure({ title: "", body: element("div", null, chooser.controls, place, table), name: () => fileName("paths", chosen.model, chosen.dataset),
    rows: () => [["model", "dataset", "direction", "positions", "sender", "receiver", "part", "estimate", "mean", "low", "high", "share", "n", "images"],
      ...all.flatMap((entry) => entry.rows.map((row) => [entry.model, entry.dataset, entry.direction, entry.positions, row.sender, row.receiver, row.part, row.estimate, row.mean, row.low, row.high, row.share, row.n, row.images]))] });
  chooser.update();
  return frame;
}
