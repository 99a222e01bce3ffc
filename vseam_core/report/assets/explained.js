// One answer explained: both images with what a head looks at laid over them, the traced words of the question, and the heads.

import { cellGrid, colourBar } from "./grid.js";
import { decimalsFor, distinct, element, selection, shown, signed } from "./dom.js";
import { attentionOpacity, sequentialColour, shareOf } from "./colours.js";
import { figure, fileName } from "./figures.js";

const MEAN = "mean";
const EXPLAINED_DIRECTIONS = { denoising: "the image's into the edited run", noising: "the edited image's into the run", clean: "read on the image", corrupt: "read on the edited image" };

// Heads that only wider layers have are NaN.
function largestOf(values) {
  return values.reduce((most, value) => (Math.abs(value) > most ? Math.abs(value) : most), 0);
}

function nats(value) {
  if (!Number.isFinite(value)) return "–";
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
}

/** The attention weights of one head (or the mean over heads) at a layer, from the read positions to every position. */
class Attention {
  constructor(page, about) {
    this.about = about;
    const stored = page.numbers(about.values);
    this.values = about.largest ? Float32Array.from(stored, (value) => (value * about.largest) / 255) : stored;
    this.positions = this.values.length / (about.layers.length * about.heads);
  }

  at(layer, head) {
    const { heads, layers } = this.about, size = this.positions, row = layers.indexOf(Number(layer));
    if (row < 0) return null; // positions do not look at each other in this layer
    if (head !== MEAN) return Number(head) < heads ? this.values.subarray((row * heads + Number(head)) * size, (row * heads + Number(head) + 1) * size) : null;
    const found = new Float32Array(size);
    for (let one = 0; one < heads; one++) this.at(layer, one).forEach((value, position) => { found[position] += value / heads; });
    return found;
  }
}

// An image with the attention drawn over it: the stronger, the more opaque.
function overlaid(page, explained, key, title, words, weights) {
  const [width, height] = explained.size;
  const photo = element("img", { src: page.image(key), alt: `${title}: ${explained.question}`, width, height });
  const layers = [photo];
  const boxes = page.numbers(explained.boxes);
  if (weights && boxes) {
    const canvas = element("canvas", { class: "attention", width: Math.min(width, 640), height: Math.round(height * Math.min(1, 640 / width)), "aria-hidden": "true" });
    const pen = canvas.getContext("2d"), most = Math.max(...weights, 1e-9);
    weights.forEach((weight, index) => {
      const [x0, y0, x1, y1] = [0, 1, 2, 3].map((side) => boxes[4 * index + side] * (side % 2 ? canvas.height : canvas.width));
      pen.globalAlpha = attentionOpacity(weight / most);
      pen.fillStyle = sequentialColour(weight / most);
      pen.fillRect(x0, y0, x1 - x0, y1 - y0);
    });
    layers.push(canvas);
  }
  return element("figure", { class: "explained-image" }, element("div", { class: "stack" }, layers), element("figcaption", null, element("strong", null, title), words ? ` ${words}` : ""));
}

function answerWords(explained, side) {
  const { text, probability, other_probability: other, logit_diff: difference } = explained[side];
  return `“${text}”: ${explained.answer} ${(100 * probability).toFixed(1)} %, ${explained.against} ${(100 * other).toFixed(1)} % (${nats(difference)} nats)`;
}

