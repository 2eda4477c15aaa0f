// Where names may stand in a plot: beside what they name, and over nothing else.

const LINE_HEIGHT = 15; // of a line of text, of which LINE_DESCENT is below its base
const LINE_DESCENT = 4;
const NEAR_BY = 22; // pixels, beyond which a thin line leads from a name to its point
const BETWEEN_PLACES = 4; // pixels between two places that are tried

let measure = null;
// As wide as it is in the largest and strongest of the plots' names.
function textWidth(text) {
  measure ??= document.createElement("canvas").getContext("2d");
  measure.font = '600 12.5px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif';
  return measure.measureText(text).width;
}

// Points along the path through [x, y] pairs, near enough to each other that no name fits between them.
export function along(points) {
  return points.flatMap(([x, y], i) => {
    if (!i) return [[x, y]];
    const [fromX, fromY] = points[i - 1];
    const count = Math.max(1, Math.ceil(Math.hypot(x - fromX, y - fromY) / 5));
    return Array.from({ length: count }, (_, k) => [fromX + ((x - fromX) * (k + 1)) / count, fromY + ((y - fromY) * (k + 1)) / count]);
  });
}

// The places beside a point first, then those of the whole box, the nearest first; [left, base] of the text.
function* places(x, y, width, box) {
  const [left, right, up, down] = [x - width - 9, x + 9, y - 7, y + 17];
  yield* [[left, up], [left, down], [right, up], [right, down], [x - width / 2, y - 11], [x - width / 2, y + 21], [left, y + 4], [right, y + 4]];
  const all = [];
  for (let base = box.top + LINE_HEIGHT - LINE_DESCENT; base <= box.bottom - LINE_DESCENT; base += BETWEEN_PLACES) {
    for (let start = box.left + 3; start <= box.right - width; start += BETWEEN_PLACES) all.push([start, base, Math.hypot(Math.max(start - x, x - start - width, 0), base - y)]);
  }
  yield* all.sort((a, b) => a[2] - b[2]);
}

// For each of `names`, { text, at: [[x, y], …] } with the points that it may stand beside, the best first: where it
// stands, { x, y, lead }, or null where there is no room. `points` [x, y, r] are what no name may cover.
export function placeNames(names, points, box) {
  const taken = [];
  const isFree = (left, base, width) => {
    const [right, top, bottom] = [left + width, base - LINE_HEIGHT + LINE_DESCENT, base + LINE_DESCENT];
    if (left < box.left + 2 || right > box.right || top < box.top - 4 || bottom > box.bottom - 1) return false;
    return points.every(([x, y, r = 1]) => x < left - r || x > right + r || y < top - r || y > bottom + r)
      && taken.every((one) => one.right < left - 4 || one.left > right + 4 || one.bottom < top || one.top > bottom);
  };
  return names.map(({ text, at }) => {
    const width = textWidth(text);
    for (const [x, y] of at) {
      for (const [left, base] of places(x, y, width, box)) {
        if (!isFree(left, base, width)) continue;
        taken.push({ left, right: left + width, top: base - LINE_HEIGHT + LINE_DESCENT, bottom: base + LINE_DESCENT });
        const near = [Math.min(Math.max(x, left), left + width), base - 4];
        const lead = Math.hypot(near[0] - x, near[1] - y) > NEAR_BY ? [x, y, ...near] : null;
        return { x: left, y: base, lead };
      }
    }
    return null;
  });
}
