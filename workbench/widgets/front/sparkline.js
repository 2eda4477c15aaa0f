// A spectrum as a small shape, for a row of a list.

import { clamp, s } from "./shared.js";

const DECADES = 8; // a sparkline shows μ/μ₁ from 1 down to 1e-8
const SPARK = { width: 62, height: 20 };

function sparkline(eigenvalues) {
  if (!eigenvalues.length || !(eigenvalues[0] > 0)) return "";
  const { width, height } = SPARK;
  const samples = Math.min(eigenvalues.length, width);
  let path = `M0 ${height}`;
  for (let i = 0; i < samples; i++) {
    const j = samples === 1 ? 0 : Math.round((i * (eigenvalues.length - 1)) / (samples - 1));
    const depth = clamp(-Math.log10(eigenvalues[j] / eigenvalues[0]) / DECADES, 0, 1);
    path += `L${((i * width) / Math.max(samples - 1, 1)).toFixed(1)} ${(1 + depth * (height - 1)).toFixed(1)}`;
  }
  return `${path}L${width} ${height}Z`;
}

export const spark = (eigenvalues) => s("svg", { class: "wbw-spark", width: SPARK.width, height: SPARK.height, viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
  s("path", { d: sparkline(eigenvalues) }));
