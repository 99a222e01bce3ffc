// All about one head: its numbers, its effects in every category, its samples with the strongest first, and the query for it.

import { distinct, element, largest, selection, shape, shown, withInterval } from "./dom.js";
import { ticksOf } from "./charts.js";
import { attentionOpacity, LINES, sequentialColour } from "./colours.js";
import { fileName, saveButton } from "./figures.js";
import { fitted } from "./fit.js";
import { textWidth } from "./grid.js";

const AT_A_TIME = 12;
// A head that gives less than this to every place hardly looks at the image: it is not made to look as if it did.
const LEAST_LOOK = 0.02;
const LOOKS_FROM = { last: "the last position", question: "the words of the question" };
const OUTCOME = ["wrong", "right", ""];

/** The panel of a head of a scan; `all` are the page's scans, of which those of the same model and kind are set side by side. */
export function headPanel(page, all, scan, side, head) {
  const about = scan.head(side, head);
  const rank = scan.ranking(side).indexOf(head) + 1;
  const facts = [
    [side === "difference" ? "difference" : "effect", withInterval(about.value, about.low, about.high, scan.about.unit)],
    ["q over all heads", shown(about.q, 2)],
    ["n", shown(about.n)],
    ["rank", rank ? `${rank} of ${scan.size}` : "not measured"],
    [side === "difference" ? "differs" : "claim", side === "difference" ? (about.claimed ? "yes" : "not told apart") : about.claimed ? "passes" : about.other ? "passes as a suppressor" : scan.resolved(side) ? "does not pass" : scan.words(side)],
  ];
  return element("div", null,
    element("h4", null, `${scan.name(head)} in ${scan.about.model}`),
    element("dl", { class: "facts" }, facts.map(([name, value]) => [element("dt", null, name), element("dd", null, value)])),
    inAllCategories(page, all, scan, side, head),
    samplesOf(page, scan, head),
    scan.about.sql ? query(scan, head) : null);
}

function inAllCategories(page, all, scan, side, head) {
  const same = all.filter((other) => other.about.model === scan.about.model && other.about.operation === scan.about.operation
    && other.about.measure === scan.about.measure && other.about.positions === scan.about.positions && other.about.stack === scan.about.stack);
  if (same.length < 2) return null;
  const rows = same.map((other) => ({ label: page.label(other.about.dataset), here: other === scan, ...other.head(side, head) }));
  const ends = rows.flatMap((row) => [row.value, row.low, row.high]).filter(Number.isFinite);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  return element("div", null, element("h5", null, "In all categories"), fitted(350, (room) => categoriesOf(rows, [low, high], room)),
    element("p", { class: "note" }, `${scan.about.unit}; filled: ${side === "difference" ? "differs" : "passes the claim"} there.`));
}

function categoriesOf(rows, [low, high], width) {
  const [left, right, line] = [Math.max(40, ...rows.map((row) => textWidth(row.label))) + 14, 20, 20];
  const x = (value) => left + ((value - low) / (high - low || 1)) * (width - left - right);
  const height = rows.length * line + 22;
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "font-size": 11,
    "aria-label": rows.map((row) => `${row.label} ${withInterval(row.value, row.low, row.high)}`).join("; ") },
  shape("line", { x1: x(0), x2: x(0), y1: 0, y2: height - 18, stroke: "currentColor", "stroke-opacity": 0.4 }),
  rows.map((row, index) => {
    const y = index * line + 10;
    return [
      shape("text", { x: left - 8, y: y + 4, "text-anchor": "end", fill: "currentColor", "font-weight": row.here ? 700 : 400 }, row.label),
      Number.isFinite(row.low) ? shape("line", { x1: x(row.low), x2: x(row.high), y1: y, y2: y, stroke: LINES[0], "stroke-width": 2 }) : null,
      Number.isFinite(row.value) ? shape("circle", { cx: x(row.value), cy: y, r: 4, fill: row.claimed ? LINES[0] : "none", stroke: LINES[0], "stroke-width": 1.6 }) : null,
    ];
  }),
  ticksOf(low, high, 3).map((value) => shape("text", { x: x(value), y: height - 4, "text-anchor": "middle", fill: "currentColor", opacity: 0.75 }, shown(value, 3))));
}