function imagesView(page, explained, state, tell) {
  const readings = explained.attention.map((about) => new Attention(page, about));
  const image = explained.tokens.flatMap(([, kind], position) => (kind === "image" ? [position] : []));
  const views = element("div", { class: "explained-images" }), controls = element("div", { class: "controls" }), words = element("div");
  const rows = () => [["image", "from", "layer", "head", "position", "token", "weight"], ...readings.flatMap(({ about, values, positions }) =>
    Array.from(values, (value, index) => [about.image, about.from, about.layers[Math.floor(index / (about.heads * positions))], Math.floor(index / positions) % about.heads,
      index % positions, explained.tokens[index % positions][0], value]))];
  const frame = figure({ title: "", body: element("div", null, controls, views, words), caption: "", name: () => fileName("attention", explained.model), rows });
  const draw = () => {
    const from = readings.filter((one) => one.about.from === state.from);
    const of = (kind) => from.find((one) => one.about.image === kind)?.at(state.layer, state.head);
    const [clean, edited] = ["clean", "corrupt"].map(of);
    const over = (weights) => (weights && state.overlay === "attention" ? image.map((position) => weights[position]) : null);
    controls.replaceChildren(...(readings.length ? [
      selection("Over the images", [["attention", "attention"], ["nothing", "nothing"]], state.overlay, (value) => tell({ overlay: value })),
      selection("Attention from", distinct(readings.map((one) => one.about.from)).map((name) => [name, name === "last" ? "the last position" : `the ${name}`]), state.from, (value) => tell({ from: value })),
      selection("Layer", readings[0].about.layers.map((layer) => [layer, layer]), state.layer, (value) => tell({ layer: Number(value) })),
      selection("Head", [[MEAN, "mean over heads"], ...Array.from({ length: readings[0].about.heads }, (_, head) => [head, head])], state.head, (value) => tell({ head: value })),
    ] : []));
    views.replaceChildren(
      overlaid(page, explained, explained.clean.image, "Image", answerWords(explained, "clean"), over(clean)),
      overlaid(page, explained, explained.edited.image, "Edited", answerWords(explained, "edited"), over(edited)),
      overlaid(page, explained, explained.difference, "Difference", editWords(explained), null));
    words.replaceChildren(...(clean ? [wordsRow(explained, clean)] : []));
    const sum = clean ? image.reduce((total, position) => total + clean[position], 0) : 0;
    frame.setCaption(clean ? `Attention at layer ${state.layer}, ${state.head === MEAN ? "mean over heads" : `head ${state.head}`}, from the ${state.from}${state.from === "last" ? " position" : ""}: ${(100 * sum).toFixed(0)} % goes to the image` +
      `${explained.boxes ? "" : ", whose positions have no place in it, so that nothing can be laid over it"}. That a place is looked at does not say that it is used.` : readings.length ? `Layer ${state.layer} has no attention between positions of that head.` : "Attention was not read.");
  };
  return { frame, draw, readings, image };
}

function editWords({ edit }) {
  return edit.source ? `${edit.source} → ${edit.target}, painted by ${edit.editor}` : edit.editor === "given" ? "an edited image of your own" : `everything destroyed: ${edit.editor}`;
}

// The words of the prompt, each the darker the more it is looked at.
function wordsRow(explained, weights) {
  const places = explained.tokens.flatMap(([, kind], position) => (kind === "image" ? [] : [position]));
  return cellGrid({ rows: ["attention"], columns: places.map((position) => explained.tokens[position][0]), rotate: true, cell: [46, 22], sequential: true,
    share: (_, column) => weights[places[column]] / Math.max(...weights, 1e-9),
    lines: (_, column) => [explained.tokens[places[column]][0], `${(100 * weights[places[column]]).toFixed(1)} % of the attention`],
    label: "Attention to the words of the prompt" });
}

