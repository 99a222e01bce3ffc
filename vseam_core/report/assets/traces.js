// The trace map: layers × words, averaged over samples or of one sample, every site and direction by a selector.

import { cellGrid, colourBar } from "./grid.js";
import { cellWords, decimalsFor, distinct, element, largest, selection, shown, sizeWords, withInterval } from "./dom.js";
import { divergingColour, shareOf } from "./colours.js";
import { figure, fileName } from "./figures.js";
import { imageRow } from "./images.js";

const DIRECTION_WORDS = { denoising: "clean put into edited (denoising)", noising: "edited put into clean (noising)", clean: "on the clean image", corrupt: "on the edited image" };

/** What a direction is called. */
export function directionWords(direction) {
  return DIRECTION_WORDS[direction] ?? direction;
}

/** One average of a trace: its layers, columns and numbers by name. */
export function aggregateOf(page, trace, site, direction) {
  const found = trace.aggregates.find((part) => part.site === site && part.direction === direction);
  if (!found) return null;
  const all = page.numbers(found.values), size = found.layers.length * found.columns.length;
  const numbers = Object.fromEntries(found.numbers.map((name, index) => [name, all.subarray(index * size, (index + 1) * size)]));
  return { ...found, numbers };
}

/** The samples of a trace: {pair, axis, values, clean, corrupt, cells} each. */
export function sampleTraces(page, trace, site, direction) {
  const found = trace.samples.find((part) => part.site === site && part.direction === direction);
  if (!found) return [];
  const index = page.numbers(found.index), ends = page.numbers(found.ends), values = page.numbers(found.values), count = index.length / 3;
  return Array.from({ length: count }, (_, row) => {
    const axis = page.content.axes[index[count + row]], start = index[2 * count + row];
    return { pair: index[row], axis, values: values.subarray(start, start + axis.layers.length * axis.columns.length), clean: ends[row], corrupt: ends[count + row],
      cells: found.cells?.[row] ?? null };
  });
}

/** The words above the columns of one sample: its own tokens where they are known. */
export function columnWords(page, trace, axis, pair) {
  if (axis.kind !== "position") return axis.columns.map((label) => trace.columns[label] ?? label);
  const prompt = page.prompt(trace.model, page.content.pairs[pair]?.clean);
  const texts = new Map((prompt?.tokens ?? []).map(([position, , text]) => [String(position), text]));
  return axis.columns.map((label, index) => clean(texts.get(label)) || axis.roles[index] || label);
}

function clean(text) {
  return text?.replace(/[\u0120\u2581]/g, " ").trim() || text;
}

function layerWords(layer) {
  return layer === -1 ? "emb" : String(layer);
}

const QUANTITIES = { share: ["share of the gap", "%"], mean: ["mean effect", null] };

function averageGrid(page, trace, state) {
  const part = aggregateOf(page, trace, state.site, state.direction);
  if (!part) return element("p", { class: "note" }, "Nothing was measured here.");
  const columns = trace.shown.map((label) => part.columns.indexOf(label)).filter((place) => place >= 0);
  const of = part.numbers, width = part.columns.length, unit = state.quantity === "share" ? "%" : trace.unit;
  const [value, low, high] = state.quantity === "share" ? [of.share, of.share_low, of.share_high] : [of.mean, of.low, of.high];
  const factor = state.quantity === "share" ? 100 : 1;
  const at = (layer, column) => layer * width + columns[column];
  const drawn = columns.flatMap((place) => part.layers.map((_, layer) => value[layer * width + place]));
  const share = shareOf(drawn, state.colours === "quantile");
  const most = factor * largest(drawn), decimals = decimalsFor(most);
  const outside = (place) => of.own[place] < of.band_low[place] || of.own[place] > of.band_high[place];
  return [cellGrid({
    rows: part.layers.map(layerWords), rowTitle: "layer", rotate: true,
    columns: columns.map((place) => trace.columns[part.columns[place]] ?? part.columns[place]),
    cell: [64, 26], most: 900,
    share: (layer, column) => share(value[at(layer, column)]),
    text: (layer, column) => cellWords(factor * value[at(layer, column)], most, decimals),
    lines: (layer, column) => {
      const place = at(layer, column), name = part.columns[columns[column]];
      const lines = [`${trace.columns[name] ?? name}, layer ${layerWords(part.layers[layer])}`, withInterval(factor * value[place], factor * low[place], factor * high[place], unit), `n = ${of.n[place]}`];
      if (of.below_noise_floor?.[place] === 1) lines.push("below 3 × the effect of putting an activation in its own place: noise");
      if (of.band_low && Number.isFinite(of.own[place])) lines.push(`on the ${part.band_pairs} pairs of the random models: ${shown(100 * of.own[place], 3)} %, they ${shown(100 * of.band_low[place], 3)} to ${shown(100 * of.band_high[place], 3)} %${outside(place) ? "; outside" : "; within"}`);
      return lines;
    },
    label: `${trace.title}: ${trace.model} on ${trace.dataset}, ${trace.sites[state.site]}, averaged by token role`,
  }), bar(drawn, factor, unit, state.colours)];
}

