// Places for the boxes of a network: in layers from the left to the right, by a library that the kernel sends, and
// the long strip that comes of it cut into lines, as text is.

// `graph`: nodes [[width, height], …] in the order in which the network runs, and edges [[from, to, weight], …]. Runs in
// a worker, so it is whole in itself. Where one node parts what is before it from what is behind, as after each block of
// a deep network, both sides are laid out by themselves and put together there: the time then grows with the number of
// blocks, and not with its square.
function placed(library, graph) {
  const covered = new Array(graph.nodes.length + 1).fill(0); // by how many edges each node is passed
  for (const [from, to] of graph.edges) {
    covered[Math.min(from, to) + 1] += 1;
    covered[Math.max(from, to)] -= 1;
  }
  const pieces = [[0, graph.nodes.length - 1]];
  for (let i = 1, passing = 0; i < graph.nodes.length - 1; i++) {
    passing += covered[i];
    if (passing) continue;
    pieces.at(-1)[1] = i;
    pieces.push([i, graph.nodes.length - 1]);
  }
  const pieceOf = ([from, to]) => pieces.findIndex(([, last]) => Math.max(from, to) <= last);
  const parts = pieces.map(() => []);
  graph.edges.forEach((edge, i) => parts[pieceOf(edge)].push(i));
  const known = new Map(); // blocks that are alike have the same places
  const layOne = (first, last, mine) => {
    const drawn = new library.Graph({ multigraph: true });
    drawn.setGraph({ rankdir: "LR", nodesep: 14, edgesep: 8, ranksep: 30, ranker: last - first > 100 ? "longest-path" : "network-simplex" });
    drawn.setDefaultEdgeLabel(() => ({}));
    for (let i = first; i <= last; i++) drawn.setNode(String(i - first), { width: graph.nodes[i][0], height: graph.nodes[i][1] });
    const ends = mine.map(([from, to], i) => [String(from - first), String(to - first), String(i)]);
    ends.forEach((one, i) => drawn.setEdge(one[0], one[1], { weight: mine[i][2] }, one[2]));
    library.layout(drawn);
    const at = ({ x, y }) => [x, y];
    return { nodes: Array.from({ length: last - first + 1 }, (_, i) => at(drawn.node(String(i)))), edges: ends.map((one) => drawn.edge(...one).points.map(at)) };
  };
  const [nodes, edges] = [[], []];
  pieces.forEach(([first, last], part) => {
    const mine = parts[part].map((i) => graph.edges[i]);
    const key = JSON.stringify([graph.nodes.slice(first, last + 1), mine.map(([from, to, weight]) => [from - first, to - first, weight])]);
    if (!known.has(key)) known.set(key, layOne(first, last, mine));
    const found = known.get(key);
    const [right, down] = part ? [nodes[first][0] - found.nodes[0][0], nodes[first][1] - found.nodes[0][1]] : [0, 0];
    // The last node on the height of the first, or a deep network would climb.
    const [[x0, y0], [x1, y1]] = [found.nodes[0], found.nodes.at(-1)];
    const climb = x1 > x0 ? (y1 - y0) / (x1 - x0) : 0;
    const moved = ([x, y]) => [x + right, y + down - climb * (x - x0)];
    found.nodes.forEach((one, i) => (nodes[first + i] = moved(one)));
    parts[part].forEach((i, at) => (edges[i] = found.edges[at].map(moved)));
  });
  return { nodes, edges };
}

const asModule = (text) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));

// Off the page's thread where the host lets a worker be made, else on it.
export async function layOut(layouter, graph) {
  const library = asModule(layouter);
  const task = asModule(`import * as library from ${JSON.stringify(library)};
${placed}
onmessage = ({ data }) => postMessage(placed(library, data));`);
  let worker = null;
  try {
    return await new Promise((resolve, reject) => {
      worker = new Worker(task, { type: "module" });
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = reject;
      worker.postMessage(graph);
    });
  } catch {
    return placed(await import(library), graph);
  } finally {
    worker?.terminate();
    [library, task].forEach((url) => URL.revokeObjectURL(url));
  }
}

const AROUND_LINE = 15; // beside and above the boxes of a line

// The strip in lines no wider than `width`, none of them through a box: each { left, right, top, bottom, nodes, edges },
// the places in the strip and the numbers of what it shows.
export function inLines({ nodes, edges }, sizes, width) {
  const boxes = nodes.map(([x, y], i) => ({ i, left: x - sizes[i][0] / 2, right: x + sizes[i][0] / 2, top: y - sizes[i][1] / 2, bottom: y + sizes[i][1] / 2 }));
  const lines = [];
  let end = -Infinity;
  for (const box of [...boxes].sort((a, b) => a.left - b.left)) {
    const line = lines.at(-1);
    // A new line may begin where no box stands across.
    if (!line || (box.left > end && box.right - line.left + 2 * AROUND_LINE > width)) {
      const left = line ? (end + box.left) / 2 : box.left - AROUND_LINE;
      if (line) line.right = left;
      lines.push({ left, right: 0, top: Infinity, bottom: -Infinity, nodes: [], edges: [] });
    }
    const mine = lines.at(-1);
    mine.nodes.push(box.i);
    mine.top = Math.min(mine.top, box.top);
    mine.bottom = Math.max(mine.bottom, box.bottom);
    end = Math.max(end, box.right);
  }
  if (lines.length) lines.at(-1).right = end + AROUND_LINE;
  edges.forEach((points, i) => {
    const [from, to] = [Math.min(...points.map(([x]) => x)), Math.max(...points.map(([x]) => x))];
    for (const line of lines) {
      if (to < line.left || from > line.right) continue;
      line.edges.push(i);
      for (const [x, y] of points) {
        if (x < line.left || x > line.right) continue;
        line.top = Math.min(line.top, y);
        line.bottom = Math.max(line.bottom, y);
      }
    }
  });
  for (const line of lines) [line.top, line.bottom] = [line.top - AROUND_LINE / 2, line.bottom + AROUND_LINE / 2];
  return lines;
}

// A smooth way through the points.
export function pathThrough(points) {
  const at = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  let path = `M${at(points[0])}`;
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i];
    const middle = i < points.length - 2 ? [(x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2] : points[i + 1];
    path += `Q${at([x, y])} ${at(middle)}`;
  }
  return points.length === 2 ? `${path}L${at(points[1])}` : path;
}
