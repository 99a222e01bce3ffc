// The views of a page, written once: the page of a report, vseam view and the widgets of notebooks take them from here.

import { ablationView, rescalingView } from "./ablation.js";
import { comparisonView } from "./comparison.js";
import { curvesView } from "./curves.js";
import { directionsView } from "./directions.js";
import { evaluationsView } from "./evaluations.js";
import { explainedView } from "./explained.js";
import { findingsView } from "./findings.js";
import { headsView } from "./headmap.js";
import { howView } from "./how.js";
import { pathsView } from "./paths.js";
import { readingsView } from "./readings.js";
import { samplesView } from "./samples.js";
import { sharedView } from "./shared.js";
import { tablesView } from "./tables.js";
import { tracesView } from "./traces.js";

/** The views in their order: the section's id, its title, and the function that makes it of a page (null: nothing to show). */
export const VIEWS = [
  ["findings", "What was found", findingsView, (content) => content.findings.length + (content.notes ?? []).length],
  ["explained", "The answer explained", explainedView, (content) => (content.explained ? 1 : 0)],
  ["evaluations", "Evaluated runs", evaluationsView, (content) => (content.evaluations ?? []).length],
  ["heads", "Head map", headsView, (content) => content.scans.length],
  ["traces", "Trace map", tracesView, (content) => content.traces.length],
  ["readings", "Looking and causing", readingsView, (content) => (content.readings ?? []).length],
  ["paths", "Paths", pathsView, (content) => (content.screened_paths ?? []).length],
  ["directions", "Directions", directionsView, (content) => (content.directions ?? []).length],
  ["comparison", "Ways to answer", comparisonView, (content) => (content.comparisons ?? []).length],
  ["samples", "Samples", samplesView, (content) => content.pairs.length + content.skips.length],
  ["shared", "Shared heads", sharedView, (content) => content.shared.length],
  ["ablation", "Ablation", ablationView, (content) => (content.ablations ?? []).length],
  ["rescaling", "Rescaling", rescalingView, (content) => (content.rescalings ?? []).length],
  ["curves", "Curves", curvesView, (content) => content.traces.filter((trace) => trace.view !== "map" && trace.aggregates.length).length],
  ["tables", "Tables", tablesView, (content) => content.tables.length],
  ["how", "How it was measured", howView, (content) => Object.keys(content.how).length],
];
