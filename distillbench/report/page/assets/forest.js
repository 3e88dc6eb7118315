// Claims as a forest plot: the difference of each with its 95 % interval, one axis for each metric.

const SIGNS = { holds: "circle", fails: "cross", undecided: "diamond", differ: "square" };

function startForest(host) {
  const measured = DATA.claims.filter((claim) => claim.difference !== null);
  const panels = unique(measured.map((claim) => claim.metric)).map((metric) => {
    const claims = measured.filter((claim) => claim.metric === metric);
    const panel = el("div", { class: "forest" }, el("h3", {}, `Difference in ${metric}`));
    host.append(panel);
    return { claims, panel, rows: claims.map((claim) => forestRow(claim, panel)), axis: panel.appendChild(svg("svg", { "aria-hidden": true })) };
  });
  const draw = () => panels.forEach(drawForest);
  new ResizeObserver(draw).observe(host);
  draw();
}

function forestRow(claim, panel) {
  const interval = claim.low === null ? "no interval" : `${short(claim.low)} to ${short(claim.high)}`;
  const text = `${claim.text}: ${claim.word}, ${short(claim.difference)}, ${interval}`;
  const drawing = svg("svg", { role: "img", "aria-label": text });
  panel.append(el("div", { class: "claim" }, el("p", {}, el("b", { class: claim.verdict }, claim.word), ` ${claim.text}`), drawing));
  return drawing;
}

function drawForest({ claims, panel, rows, axis }) {
  const width = rows[0].parentNode.lastChild.clientWidth || panel.clientWidth;
  if (!width) return;
  const ends = claims.flatMap((c) => [c.low ?? c.difference, c.high ?? c.difference]);
  const scale = new Scale(extent([...ends, 0], false), [10, width - 10], false);
  rows.forEach((drawing, n) => {
    const claim = claims[n];
    const x = scale.place(claim.difference);
    drawing.setAttribute("viewBox", `0 0 ${width} 26`);
    drawing.replaceChildren(
      svg("line", { x1: scale.place(0), x2: scale.place(0), y1: 0, y2: 26, class: "zero" }),
      claim.low === null ? null : svg("line", { x1: scale.place(claim.low), x2: scale.place(claim.high), y1: 13, y2: 13, class: `interval ${claim.verdict}` }),
      shape(SIGNS[claim.verdict], 6, { class: `sign ${claim.verdict}`, transform: `translate(${x} 13)` }));
  });
  axis.setAttribute("viewBox", `0 0 ${width} 24`);
  axis.replaceChildren(...scale.ticks(Math.floor(width / 80)).flatMap((value) => [
    svg("line", { x1: scale.place(value), x2: scale.place(value), y1: 0, y2: 5, class: "zero" }),
    svg("text", { x: scale.place(value), y: 18, "text-anchor": "middle" }, short(value)),
  ]));
}