function samplesOf(page, scan, head) {
  const effects = scan.about.effects;
  if (!effects) return null;
  const [places, values, base, correct] = [page.numbers(effects.sample), page.numbers(effects.values), page.numbers(effects.base), page.numbers(effects.correct)];
  const order = Array.from(places.keys()).filter((row) => Number.isFinite(values[row * scan.size + head]))
    .sort((one, two) => Math.abs(values[two * scan.size + head]) - Math.abs(values[one * scan.size + head]));
  const look = (row, from) => page.look(scan.about.model, scan.about.dataset, places[row], head, from);
  const mean = (from) => order.reduce((sum, row) => sum + (look(row, from)?.total ?? 0), 0);
  const ways = distinct(page.looks(scan.about.model, scan.about.dataset).filter((entry) => entry.heads.includes(head)).map((entry) => entry.from));
  const list = element("ol", { class: "head-samples" }), more = element("button", { type: "button", onclick: () => grow() }, "");
  // From where it looks at the image most, until another is chosen.
  let count = 0, from = ways.reduce((best, way) => (best && mean(best) >= mean(way) ? best : way), null);
  const grow = () => {
    for (const row of order.slice(count, count + AT_A_TIME)) list.append(sampleRow(page, scan, head, row, places[row], values, base, correct, look(row, from)));
    count = Math.min(count + AT_A_TIME, order.length);
    more.textContent = `${order.length - count} more`;
    more.hidden = count === order.length;
  };
  const choose = (way) => {
    [from, count] = [way, 0];
    list.replaceChildren();
    grow();
  };
  grow();
  const rows = () => [["model", "dataset", "operation", "head", "sample", "question", "gold", "answer", "outcome", "effect", "before", ...ways.map((way) => `attention to the image from ${LOOKS_FROM[way]}`)],
    ...order.map((row) => {
      const sample = page.content.samples[places[row]];
      return [scan.about.model, scan.about.dataset, scan.about.operation, scan.name(head), sample.id, sample.question, sample.gold, page.answer(scan.about.model, places[row])?.text ?? null, OUTCOME[correct[row]],
        values[row * scan.size + head], base[row], ...ways.map((way) => look(row, way)?.total ?? null)];
    })];
  return element("div", null, element("h5", null, `Its ${order.length} samples, strongest first`), element("p", { class: "note" }, attentionWords(page, scan, head)),
    ways.length > 1 ? selection("Attention over the image from", ways.map((way) => [way, LOOKS_FROM[way]]), from, choose) : null, list,
    element("p", { class: "files" }, more, saveButton("CSV of its samples", () => fileName("samples", scan.about.model, page.label(scan.about.dataset), scan.name(head)), rows)));
}

function sampleRow(page, scan, head, row, place, values, base, correct, look) {
  const sample = page.content.samples[place];
  const answer = page.answer(scan.about.model, place), outcome = OUTCOME[correct[row]];
  const image = page.image(sample.image);
  return element("li", null,
    image ? element("span", { class: "thumb" }, element("img", { src: image, alt: `Image of: ${sample.question}`, loading: "lazy" }), look ? overImage(look) : null) : null,
    element("span", { class: "words" }, element("strong", null, `${shown(values[row * scan.size + head], 3)} ${scan.about.unit}`),
      element("span", null, sample.question),
      element("span", { class: "note" }, `gold ${sample.gold}${answer ? `, answered ${answer.text}` : ""}${outcome ? ` (${outcome})` : ""}; ${shown(base[row], 3)} before` +
        `${look ? `; ${look.total < 0.001 ? "less than 0.1" : shown(100 * look.total, 2)} % of its attention goes to the image` : ""}`)));
}

// Where the head looks, over the image: the stronger, the more opaque.
function overImage(look) {
  const canvas = element("canvas", { width: look.columns, height: look.rows, class: "attention", "aria-hidden": "true" });
  const pen = canvas.getContext("2d"), most = Math.max(largest(look.shares), LEAST_LOOK);
  look.shares.forEach((share, cell) => {
    pen.globalAlpha = attentionOpacity(share / most);
    pen.fillStyle = sequentialColour(share / most);
    pen.fillRect(cell % look.columns, Math.floor(cell / look.columns), 1, 1);
  });
  return canvas;
}

function attentionWords(page, scan, head) {
  const entries = page.looks(scan.about.model, scan.about.dataset);
  if (!entries.length) return "Where heads look was not kept here: the model's image positions have no place in the image (behind a Q-Former), thumbnails were switched off, or an older vseam measured it.";
  const { heads, of } = entries[0];
  if (!heads.includes(head)) return `Where heads look is on this page for ${heads.length} of ${of} heads, those that pass and those that stand out most; ${scan.name(head)} is not among them.`;
  return "Over each image: where the head looks, the more, the more opaque. That a place is looked at does not say that it is used.";
}

function query(scan, head) {
  const text = scan.about.sql.replaceAll("LAYER", Math.floor(head / scan.about.heads)).replaceAll("HEAD", head % scan.about.heads);
  return element("details", null, element("summary", null, "SQL"), element("pre", null, text),
    element("button", { type: "button", onclick: () => navigator.clipboard?.writeText(text) }, "Copy"));
}