function traceView(page, explained, state, tell) {
  const controls = element("div", { class: "controls" }), map = element("div");
  const traces = explained.traces;
  const narrowed = (list, name) => (list.some((one) => one[name] === state[name]) ? list.filter((one) => one[name] === state[name]) : list);
  const chosen = () => narrowed(narrowed(narrowed(traces, "tracer"), "site"), "direction")[0];
  const rows = () => [["tracer", "site", "direction", "measure", "layer", "position", "token", "value"], ...traces.flatMap((one) =>
    Array.from(page.numbers(one.values), (value, index) => [one.tracer, one.site, one.direction, one.measure, one.layers[Math.floor(index / one.columns.length)],
      one.kind === "position" ? one.columns[index % one.columns.length] : "", explainedColumns(explained, one)[index % one.columns.length], value]))];
  const frame = figure({ title: "", body: element("div", null, controls, map), caption: "", name: () => fileName("words", explained.model, state.site), rows });
  const draw = () => {
    if (!traces.length) return;
    const one = chosen(), values = page.numbers(one.values), wide = one.columns.length, words = explainedColumns(explained, one), share = shareOf(values, false);
    const here = traces.filter((other) => other.tracer === one.tracer);
    controls.replaceChildren(
      selection("Method", distinct(traces.map((other) => other.tracer)).map((name) => [name, name]), one.tracer, (value) => tell({ tracer: value, site: null, direction: null })),
      selection("Site", distinct(here.map((other) => other.site)).map((name) => [name, here.find((other) => other.site === name).words]), one.site, (value) => tell({ site: value })),
      selection("Direction", distinct(here.filter((other) => other.site === one.site).map((other) => other.direction)).map((name) => [name, EXPLAINED_DIRECTIONS[name] ?? name]),
        one.direction, (value) => tell({ direction: value })));
    // The last layer on top, as the answer is read there.
    const order = one.layers.map((_, index) => one.layers.length - 1 - index);
    const most = largestOf(values);
    map.replaceChildren(cellGrid({
      rows: order.map((index) => (one.layers[index] < 0 ? "emb" : String(one.layers[index]))), columns: words, rowTitle: "layer", rotate: true, cell: [58, 26],
      share: (row, column) => share(values[order[row] * wide + column]),
      text: (row, column) => { const place = order[row] * wide + column; return one.cells ? one.cells[place] : Math.abs(values[place]) >= 0.05 * most ? signed(values[place], decimalsFor(most)) : ""; },
      lines: (row, column) => cellLines(explained, one, order[row], column, values, words),
      label: `${one.words}, ${EXPLAINED_DIRECTIONS[one.direction]}: layers by words, largest ${shown(most, 3)} nats` }),
      colourBar([`−${shown(most, 3)} nats`, "0", `${shown(most, 3)} nats`]));
    const patched = one.direction === "denoising" || one.direction === "noising";
    frame.setCaption(patched ? `One activation (${one.words}) at one word and layer is replaced: ${EXPLAINED_DIRECTIONS[one.direction]}. The answers to the two images differ by ${shown(explained.gap, 3)} nats; ` +
      `an effect of that size is all of the difference. What lies below ${shown(3 * explained.noise_floor, 2)} nats is rounding.`
      : `${one.cells ? "The likeliest word at each place, by the logit lens; colour" : "Colour"}: the logit difference of ${explained.answer} against ${explained.against}, ${EXPLAINED_DIRECTIONS[one.direction]}. Nothing is changed.`);
  };
  return { frame, draw };
}

function explainedColumns(explained, trace) {
  return trace.kind === "position" ? trace.columns.map((position) => explained.tokens[position][0]) : trace.columns;
}

function cellLines(explained, one, row, column, values, words) {
  const value = values[row * one.columns.length + column];
  const lines = [`${words[column]}, layer ${one.layers[row] < 0 ? "before the first" : one.layers[row]}: ${nats(value)} nats`];
  if (one.cells) lines.push(`likeliest word: ${one.cells[row * one.columns.length + column]}`);
  if (one.direction === "denoising" || one.direction === "noising") lines.push(`${((100 * value) / (one.direction === "denoising" ? explained.gap : -explained.gap)).toFixed(0)} % of the difference`);
  return lines;
}

