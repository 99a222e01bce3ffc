// All about one head: its numbers, its effects in every category, its samples with the strongest first, and the query for it.

import { element, shape, shown, withInterval } from "./dom.js";
import { ticksOf } from "./charts.js";
import { LINES } from "./colours.js";

const AT_A_TIME = 12;

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
  const [left, width, line] = [84, 250, 20];
  const x = (value) => left + ((value - low) / (high - low || 1)) * width;
  const height = rows.length * line + 22;
  return element("div", null, element("h5", null, "In all categories"),
    shape("svg", { viewBox: `0 0 ${left + width + 16} ${height}`, width: left + width + 16, height, role: "img", "font-size": 11,
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
    ticksOf(low, high, 3).map((value) => shape("text", { x: x(value), y: height - 4, "text-anchor": "middle", fill: "currentColor", opacity: 0.75 }, shown(value, 3)))),
    element("p", { class: "note" }, `${scan.about.unit}; filled: ${side === "difference" ? "differs" : "passes the claim"} there.`));
}

function samplesOf(page, scan, head) {
  const effects = scan.about.effects;
  if (!effects) return null;
  const [places, values, base, correct] = [page.numbers(effects.sample), page.numbers(effects.values), page.numbers(effects.base), page.numbers(effects.correct)];
  const order = Array.from(places.keys()).filter((row) => Number.isFinite(values[row * scan.size + head]))
    .sort((one, two) => Math.abs(values[two * scan.size + head]) - Math.abs(values[one * scan.size + head]));
  const list = element("ol", { class: "head-samples" });
  const more = element("button", { type: "button", onclick: () => grow() }, "");
  let count = 0;
  const grow = () => {
    for (const row of order.slice(count, count + AT_A_TIME)) list.append(sampleRow(page, scan, head, row, places[row], values, base, correct));
    count = Math.min(count + AT_A_TIME, order.length);
    more.textContent = `${order.length - count} more`;
    more.hidden = count === order.length;
  };
  grow();
  return element("div", null, element("h5", null, `Its ${order.length} samples, strongest first`), list, more);
}

function sampleRow(page, scan, head, row, place, values, base, correct) {
  const sample = page.content.samples[place];
  const effect = values[row * scan.size + head];
  const answer = page.answer(scan.about.model, place);
  const outcome = correct[row] === 2 ? "" : correct[row] ? "right" : "wrong";
  const image = page.image(sample.image);
  return element("li", null,
    image ? element("span", { class: "thumb" }, element("img", { src: image, alt: `Image of: ${sample.question}`, loading: "lazy" }), attention(page, scan, head, place)) : null,
    element("span", { class: "words" }, element("strong", null, `${shown(effect, 3)} ${scan.about.unit}`),
      element("span", null, sample.question),
      element("span", { class: "note" }, `gold ${sample.gold}${answer ? `, answered ${answer.text}` : ""}${outcome ? ` (${outcome})` : ""}; ${shown(base[row], 3)} before`)));
}

// Where the head looks from the last position, over the image: only where the data has it.
function attention(page, scan, head, place) {
  const found = scan.about.attention;
  if (!found) return null;
  const row = page.numbers(found.sample).indexOf(place);
  if (row < 0) return null;
  const canvas = element("canvas", { width: found.columns, height: found.rows, class: "attention", title: "attention to the image from the last position" });
  const pen = canvas.getContext("2d"), cells = found.rows * found.columns;
  const values = page.numbers(found.values).subarray((row * scan.size + head) * cells, (row * scan.size + head + 1) * cells);
  values.forEach((value, cell) => {
    pen.fillStyle = `rgba(255, 120, 0, ${(0.75 * value) / 255})`;
    pen.fillRect(cell % found.columns, Math.floor(cell / found.columns), 1, 1);
  });
  return canvas;
}

function query(scan, head) {
  const text = scan.about.sql.replaceAll("LAYER", Math.floor(head / scan.about.heads)).replaceAll("HEAD", head % scan.about.heads);
  return element("details", null, element("summary", null, "SQL"), element("pre", null, text),
    element("button", { type: "button", onclick: () => navigator.clipboard?.writeText(text) }, "Copy"));
}
