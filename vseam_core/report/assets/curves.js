// Curves over layers: groups of positions beside the range of random models, readings of the lens, cut attention, and any other tracer.

import { distinct, element, selection, sizeWords } from "./dom.js";
import { LINES } from "./colours.js";
import { figure, fileName } from "./figures.js";
import { panels } from "./charts.js";
import { aggregateOf, directionWords } from "./traces.js";

function layerWords(layer) {
  return layer === -1 ? "emb" : String(layer);
}

function panelOf(page, trace, site, direction, colours) {
  const readout = trace.view === "readout";
  const parts = (readout ? trace.directions : [direction]).map((name) => [name, aggregateOf(page, trace, site, name)]).filter(([, part]) => part);
  if (!parts.length) return null;
  const [, first] = parts[0], lines = [], bands = [];
  const useShare = Boolean(first.numbers.share), factor = useShare ? 100 : 1;
  parts.forEach(([name, part], turn) => {
    const names = useShare ? ["share", "share_low", "share_high"] : ["mean", "low", "high"];
    trace.shown.filter((label) => part.columns.includes(label)).forEach((label) => {
      const column = part.columns.indexOf(label), width = part.columns.length;
      const [values, low, high] = names.map((key) => part.layers.map((_, row) => factor * part.numbers[key][row * width + column]));
      const words = trace.columns[label] ?? label;
      const key = readout ? `${words}, ${directionWords(name)}` : words;
      const colour = colours(key);
      lines.push({ name: key, colour, values, low, high, n: part.layers.map((_, row) => part.numbers.n[row * width + column]), dash: readout && turn ? "6 3" : "" });
      if (part.numbers.band_low && useShare) lines.push({ name: `${key}, on the pairs of the random models`, colour, values: part.layers.map((_, row) => factor * part.numbers.own[row * width + column]), n: part.layers.map(() => part.band_pairs), dash: "1 3" });
      if (part.numbers.band_low && useShare) bands.push({ colour, low: part.layers.map((_, row) => factor * part.numbers.band_low[row * width + column]), high: part.layers.map((_, row) => factor * part.numbers.band_high[row * width + column]) });
    });
  });
  return { x: first.layers.map(layerWords), lines, bands, unit: useShare ? "%" : trace.unit, models: first.band_models, pairs: first.band_pairs };
}

function drawn(page, traces, state) {
  const here = traces.filter((trace) => trace.model === state.model && trace.tracer === state.tracer);
  const known = new Map();
  const colours = (key) => {
    if (!known.has(key)) known.set(key, LINES[known.size % LINES.length]);
    return known.get(key);
  };
  const parts = here.map((trace) => ({ trace, part: panelOf(page, trace, state.site, state.direction, colours) })).filter(({ part }) => part);
  const values = parts.flatMap(({ part }) => part.lines.flatMap((line) => line.values)).filter(Number.isFinite);
  const ends = [Math.min(0, ...values), Math.max(0, ...values)], room = 0.08 * (ends[1] - ends[0] || 1);
  const made = parts.map(({ trace, part }) => ({ title: `${page.label(trace.dataset)}, ${sizeWords(part.lines.flatMap((line) => (line.dash === "1 3" ? [] : line.n)).filter((n) => n > 0))}`, ...part, range: [ends[0] - room, ends[1] + room] }));
  const legend = [...known].map(([name, colour]) => ({ name, colour }));
  const models = parts.find(({ part }) => part.models)?.part.models, pairs = parts.find(({ part }) => part.pairs)?.part.pairs;
  if (models && parts.some(({ part }) => part.bands.length)) legend.push({ name: `band: range of ${models} randomly initialised models; dotted: this model on the same ${pairs} pairs`, colour: "currentColor", dash: "1 3" });
  return { made, legend, parts, models };
}

/** Curves of every tracer that is no token map; null without one. */
export function curvesView(page) {
  const traces = page.content.traces.filter((trace) => trace.view !== "map" && trace.aggregates.length);
  if (!traces.length) return null;
  const kinds = distinct(traces.map((trace) => `${trace.model}\n${trace.tracer}`)).map((key) => key.split("\n"));
  return element("div", null, distinct(kinds.map(([, tracer]) => tracer)).map((tracer) => tracerFigure(page, traces.filter((trace) => trace.tracer === tracer), tracer)));
}

function tracerFigure(page, traces, tracer) {
  const first = traces[0];
  const state = { model: first.model, tracer, site: Object.keys(first.sites)[0], direction: first.directions[0] };
  const controls = element("div", { class: "controls" }), place = element("div");
  const draw = () => {
    const trace = traces.find((other) => other.model === state.model) ?? first;
    if (!trace.sites[state.site]) state.site = Object.keys(trace.sites)[0];
    const change = (name) => (value) => { state[name] = value; draw(); };
    controls.replaceChildren(...[
      selection("Model", distinct(traces.map((other) => other.model)).map((name) => [name, name]), state.model, change("model")),
      Object.keys(trace.sites).length > 1 ? selection("Site", Object.entries(trace.sites), state.site, change("site")) : null,
      trace.view !== "readout" && trace.directions.length > 1 ? selection("Direction", trace.directions.map((name) => [name, directionWords(name)]), state.direction, change("direction")) : null].filter(Boolean));
    const { made, legend, parts } = drawn(page, traces, state);
    place.replaceChildren(made.length ? panels(made, legend, `${trace.title}: ${state.model}, ${trace.sites[state.site]}, by layer`) : element("p", { class: "note" }, "Nothing was measured here."));
    frame.setCaption(`${trace.caption} Lines: ${parts[0]?.part.unit === "%" ? "share of the gap between the two images" : `${trace.measure} in ${trace.unit}`} by layer; 95 % intervals from ten images on.`);
  };
  const rows = () => [["model", "dataset", "tracer", "site", "direction", "layer", "column", "n", "mean", "low", "high", "share", "share_low", "share_high", "band_low", "band_high", "own"],
    ...traces.filter((trace) => trace.model === state.model).flatMap((trace) => trace.aggregates.flatMap((entry) => {
      const part = aggregateOf(page, trace, entry.site, entry.direction), width = part.columns.length;
      return part.layers.flatMap((layer, row) => part.columns.map((label, column) => [trace.model, trace.dataset, trace.tracer, part.site, part.direction, layer, label,
        ...["n", "mean", "low", "high", "share", "share_low", "share_high", "band_low", "band_high", "own"].map((name) => part.numbers[name]?.[row * width + column] ?? null)]));
    }))];
  const frame = figure({ title: first.title ? `${tracer}: ${first.title}` : tracer, body: element("div", null, controls, place), name: () => fileName(tracer, state.model, state.site), rows });
  page.onSelect((choice) => {
    if (choice.model && (!choice.tracer || choice.tracer === tracer) && traces.some((trace) => trace.model === choice.model)) {
      state.model = choice.model;
      draw();
    }
  });
  draw();
  return frame;
}