function headView(page, explained, state, tell) {
  const controls = element("div", { class: "controls" }), map = element("div");
  const rows = () => [["operation", "measure", "layer", "head", "value"], ...explained.heads.flatMap((one) =>
    Array.from(page.numbers(one.values), (value, index) => [one.operation, one.measure, Math.floor(index / one.heads), index % one.heads, value]))];
  const frame = figure({ title: "", body: element("div", null, controls, map), caption: "", name: () => fileName("heads", explained.model, state.operation), rows });
  const draw = () => {
    const shownHeads = explained.heads.filter((one) => one.measure === "logit_diff");
    if (!shownHeads.length) return;
    const one = shownHeads.find((other) => other.operation === state.operation) ?? shownHeads[0], values = page.numbers(one.values), share = shareOf(values, one.heads * one.layers >= 256);
    const order = Array.from({ length: one.layers }, (_, index) => one.layers - 1 - index), most = largestOf(values);
    controls.replaceChildren(selection("Heads replaced by", shownHeads.map((other) => [other.operation, other.words]), one.operation, (value) => tell({ operation: value })));
    map.replaceChildren(cellGrid({
      rows: order.map(String), columns: Array.from({ length: one.heads }, (_, head) => String(head)), rowTitle: "layer", columnTitle: "head", cell: one.heads > 16 ? [26, 20] : [64, 30],
      share: (row, head) => share(values[order[row] * one.heads + head]),
      text: (row, head) => (Math.abs(values[order[row] * one.heads + head]) >= 0.02 * most ? signed(values[order[row] * one.heads + head], decimalsFor(most)) : ""),
      lines: (row, head) => [`L${order[row]}H${head}: ${nats(values[order[row] * one.heads + head])} nats`, "a click lays its attention over the images"],
      choose: (row, head) => tell({ layer: order[row], head: String(head), overlay: "attention" }),
      chosen: state.head === MEAN ? null : [order.indexOf(Number(state.layer)), Number(state.head)],
      label: `Heads of ${explained.model} replaced by ${one.words}` }), colourBar([`−${shown(most, 3)} nats`, "0", `${shown(most, 3)} nats`]));
    frame.setCaption(`Nats of the logit difference (${explained.answer} against ${explained.against}) that are lost when a head's output is replaced by ${one.words}; above 0: the head speaks for ${explained.answer}.`);
  };
  return { frame, draw };
}

// The head whose replacement costs most, as a layer and the head's name in the selection.
function strongestHead(page, explained) {
  const one = explained.heads.find((other) => other.measure === "logit_diff");
  if (!one) return null;
  const values = page.numbers(one.values), most = values.reduce((best, value, index) => (Math.abs(value) > Math.abs(values[best]) || Number.isNaN(values[best]) ? index : best), 0);
  return [Math.floor(most / one.heads), String(most % one.heads)];
}

/** The views of one explained answer; null on the page of a study. */
export function explainedView(page) {
  const { explained } = page.content;
  if (!explained) return null;
  const state = { overlay: "attention", from: (explained.attention.find((one) => one.from === "last") ?? explained.attention[0])?.from, layer: explained.attention[0]?.layers[0] ?? 0, head: MEAN, tracer: null, site: null, direction: null, operation: null };
  const parts = [];
  const tell = (changes) => {
    Object.assign(state, changes);
    parts.forEach((part) => part.draw());
  };
  const images = imagesView(page, explained, state, tell);
  [state.layer, state.head] = strongestHead(page, explained) ?? [0, MEAN];
  parts.push(images);
  const whole = element("div", null, element("h3", null, "The images, and where the model looks"), images.frame);
  if (explained.traces.length) {
    parts.push(traceView(page, explained, state, tell));
    whole.append(element("h3", null, "Which words carry the answer, layer by layer"), parts.at(-1).frame);
  }
  if (explained.heads.length) {
    parts.push(headView(page, explained, state, tell));
    whole.append(element("h3", null, "What each head is worth"), parts.at(-1).frame);
  }
  page.onSelect(() => parts.forEach((part) => part.draw()));
  addEventListener("themechange", () => parts.forEach((part) => part.draw()));
  tell({});
  return whole;
}
