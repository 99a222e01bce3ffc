// Building elements: text is always set as text, so that nothing in the data is taken for markup.

const SVG_SPACE = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, part] of Object.entries(value)) node.style.setProperty(key, part);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element. `on…` attributes are listeners, `style` an object of properties. */
export function element(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function shape(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG_SPACE, tag), attributes, children);
}

/** A labelled selection. `choices` are [value, words] pairs; `change(value)` is called with what was chosen. */
export function selection(label, choices, chosen, change) {
  const box = element("select", { onchange: () => change(box.value) },
    choices.map(([value, words]) => element("option", { value, selected: String(value) === String(chosen) }, words)));
  box.value = chosen;
  return element("label", { class: "choice" }, element("span", null, label), box);
}

/** The distinct values of a list in their order. */
export function distinct(values) {
  return [...new Set(values)];
}

/** A number as a reader sees it: `digits` significant ones, a dash where it is unknown. */
export function shown(value, digits = 4) {
  if (value === null || value === undefined || (typeof value === "number" && !Number.isFinite(value))) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return String(value).replace("-", "−");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

/** How many digits after the point tell values of this size apart in a cell. */
export function decimalsFor(most) {
  return most > 0 ? Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(most)))) : 2;
}

/** A number with its sign and a fixed number of digits after the point; what rounds to nothing has no sign. */
export function signed(value, decimals) {
  if (!Number.isFinite(value)) return "";
  const text = Math.abs(value).toFixed(decimals);
  return Number(text) === 0 ? text : `${value < 0 ? "−" : "+"}${text}`;
}

const WEAK = 0.03;

/** The words of a cell: none for a value that is next to nothing beside the largest, which a pointer still tells. */
export function cellWords(value, most, decimals) {
  return Math.abs(value) >= WEAK * most ? signed(value, decimals) : "";
}

/** The largest size among known values. */
export function largest(values) {
  let most = 0;
  for (const value of values) if (Math.abs(value) > most) most = Math.abs(value);
  return most;
}

/** How many there were: `n = 16`, or `n = 12 to 16` where that differs. */
export function sizeWords(counts) {
  const known = counts.filter(Number.isFinite), [least, most] = [Math.min(...known), Math.max(...known)];
  return !known.length ? "n is not known" : least === most ? `n = ${most}` : `n = ${least} to ${most}`;
}

/** `1.20 [0.90, 1.50]`, without brackets where there is no interval. */
export function withInterval(value, low, high, unit = "") {
  const ends = Number.isFinite(low) && Number.isFinite(high) ? ` [${shown(low, 3)}, ${shown(high, 3)}]` : "";
  return `${shown(value, 3)}${unit && ` ${unit}`}${ends}`;
}

/** A note beside the pointer. One for the whole page. */
export class Tooltip {
  constructor(host) {
    this.box = element("div", { class: "tooltip", role: "status", "aria-live": "polite", hidden: true });
    host.append(this.box);
    addEventListener("pointerdown", () => this.hide(), { capture: true });
  }

  show(lines, x, y) {
    this.box.replaceChildren(...lines.map((line, index) => element(index ? "div" : "strong", null, line)));
    this.box.hidden = false;
    const width = this.box.offsetWidth, height = this.box.offsetHeight;
    const left = x + 14 + width > innerWidth ? Math.max(4, x - width - 14) : x + 14;
    const top = y + 14 + height > innerHeight ? Math.max(4, y - height - 14) : y + 14;
    this.box.style.left = `${left}px`;
    this.box.style.top = `${top}px`;
  }

  hide() {
    this.box.hidden = true;
  }
}

/** Tells what `lines(event)` gives for the place under a pointer or a finger, as long as it gives something. */
export function onPointer(node, lines) {
  const tell = (event) => {
    const words = lines(event);
    if (words) tooltip().show(words, event.clientX, event.clientY);
    else tooltip().hide();
  };
  node.addEventListener("pointermove", tell);
  node.addEventListener("pointerdown", tell);
  // A finger leaves where it tells something: the note stays until another place is touched.
  node.addEventListener("pointerleave", (event) => event.pointerType === "touch" || tooltip().hide());
}

let theTooltip = null;

/** The page's note beside the pointer, made when it is first needed. */
export function tooltip() {
  if (!theTooltip?.box.isConnected) theTooltip = new Tooltip(document.querySelector(".vseam") ?? document.body);
  return theTooltip;
}
