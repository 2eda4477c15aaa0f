// Rows of a long list: those in sight follow the hand in every frame, the others when it rests. Which are in sight
// the browser tells, since reading where a list stands would lay the page out between two writes.

const REST = 80; // milliseconds after the last move
const AROUND = "64px 0px"; // above and below, whose rows are as good as in sight

// `paintRow` paints one of the rows, { node, … } each, that the painter is given with of(rows); paint() paints them,
// those in sight too only so often that `every` milliseconds lie between, where they are beside what the hand holds.
export function rowPainter(list, on, paintRow, every = 0) {
  const hidden = new Set();
  let [rows, late, painted] = [[], 0, 0];
  const paintAll = () => {
    clearTimeout(late);
    late = 0;
    rows.forEach(paintRow);
  };
  const observer = new IntersectionObserver((entries) => {
    const before = hidden.size;
    for (const { target, isIntersecting } of entries) isIntersecting ? hidden.delete(target) : hidden.add(target);
    if (late && hidden.size < before) paintAll();
  }, { root: list, rootMargin: AROUND });
  on.end(() => (clearTimeout(late), observer.disconnect()));
  return {
    of(next) {
      observer.disconnect();
      hidden.clear();
      clearTimeout(late);
      [rows, late, painted] = [next, 0, 0];
      next.forEach(({ node }) => observer.observe(node));
    },
    paint() {
      const due = performance.now() - painted >= every;
      const shown = due ? rows.filter(({ node }) => !hidden.has(node)) : [];
      if (due) painted = performance.now();
      shown.forEach(paintRow);
      clearTimeout(late);
      late = shown.length < rows.length ? setTimeout(paintAll, REST) : 0;
    },
  };
}
