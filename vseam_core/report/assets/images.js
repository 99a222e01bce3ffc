// The images of a pair side by side: clean, edited, difference; over them what was edited, and what image positions do per layer.

import { element, shown } from "./dom.js";
import { divergingColour, shareOf } from "./colours.js";

const SHOWN = 232;
const AMPLIFIED = 3;
const OPAQUE = 0.75;

function framed(words, ...layers) {
  return element("figure", { class: "image" }, element("div", { class: "layers" }, layers), element("figcaption", null, words));
}

// Where the edit was: boxes as shares of the image.
function boxes(pair, natural) {
  const size = pair.size ?? natural;
  if (!size) return [];
  return pair.boxes.map(([left, top, right, bottom]) => element("span", { class: "box", style: {
    left: `${(100 * left) / size[0]}%`, top: `${(100 * top) / size[1]}%`, width: `${(100 * (right - left)) / size[0]}%`, height: `${(100 * (bottom - top)) / size[1]}%` } }));
}

function loaded(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = address;
  });
}

async function difference(canvas, one, two) {
  const [first, second] = await Promise.all([loaded(one), loaded(two)]);
  const [width, height] = [first.naturalWidth, first.naturalHeight];
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(first, 0, 0);
  const left = pen.getImageData(0, 0, width, height);
  pen.drawImage(second, 0, 0, width, height);
  const right = pen.getImageData(0, 0, width, height);
  for (let index = 0; index < left.data.length; index++) {
    if (index % 4 !== 3) right.data[index] = Math.min(255, AMPLIFIED * Math.abs(left.data[index] - right.data[index]));
  }
  pen.putImageData(right, 0, 0);
}

/** The images of a pair. With a trace of it whose columns are image positions or regions, `overlay(layer)` shows a layer's effects. */
export function imageRow(page, place, { trace = null, found = null, model = null } = {}) {
  const pair = page.content.pairs[place];
  const [clean, edited] = [page.content.samples[pair.clean], page.content.samples[pair.edited]];
  const [one, two] = [page.image(clean.image), page.image(edited.image)];
  const question = clean.question;
  const row = element("div", { class: "images" });
  if (!one && !two) {
    row.append(element("p", { class: "note" }, "No images of this pair are in the database: it was measured with thumbnails switched off, or by an older vseam."));
    return row;
  }
  const picture = (address, words) => address ? element("img", { src: address, alt: `${words} image of: ${question}`, width: SHOWN, height: SHOWN })
    : element("span", { class: "missing" }, "not stored");
  const cleanBoxes = element("span", { class: "boxes" }), editedBoxes = element("span", { class: "boxes" });
  const first = picture(one, "Clean");
  const place_boxes = () => [cleanBoxes, editedBoxes].forEach((layer) => layer.replaceChildren(...boxes(pair, pair.size)));
  const effects = element("canvas", { class: "effects", hidden: true });
  const caption = element("p", { class: "note" });
  const canvas = element("canvas", { role: "img", "aria-label": "What the edit changed" });
  row.append(framed(`clean: ${clean.gold}${answered(page, model, pair.clean)}`, first, cleanBoxes, effects),
    framed(`edited (${pair.source} → ${pair.target}): ${edited.gold}${answered(page, model, pair.edited)}`, picture(two, "Edited"), editedBoxes),
    one && two ? framed(`difference × ${AMPLIFIED}`, canvas) : null, caption);
  if (one && two) difference(canvas, one, two).catch(() => canvas.replaceWith(element("span", { class: "missing" }, "the images differ in kind")));
  place_boxes();
  row.overlay = found ? overlayOf(page, { trace, found, model, pair, effects, caption }) : null;
  row.overlay?.(0);
  return row;
}

function answered(page, model, sample) {
  const answer = model ? page.answer(model, sample) : null;
  return answer ? `; answered ${answer.text}${answer.correct ? "" : " ✗"}` : "";
}

// Effects of image positions (by where they look) or of regions (the edit's boxes) at one layer, as colours over the clean image.
function overlayOf(page, { trace, found, model, pair, effects, caption }) {
  const { axis, values } = found, share = shareOf(values, false);
  const prompt = page.prompt(model, pair.clean);
  const places = prompt?.boxes ? page.numbers(prompt.boxes) : null;
  const positions = axis.kind === "position" && places ? imageColumns(prompt, axis) : [];
  const region = axis.kind === "group" ? axis.columns.indexOf("region") : -1;
  if (!positions.length && region < 0) return null;
  return (layer) => {
    const at = (column) => values[layer * axis.columns.length + column];
    Object.assign(effects, { width: SHOWN, height: SHOWN, hidden: false });
    const pen = effects.getContext("2d");
    pen.clearRect(0, 0, SHOWN, SHOWN);
    const paint = (value) => {
      // What does next to nothing leaves the image as it is.
      pen.globalAlpha = OPAQUE * Math.abs(share(value));
      pen.fillStyle = divergingColour(share(value));
    };
    for (const [column, position] of positions) {
      const [left, top, right, bottom] = places.subarray(4 * position, 4 * position + 4);
      paint(at(column));
      pen.fillRect(left * SHOWN, top * SHOWN, (right - left) * SHOWN, (bottom - top) * SHOWN);
    }
    if (region >= 0 && pair.size) {
      const fill = (column, place) => {
        pen.clearRect(...place);
        paint(at(column));
        pen.fillRect(...place);
      };
      const rest = axis.columns.indexOf("complement");
      if (rest >= 0) fill(rest, [0, 0, SHOWN, SHOWN]);
      for (const [left, top, right, bottom] of pair.boxes) {
        fill(region, [(left / pair.size[0]) * SHOWN, (top / pair.size[1]) * SHOWN, ((right - left) / pair.size[0]) * SHOWN, ((bottom - top) / pair.size[1]) * SHOWN]);
      }
    }
    const named = axis.layers[layer] === -1 ? "the embedding" : `layer ${axis.layers[layer]}`;
    caption.textContent = `Over the clean image: effects at ${named}${region >= 0 ? ` (edited region ${shown(at(region), 3)} ${trace.unit}, the rest ${shown(at(axis.columns.indexOf("complement")), 3)}, ` +
      `a random region ${shown(at(axis.columns.indexOf("random")), 3)})` : ""}; a click on a row of the map shows another layer.`;
  };
}

// [column, number of the image position] for columns that are image positions.
function imageColumns(prompt, axis) {
  const numbers = new Map();
  let count = 0;
  for (const [position, length, , kind] of prompt.tokens) {
    if (kind !== "image") continue;
    for (let step = 0; step < length; step++) numbers.set(String(position + step), count++);
  }
  return axis.columns.flatMap((label, column) => (numbers.has(label) ? [[column, numbers.get(label)]] : []));
}
