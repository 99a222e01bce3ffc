// Directions between yes and no: held-out accuracy by layer, beside a random direction of the same length.

import { distinct, element } from "./dom.js";
import { LINES } from "./colours.js";
import { figure, fileName } from "./figures.js";
import { panels } from "./charts.js";

const KINDS = { difference: ["difference of means", LINES[1]], probe: ["logistic probe", LINES[0]], random: ["random direction (control)", LINES[7]] };

function percent(values) {
  return values.map((value) => (value === null ? NaN : 100 * value));
}

function panelOf(page, entry) {
  const lines = Object.entries(entry.kinds).map(([kind, values]) => {
    const [words, colour] = KINDS[kind] ?? [kind, LINES[2]];
    const at = (name) => entry.layers.map((layer) => percent(values[name])[values.layer.indexOf(layer)] ?? NaN);
    return { name: words, colour, values: at("held_out"), low: at("low"), high: at("high"), dash: kind === "random" ? "6 3" : "" };
  });
  return { title: `${entry.label}, ${entry.site.replaceAll("_", " ")}`, x: entry.layers.map(String), lines, unit: "%", range: [0, 106] };
}

/** The view of directions; null without any. */
export function directionsView(page) {
  const all = page.content.directions ?? [];
  if (!all.length) return null;
  return element("div", null, distinct(all.map((entry) => entry.model)).map((model) => {
    const here = all.filter((entry) => entry.model === model), kinds = distinct(here.flatMap((entry) => Object.keys(entry.kinds)));
    const legend = kinds.map((kind) => ({ name: (KINDS[kind] ?? [kind])[0], colour: (KINDS[kind] ?? [kind, LINES[2]])[1], dash: kind === "random" ? "6 3" : "" }));
    return figure({ title: model, body: panels(here.map((entry) => panelOf(page, entry)), legend, `Held-out accuracy of directions by layer: ${model}`),
      caption: `Share of held-out images on the right side of a direction's threshold, by layer, at the last position, with 95 % limits over images (test pool: ${here[0].n_held_out} images with yes or no, of ${here[0].images} scenes or photographs; ` +
        `fitted on ${here[0].n_fitted} of the choose pool). The random direction is as long as the others and has the best threshold that the fitted images allow. That something can be read does not say that the model uses it.`,
      name: () => fileName("directions", model),
      rows: () => [["model", "dataset", "site", "layer", "kind", "held_out", "low", "high", "fitted", "n_held_out", "images"], ...here.flatMap((entry) => Object.entries(entry.kinds).flatMap(([kind, values]) =>
        values.layer.map((layer, row) => [entry.model, entry.dataset, entry.site, layer, kind, values.held_out[row], values.low[row], values.high[row], values.fitted[row], entry.n_held_out, entry.images])))] });
  }));
}
