// Groups by block, which is what their names share before a dot: a long list folds by them.

const FULL_BLOCK = 24; // groups that a block holds before it has blocks of its own
const NEARLY_ALL = 0.8; // of all groups: a block of so many would be the list once more
const WORTH_A_LINE = 3; // groups on average that make it worth a line of its own

// For each of `names`, the blocks that it lies in, the outer first: [["encoder.0", "encoder.0.mlp"], …]. All empty
// where there would be one block alone.
export function blocksOf(names) {
  const paths = names.map((name) => name.split("."));
  const found = names.map(() => []);
  const split = (members, depth, isRoot) => {
    const inner = members.filter((i) => paths[i].length > depth + 1);
    const children = grouped(inner, (i) => paths[i][depth]);
    if (children.size === 1 && inner.length === members.length) return split(members, depth + 1, isRoot);
    if (members.length <= FULL_BLOCK && !isRoot) return;
    if (inner.length < WORTH_A_LINE * children.size) return;
    for (const [, own] of children) {
      if (isRoot && own.length > NEARLY_ALL * members.length) {
        split(own, depth + 1, true);
        continue;
      }
      const block = paths[own[0]].slice(0, sharedDepth(own)).join(".");
      own.forEach((i) => found[i].push(block));
      split(own, depth + 1, false);
    }
  };
  // How many parts all names of a block begin with: 'backbone.encoder' is one block, not one in another.
  const sharedDepth = (members) => {
    const [first, ...rest] = members.map((i) => paths[i]);
    let depth = first.length - 1;
    for (const other of rest) {
      let same = 0;
      while (same < Math.min(depth, other.length - 1) && other[same] === first[same]) same++;
      depth = same;
    }
    return depth;
  };
  split(names.map((_, i) => i), 0, true);
  return new Set(found.map(([outer = ""]) => outer)).size > 1 ? found : names.map(() => []);
}

function grouped(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (groups.has(key)) groups.get(key).push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
