// The data of a page: JSON elements, base64 arrays and images, each decoded when a view first needs it.

const ARRAY_TYPES = { float64: Float64Array, float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

/** Reads a data element of the document by its id; null where there is none. */
export function blockOf(name) {
  const element = document.getElementById(name);
  return element ? JSON.parse(element.textContent) : null;
}

/** The content of a page with its arrays and images, and what is selected on it. `block(name)` gives a data element's value. */
export class Page {
  constructor(block = blockOf) {
    this.block = block;
    this.content = block("page");
    this.arrays = new Map();
    this.imageTable = null;
    this.selected = {};
    this.listeners = [];
    this.answerTables = null;
  }

  /** The numbers of an array reference as a typed array. */
  numbers(reference) {
    if (!reference) return null;
    if (!this.arrays.has(reference.array)) {
      const text = atob(this.block(reference.array));
      const bytes = new Uint8Array(text.length);
      for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
      this.arrays.set(reference.array, new ARRAY_TYPES[reference.type](bytes.buffer));
    }
    return this.arrays.get(reference.array);
  }

  /** The address of an image by its key; "" where it is not on the page. */
  image(key) {
    if (!key) return "";
    this.imageTable ??= this.block("images") ?? {};
    return this.imageTable[key] ?? "";
  }

  /** What a model answered on a sample: {text, correct, logitDiff}, or null. */
  answer(model, sample) {
    if (!this.answerTables) {
      this.answerTables = new Map();
      for (const entry of this.content.answers) {
        const [samples, texts] = [this.numbers(entry.sample), this.numbers(entry.text)];
        const [correct, differences] = [this.numbers(entry.correct), this.numbers(entry.logit_diff)];
        const table = new Map();
        samples.forEach((place, row) =>
          table.set(place, { text: entry.texts[texts[row]], correct: correct[row] === 1, logitDiff: differences[row] }));
        this.answerTables.set(entry.model, table);
      }
    }
    return this.answerTables.get(model)?.get(sample) ?? null;
  }

  /** What the page holds of where heads look in a scan's images. */
  looks(model, dataset) {
    return (this.content.attention ?? []).filter((entry) => entry.model === model && entry.dataset === dataset);
  }

  /** Where a head looks in a sample's image: {rows, columns, shares: of its attention by cell, total}; null where the page does not have it. */
  look(model, dataset, sample, head, from) {
    for (const { rows, columns, heads, ...entry } of this.looks(model, dataset)) {
      if (entry.from !== from) continue;
      const row = this.numbers(entry.sample).indexOf(sample), column = heads.indexOf(head);
      if (row < 0 || column < 0) continue;
      const place = row * heads.length + column, most = this.numbers(entry.largest)[place];
      const steps = this.numbers(entry.steps).subarray(place * rows * columns, (place + 1) * rows * columns);
      const shares = Float32Array.from(steps, (step) => (step * most) / 255);
      return { rows, columns, shares, total: shares.reduce((sum, share) => sum + share, 0) };
    }
    return null;
  }

  /** The tokens of a sample as a model reads them: [position, length, text, class, role] each; null where they are unknown. */
  prompt(model, sample) {
    return this.content.prompts.find((entry) => entry.model === model && entry.sample === sample) ?? null;
  }

  /** The short name of a task. */
  label(dataset) {
    return this.content.tasks.find((task) => task.dataset === dataset)?.label ?? dataset;
  }

  /** Tell every view what was chosen: {model?, dataset?, head?, pair?, tracer?}. */
  select(choice, source = null) {
    Object.assign(this.selected, choice);
    for (const listener of this.listeners) listener(choice, source);
  }

  /** Call `listener(choice, source)` whenever something is chosen elsewhere on the page. */
  onSelect(listener) {
    this.listeners.push(listener);
  }
}
