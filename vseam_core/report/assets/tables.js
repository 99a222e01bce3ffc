// The tables of a study: what its figures rest on, sortable, each with its CSV.

import { element } from "./dom.js";
import { figure, fileName, sortableTable } from "./figures.js";

/** All tables, each behind its title; null without any. */
export function tablesView(page) {
  const { tables } = page.content;
  if (!tables.length) return null;
  return element("div", null, tables.map((table) => {
    const body = element("div");
    const notes = table.notes.map((note) => element("p", { class: "note" }, note));
    const frame = figure({ title: "", body, caption: "", name: () => fileName(table.title), rows: () => [table.columns, ...table.rows] });
    frame.querySelector(".save-svg").remove();
    const fold = element("details", { class: "table", ontoggle: () => fold.open && !body.firstChild && body.append(sortableTable(table.columns, table.rows), ...notes) },
      element("summary", null, `${table.title} (${table.rows.length})`), frame);
    return fold;
  }));
}
