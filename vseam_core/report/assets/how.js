// How everything was measured: models and their trust records, runs, versions, and the commands that make it again.

import { element, shown } from "./dom.js";
import { sortableTable } from "./figures.js";

function pairs(rows) {
  return element("dl", { class: "facts" }, rows.map(([name, value]) => [element("dt", null, name), element("dd", null, shown(value, 3))]));
}

/** The last section; null where nothing is known. */
export function howView(page) {
  const { how } = page.content;
  if (!how.facts) return null;
  const runs = how.runs ?? [];
  const columns = ["id", "method", "model", "dataset", "pool", "split", "units_done", "units_skipped", "started", "finished"];
  return element("div", null,
    element("div", { class: "columns" },
      element("div", null, element("h3", null, "Study"), pairs(how.facts)),
      (how.models ?? []).map((model) => element("div", null, element("h3", null, model.name), pairs(model.facts),
        element("details", null, element("summary", null, "Trust record"), pairs([...model.trust, ...model.able]))))),
    how.commands?.length ? [element("h3", null, "Make it again"), element("pre", null, how.commands.join("\n"))] : null,
    how.configuration && Object.keys(how.configuration).length
      ? element("details", null, element("summary", null, "The study file as JSON"), element("pre", null, JSON.stringify(how.configuration, null, 1))) : null,
    runs.length ? element("details", null, element("summary", null, `${runs.length} ${runs.length === 1 ? "run" : "runs"}`),
      sortableTable(columns.map((name) => name.replace("units_", "")), runs.map((run) => columns.map((name) => run[name])))) : null);
}
