// Ablated sets of heads beside matched random sets, and rescaled heads beside their controls.

import { distinct, element, selection, shown, sizeWords, withInterval } from "./dom.js";
import { LINES } from "./colours.js";
import { figure, fileName } from "./figures.js";
import { panels, pointRows } from "./charts.js";

const QUANTITIES = { nats: ["logit difference", "nats"], effect: ["accuracy", "%"] };

// Which entry a row is: the operation is said where there are several.
function wordsOf(entry, entries) {
  return [entry.label, entry.sign, distinct(entries.map((other) => other.operation)).length > 1 ? entry.operation.replaceAll("_", " ") : ""].filter(Boolean).join(", ");
}

/** Ablations on test images; null without any. */
export function ablationView(page) {
  const all = page.content.ablations ?? [];
  if (!all.length) return null;
  const state = { model: all[0].model, quantity: all.some((entry) => entry.nats) ? "nats" : "effect" };
  const controls = element("div", { class: "controls" }), place = element("div"), curves = element("div");
  const draw = () => {
    const change = (name) => (value) => { state[name] = value; draw(); };
    controls.replaceChildren(selection("Model", distinct(all.map((entry) => entry.model)).map((name) => [name, name]), state.model, change("model")),
      selection("Measured by", Object.entries(QUANTITIES).map(([name, [words]]) => [name, words]), state.quantity, change("quantity")));
    const here = all.filter((entry) => entry.model === state.model && entry[state.quantity]);
    const [, unit] = QUANTITIES[state.quantity], factor = state.quantity === "nats" ? 1 : 100;
    place.replaceChildren(here.length ? pointRows({ unit, label: `Effect of ablating selected heads of ${state.model} beside random sets`, left: 220, rows: here.map((entry) => {
      const effect = entry[state.quantity];
      const words = `selected ${entry.heads.join(", ")}: ${shown(factor * effect.selected, 3)} ${unit}; random sets ${shown(factor * effect.mean, 3)} on average` +
        `${effect.p === null ? "" : `, p = ${shown(effect.p, 2)}`} (${effect.random.length} sets, n = ${entry.n})`;
      return { label: `${wordsOf(entry, here)}${entry.exploratory ? " (expl.)" : ""}`, points: [
        ...effect.random.map((value) => ({ value: factor * value, mark: "tick", colour: "currentColor", words })),
        { value: factor * effect.mean, mark: "cross", colour: LINES[7], words },
        { value: factor * effect.selected, mark: "diamond", colour: entry.sign === "positive" ? LINES[1] : LINES[0], filled: !entry.exploratory, words }] };
    }) }) : element("p", { class: "note" }, "Not measured."));
    const measured = here.filter((entry) => entry.curve.some((row) => row.condition === "cumulative"));
    curves.replaceChildren(measured.length ? curveFigure(measured) : "");
    frame.setCaption(`${sizeWords(here.map((entry) => entry.n))} test images: diamond, the selected heads; ticks, random sets of the same size matched in layer and norm; cross, their mean. Right of 0: ablating positive heads lowers the measure, ablating negative heads raises it.` +
      `${here.some((entry) => entry.exploratory) ? " Hollow and “expl.”: the highest ranked heads where none passed the claim, so such a row says nothing about a claimed head." : ""}`);
  };
  const frame = figure({ title: "Selected heads beside random sets", body: element("div", null, controls, place), name: () => fileName("ablation", state.model),
    rows: () => [["model", "dataset", "split", "sign", "operation", "heads", "n", "exploratory", "measure", "set", "effect", "nats"], ...all.filter((entry) => entry.model === state.model).flatMap((entry) =>
      [["selected", entry.effect.selected, entry.nats?.selected ?? null], ...entry.effect.random.map((value, index) => [`random ${index}`, value, entry.nats?.random[index] ?? null])].map(([set, effect, nats]) =>
        [entry.model, entry.dataset, entry.split, entry.sign, entry.operation, entry.heads.join(" "), entry.n, entry.exploratory, entry.measure, set, effect, nats]))] });
  page.onSelect((choice) => {
    if (choice.model && all.some((entry) => entry.model === choice.model)) {
      state.model = choice.model;
      draw();
    }
  });
  draw();
  return element("div", null, frame, curves);
}

