// What was found, in sentences; a click leads to what each rests on.

import { element } from "./dom.js";

/** The sentences of a page; null without any. */
export function findingsView(page) {
  const { findings, notes = [] } = page.content;
  if (!findings.length && !notes.length) return null;
  return element("div", null,
    element("ol", { class: "findings" }, findings.map((finding) => element("li", { class: finding.kind },
      element("p", null, finding.text, " ", finding.link ? element("a", { href: finding.link }, finding.kind === "open" ? "what is there" : "evidence") : null)))),
    notes.map((note) => element("p", { class: "note" }, note)));
}
