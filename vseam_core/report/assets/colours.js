// Colours that readers with any kind of colour vision can tell apart, for a light and for a dark page.

// Blue below zero, orange above: told apart in all common kinds of colour blindness, and by lightness from the middle.
const DIVERGING = {
  light: ["#0b4a8f", "#5b9bd0", "#b9d4ea", "#f5f5f3", "#f6cf9c", "#e08a2c", "#8f4300"],
  dark: ["#9ed0ff", "#4f93d6", "#28527c", "#26282d", "#7a4a18", "#d68a3a", "#ffd09a"],
};
const SEQUENTIAL = {
  light: ["#f5f5f3", "#cfe1d8", "#8fc0b5", "#4a9a97", "#1d6f7b", "#0b445b"],
  dark: ["#26282d", "#234a54", "#2b6f76", "#419a93", "#7cc5ab", "#cdeed0"],
};
/** Line colours after Okabe and Ito (2008), bright enough for a dark page and dark enough for a light one. */
export const LINES = ["#1e86c8", "#dd6414", "#12a07a", "#cf7fae", "#62b8ec", "#e3a006", "#8479f2", "#8c8c8c"];

function pageIsDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

let dark = pageIsDark;

/** Let something else say whether the ground is dark: a notebook has themes of its own. */
export function darkWhere(says) {
  dark = says;
}

/** Whether the page is shown dark now. */
export function isDark() {
  return dark();
}

function between(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  const parts = [0, 1, 2].map((channel) => {
    const [one, two] = [first, first + 1].map((index) => parseInt(stops[index].slice(1 + 2 * channel, 3 + 2 * channel), 16));
    return Math.round(one + (two - one) * (place - first));
  });
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** The colour of a share from −1 to 1; unknown values have none. */
export function divergingColour(share) {
  if (!Number.isFinite(share)) return "none";
  return between(DIVERGING[isDark() ? "dark" : "light"], (share + 1) / 2);
}

/** The colour of a share from 0 to 1. */
export function sequentialColour(share) {
  if (!Number.isFinite(share)) return "none";
  return between(SEQUENTIAL[isDark() ? "dark" : "light"], share);
}

/** How opaque a share from 0 to 1 of the largest attention is over an image. */
export function attentionOpacity(share) {
  return 0.1 + 0.65 * share;
}

/** Black or white, whichever is read better on a colour. */
export function inkOn(colour) {
  if (!colour.startsWith("#")) return "currentColor";
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#16181c" : "#ffffff";
}

/** A function from a value to a share from −1 to 1: by its size, or by how many values are smaller (`quantile`). */
export function shareOf(values, quantile) {
  const sizes = Float64Array.from(values).filter(Number.isFinite).map(Math.abs).sort();
  const most = sizes.length ? sizes[sizes.length - 1] : 0;
  if (!most) return (value) => (Number.isFinite(value) ? 0 : NaN);
  if (!quantile) return (value) => value / most;
  return (value) => {
    if (!Number.isFinite(value)) return NaN;
    let low = 0, high = sizes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sizes[middle] < Math.abs(value)) low = middle + 1;
      else high = middle;
    }
    // Squared, so that the upper half of the ranks has most of the colours.
    return Math.sign(value) * (low / Math.max(sizes.length - 1, 1)) ** 2;
  };
}