// The first 1 … k heads ablated together, and everything but them (faithfulness).
function curveFigure(entries) {
  const parts = entries.map((entry) => {
    const rows = (...conditions) => entry.curve.filter((row) => conditions.includes(row.condition)).sort((one, two) => one.size - two.size);
    const base = entry.curve.find((row) => row.condition === "base")?.mean_logit_diff ?? NaN;
    const ablated = new Map([[0, base], ...rows("cumulative", "selected").map((row) => [row.size, row.mean_logit_diff])]);
    // All heads but the selected ones were ablated: these are what is left.
    const kept = new Map(rows("faithfulness").map((row) => [entry.heads.length, row.mean_logit_diff]));
    const sizes = [...new Set([...ablated.keys(), ...kept.keys()])].sort((one, two) => one - two);
    const lines = [{ name: "first k heads ablated", colour: LINES[1], values: sizes.map((size) => ablated.get(size) ?? NaN) }];
    if (kept.size) lines.push({ name: "only these heads kept", colour: LINES[0], values: sizes.map((size) => kept.get(size) ?? NaN) });
    return { title: wordsOf(entry, entries), x: sizes.map(String), lines, unit: "nats" };
  });
  const kept = entries.some((entry) => entry.curve.some((row) => row.condition === "faithfulness"));
  const legend = [{ name: "the first k heads ablated together", colour: LINES[1] }, ...(kept ? [{ name: "only the selected heads kept, all others ablated", colour: LINES[0] }] : [])];
  return figure({ title: "Head by head", body: panels(parts, legend, "Mean logit difference with the first k heads ablated", { perRow: 5, size: [250, 190] }), caption: `Mean logit difference in nats by the number of heads, strongest first; ${sizeWords(entries.map((entry) => entry.n))} test images.`,
    name: () => fileName("ablation-curves", entries[0].model), rows: () => [["model", "dataset", "sign", "condition", "k", "n", "accuracy", "mean_logit_diff", "heads"], ...entries.flatMap((entry) => entry.curve.map((row) =>
      [entry.model, entry.dataset, entry.sign, row.condition, row.size, row.n, row.accuracy, row.mean_logit_diff, row.heads.join(" ")]))] });
}

const ROLE_COLOURS = { fitted: LINES[1], bias: LINES[0], published: LINES[3], shuffled: LINES[7] };

/** Rescalings on test images; null without any. */
export function rescalingView(page) {
  const all = page.content.rescalings ?? [];
  if (!all.length) return null;
  const state = { model: all[0].model };
  const controls = element("div", { class: "controls" }), place = element("div");
  const draw = () => {
    controls.replaceChildren(selection("Model", distinct(all.map((entry) => entry.model)).map((name) => [name, name]), state.model, (value) => { state.model = value; draw(); }));
    const here = all.filter((entry) => entry.model === state.model);
    place.replaceChildren(pointRows({ unit: "% accuracy gained", label: `Gains of rescaled heads of ${state.model} beside their controls`, left: 190, line: 26, rows: here.map((entry) => ({
      label: `${entry.label}, ${entry.split}${entry.unchanged ? " (no change)" : ""}`,
      points: [...entry.gains].reverse().map((gain) => ({ value: 100 * gain.gain, ...(gain.role === "fitted" ? { low: 100 * (gain.gain_low ?? NaN), high: 100 * (gain.gain_high ?? NaN) } : {}), colour: ROLE_COLOURS[gain.role] ?? LINES[2],
        mark: gain.role === "fitted" ? "diamond" : gain.role === "shuffled" ? "tick" : gain.role === "bias" ? "cross" : "dot", filled: gain.role !== "published",
        words: `${gain.role}: ${withInterval(100 * gain.gain, 100 * (gain.gain_low ?? NaN), 100 * (gain.gain_high ?? NaN), "%")}${gain.p_value === null ? "" : `, p = ${shown(gain.p_value, 2)}`}` })) })) }),
      element("div", { class: "legend" }, [["fitted (diamond)", LINES[1]], ["yes/no bias (cross)", LINES[0]], ["published recipe (ring)", LINES[3]], ["same factors on other heads (tick)", LINES[7]], ["on other categories (dot)", LINES[2]]].map(([words, colour]) =>
        element("span", null, element("i", { class: "swatch", style: { background: colour } }), ` ${words}`))));
    frame.setCaption(`Gain in accuracy on test images (${sizeWords(here.map((entry) => entry.n))}), in points of percent; line: 95 % interval. A fitted rescaling has to beat its controls.` +
      `${here.some((entry) => entry.unchanged) ? " “No change”: on the images that it was chosen on, leaving all heads alone was best." : ""}`);
  };
  const frame = figure({ title: "", body: element("div", null, controls, place), name: () => fileName("rescaling", state.model),
    rows: () => [["model", "dataset", "split", "strength", "scales", "base", "n", "role", "gain", "low", "high", "p"], ...all.filter((entry) => entry.model === state.model).flatMap((entry) => entry.gains.map((gain) =>
      [entry.model, entry.dataset, entry.split, entry.strength, Object.entries(entry.scales).map(([head, factor]) => `${head} ${factor}`).join(" "), entry.base, entry.n, gain.role, gain.gain, gain.gain_low, gain.gain_high, gain.p_value]))] });
  draw();
  return frame;
}