function bar(drawn, factor, unit, colours) {
  const most = factor * largest(drawn);
  return colourBar(colours === "quantile" ? ["most below 0", "0", "most above 0"] : [`−${shown(most, 3)} ${unit}`, "0", `${shown(most, 3)} ${unit}`]);
}

// A thumbnail of a category's averages, one pixel a cell.
function miniOf(page, trace, state, choose) {
  const part = aggregateOf(page, trace, state.site, state.direction), words = page.label(trace.dataset);
  const columns = part ? trace.shown.map((label) => part.columns.indexOf(label)).filter((place) => place >= 0) : [];
  const canvas = element("canvas", { width: Math.max(columns.length, 1), height: part?.layers.length ?? 1, "aria-hidden": "true" });
  if (part) {
    const values = part.numbers[state.quantity] ?? part.numbers.mean, share = shareOf(values, state.colours === "quantile"), pen = canvas.getContext("2d");
    part.layers.forEach((_, layer) => columns.forEach((place, column) => {
      const colour = divergingColour(share(values[layer * part.columns.length + place]));
      if (colour === "none") return;
      pen.fillStyle = colour;
      pen.fillRect(column, layer, 1, 1);
    }));
  }
  return element("button", { type: "button", class: "mini", "aria-pressed": String(trace.dataset === state.dataset), onclick: choose }, canvas, element("span", null, words));
}

function sampleGrid(page, trace, state, found) {
  const { axis, values } = found, width = axis.columns.length;
  const gap = Math.abs(found.clean - found.corrupt);
  const share = shareOf(values, state.colours === "quantile");
  const words = columnWords(page, trace, axis, found.pair), most = largest(values), decimals = decimalsFor(most);
  return [cellGrid({
    rows: axis.layers.map(layerWords), rowTitle: "layer", rotate: true, columns: words, cell: [found.cells ? 74 : 46, 26], least: found.cells ? 60 : undefined, most: 1000,
    share: (layer, column) => share(values[layer * width + column]),
    text: (layer, column) => (found.cells ? found.cells[layer * width + column] : cellWords(values[layer * width + column], most, decimals)),
    lines: (layer, column) => {
      const place = layer * width + column;
      const lines = [`“${words[column]}”, layer ${layerWords(axis.layers[layer])}`, `${shown(values[place], 4)} ${trace.unit}`];
      if (trace.shares && gap >= 1) lines.push(`${shown((100 * values[place] * (state.direction === "noising" ? -1 : 1)) / (found.clean - found.corrupt), 3)} % of the gap`);
      if (axis.roles[column]) lines.push(`role: ${axis.roles[column].replaceAll("_", " ")}`);
      if (found.cells) lines.push(`reads: ${found.cells[place]}`);
      return lines;
    },
    choose: (layer) => state.overlay?.(layer),
    label: `${trace.title}: one sample of ${trace.dataset}, ${trace.sites[state.site]}`,
  }), bar(Array.from(values), 1, trace.unit, state.colours)];
}

function rowsOf(page, trace, state) {
  const header = ["model", "dataset", "tracer", "site", "direction", "sample", "layer", "column"];
  const base = [trace.model, trace.dataset, trace.tracer, state.site, state.direction];
  if (state.sample === null) {
    const part = aggregateOf(page, trace, state.site, state.direction);
    if (!part) return [header];
    return [[...header, ...Object.keys(part.numbers)], ...part.layers.flatMap((layer, row) => part.columns.map((label, column) =>
      [...base, "all", layer, label, ...Object.values(part.numbers).map((list) => list[row * part.columns.length + column])]))];
  }
  const found = sampleTraces(page, trace, state.site, state.direction)[state.sample];
  if (!found) return [header];
  const words = columnWords(page, trace, found.axis, found.pair), id = page.content.pairs[found.pair].id;
  return [[...header, "word", "effect"], ...found.axis.layers.flatMap((layer, row) => found.axis.columns.map((label, column) =>
    [...base, id, layer, label, words[column], found.values[row * words.length + column]]))];
}

