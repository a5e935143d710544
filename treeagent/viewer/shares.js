// Shares and means with their 95 % intervals, as treeagent/evaluation/statistics.py has them, and how they look.

const Z = 1.959964;

/** A share with its interval by Wilson; value null where there is nothing. */
function share(part, whole) {
  if (!whole) return { part, whole, value: null, low: 0, high: 1 };
  const p = part / whole, below = 1 + (Z * Z) / whole;
  const centre = (p + (Z * Z) / (2 * whole)) / below;
  const half = (Z * Math.sqrt((p * (1 - p)) / whole + (Z * Z) / (4 * whole * whole))) / below;
  return { part, whole, value: p, low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}

/** The mean of what is known, with the interval of the normal law where there are two or more. */
function mean(values) {
  const known = values.filter((value) => value !== undefined && value !== null);
  if (!known.length) return null;
  const value = known.reduce((sum, each) => sum + each, 0) / known.length;
  const spread = known.reduce((sum, each) => sum + (each - value) ** 2, 0) / Math.max(1, known.length - 1);
  const half = known.length > 1 ? Z * Math.sqrt(spread / known.length) : null;
  return { value, half, missing: values.length - known.length };
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const interval = ({ low, high }) => `95 %: ${percent(low)} to ${percent(high)}`;

/** A track from 0 to 1 with the interval and the value on it. */
function track({ value, low, high }) {
  const band = el("div", { class: "band" }), point = el("div", { class: "point" });
  band.style.left = `${100 * low}%`;
  band.style.width = `${100 * (high - low)}%`;
  point.style.left = `${100 * (value ?? 0)}%`;
  return el("div", { class: "track", "aria-hidden": "true" }, value === null ? [] : [band, point]);
}
