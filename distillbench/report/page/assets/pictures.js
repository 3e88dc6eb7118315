// One sample as something to look at: a picture, or a cloud of points.

function drawingOf(set, row, place, whole = false) {
  const made = set.rows[row].pictures[place];
  const name = `${set.rows[row].label}: ${set.prompts[place]}`;
  if (set.kind === "points") return cloud(made, areaOf(set, place), name);
  const image = el("img", { src: made.src, alt: name, loading: "lazy", decoding: "async" });
  if (made.side < 200) image.classList.add("crisp");
  if (whole && made.full) showWhole(image, made);
  return image;
}

/** The whole of a large picture, or a clip that plays, once it is there. */
function showWhole(image, made) {
  const full = new Image();
  full.onload = () => { image.src = made.full; };
  full.src = made.full;
}

/** A tile plays its clip while it is pointed at or has the focus, and stands still otherwise. */
function playOver(tile, made) {
  if (!made.moves) return tile;
  const image = tile.querySelector("img");
  for (const event of ["pointerenter", "focus"]) tile.addEventListener(event, () => { image.src = made.full; });
  for (const event of ["pointerleave", "blur"]) tile.addEventListener(event, () => { image.src = made.src; });
  return tile;
}

/** The square that holds the points of all rows but the far ones. */
function areaOf(set, place) {
  set.areas ??= [];
  return (set.areas[place] ??= areaOfAll(set, place));
}

function areaOfAll(set, place) {
  const points = set.rows.flatMap((row) => row.pictures[place]);
  const ends = [0, 1].map((axis) => {
    const sorted = points.map((p) => p[axis]).sort((a, b) => a - b);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    return [at(0.01), at(0.99)];
  });
  const reach = 0.6 * Math.max(ends[0][1] - ends[0][0], ends[1][1] - ends[1][0]) || 1;
  return { x: (ends[0][0] + ends[0][1]) / 2, y: (ends[1][0] + ends[1][1]) / 2, reach };
}

function cloud(points, area, name) {
  const clamp = (value) => Math.max(-1, Math.min(1, value)) * 98;
  const dots = points.map(([x, y]) => {
    const [cx, cy] = [clamp((x - area.x) / area.reach), clamp((area.y - y) / area.reach)];
    return `M${cx.toFixed(1)} ${cy.toFixed(1)}h0`;
  });
  return svg("svg", { viewBox: "-100 -100 200 200", class: "cloud", role: "img", "aria-label": name },
    svg("path", { d: dots.join("") }));
}