/** The view of all token and group maps; null without a trace. */
export function tracesView(page) {
  const traces = page.content.traces;
  if (!traces.length) return null;
  const first = traces[0];
  const state = { model: first.model, dataset: first.dataset, tracer: first.tracer, site: null, direction: null, quantity: "share", colours: "value", sample: null, overlay: null };
  const controls = element("div", { class: "controls" }), minis = element("div", { class: "minis" }), map = element("div", { class: "map" }), below = element("div");
  const current = () => traces.find((trace) => trace.model === state.model && trace.dataset === state.dataset && trace.tracer === state.tracer)
    ?? traces.find((trace) => trace.model === state.model && trace.tracer === state.tracer) ?? traces.find((trace) => trace.model === state.model) ?? first;
  const draw = () => {
    const trace = current();
    Object.assign(state, { model: trace.model, dataset: trace.dataset, tracer: trace.tracer });
    if (!trace.sites[state.site]) state.site = Object.keys(trace.sites)[0];
    if (!trace.directions.includes(state.direction)) state.direction = trace.directions[0];
    if (!trace.aggregates.length && state.sample === null) state.sample = 0;
    if (!aggregateOf(page, trace, state.site, state.direction)?.numbers.share) state.quantity = "mean";
    const samples = sampleTraces(page, trace, state.site, state.direction);
    if (state.sample !== null && state.sample >= samples.length) state.sample = samples.length ? 0 : null;
    const change = (name) => (value) => { state[name] = value; draw(); };
    const here = traces.filter((other) => other.model === state.model);
    const shares = Boolean(aggregateOf(page, trace, state.site, state.direction)?.numbers.share);
    controls.replaceChildren(...[
      selection("Model", distinct(traces.map((other) => other.model)).map((name) => [name, name]), state.model, change("model")),
      selection("Category", distinct(here.map((other) => other.dataset)).map((name) => [name, page.label(name)]), state.dataset, change("dataset")),
      selection("Traced", distinct(here.filter((other) => other.dataset === state.dataset).map((other) => other.tracer)).map((name) => [name, name]), state.tracer, change("tracer")),
      selection("Site", Object.entries(trace.sites), state.site, change("site")),
      selection("Direction", trace.directions.map((name) => [name, directionWords(name)]), state.direction, change("direction")),
      selection("Sample", [...(trace.aggregates.length ? [["", `all ${samples.length}, averaged`]] : []), ...samples.map((found, index) => [String(index), sampleWords(page, found.pair)])],
        state.sample === null ? "" : String(state.sample), (value) => { state.sample = value === "" ? null : Number(value); draw(); }),
      state.sample === null && shares ? selection("Shown as", Object.entries(QUANTITIES).map(([name, [words]]) => [name, words]), state.quantity, change("quantity")) : null,
      selection("Colours by", [["value", "value"], ["quantile", "quantile"]], state.colours, change("colours"))].filter(Boolean));
    state.overlay = null;
    minis.replaceChildren(...(state.sample === null ? here.filter((other) => other.tracer === state.tracer).map((other) => miniOf(page, other, state, () => change("dataset")(other.dataset))) : []));
    if (state.sample === null) {
      below.replaceChildren();
      map.replaceChildren(...[averageGrid(page, trace, state)].flat());
    } else {
      const found = samples[state.sample];
      const images = imageRow(page, found.pair, { trace, found, model: trace.model });
      state.overlay = (layer) => images.overlay?.(layer);
      map.replaceChildren(...sampleGrid(page, trace, state, found));
      below.replaceChildren(stepper(samples.length, state, draw), images);
    }
    frame.setCaption(`${trace.title.slice(0, 1).toUpperCase()}${trace.title.slice(1)}. ${trace.caption} ${measuredOn(page, trace, state)}`);
  };
  const frame = figure({ title: "", body: element("div", null, controls, minis, element("div", { class: "beside" }, map, below)), name: () => fileName(state.tracer, state.model, page.label(state.dataset), state.site, state.direction),
    rows: () => rowsOf(page, current(), state) });
  page.onSelect((choice) => {
    if (!choice.tracer && choice.pair === undefined && !(choice.dataset && choice.model)) return;
    const wanted = traces.find((trace) => trace.model === (choice.model ?? state.model) && trace.dataset === (choice.dataset ?? state.dataset)
      && trace.tracer === (choice.tracer ?? state.tracer));
    if (!wanted) return;
    Object.assign(state, { model: wanted.model, dataset: wanted.dataset, tracer: wanted.tracer, sample: null });
    if (choice.pair !== undefined) {
      const place = sampleTraces(page, wanted, Object.keys(wanted.sites)[0], wanted.directions[0]).findIndex((found) => found.pair === Number(choice.pair));
      if (place >= 0) state.sample = place;
    }
    draw();
  });
  addEventListener("themechange", draw);
  draw();
  return frame;
}

function sampleWords(page, pair) {
  const { source, target, clean: place } = page.content.pairs[pair];
  const question = page.content.samples[place].question;
  return `${question.length > 44 ? `${question.slice(0, 43)}…` : question} (${source} → ${target})`;
}

function measuredOn(page, trace, state) {
  if (state.sample !== null) return "One pair: no interval.";
  const part = aggregateOf(page, trace, state.site, state.direction);
  return part ? `${sizeWords(Array.from(part.numbers.n).filter((n) => n > 0))} pairs in a cell.` : "";
}

function stepper(count, state, draw) {
  const step = (turn) => () => { state.sample = (state.sample + turn + count) % count; draw(); };
  return element("p", { class: "stepper" }, element("button", { type: "button", onclick: step(-1) }, "← previous"),
    element("span", null, ` sample ${state.sample + 1} of ${count} `), element("button", { type: "button", onclick: step(1) }, "next →"));
}
