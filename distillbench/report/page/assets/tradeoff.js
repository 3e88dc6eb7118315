// Quality against cost: every row as a point, those that nothing beats in both on a line.

const COSTS = ["nfe", "evaluations", "sample_ms", "train_seconds", "device_hours", "teacher_nfe", "peak_memory_mib"];

/** Points to which no ranked one is as good in both and better in one, by rising cost. */
function paretoFront(points, higher) {
  const better = (a, b) => (higher ? a > b : a < b);
  const rivals = points.filter((p) => p.row.ranked && !p.row.metrics[p.metric].partial);
  return rivals
    .filter((p) => !rivals.some((q) => q.x <= p.x && !better(p.y, q.y) && (q.x < p.x || better(q.y, p.y))))
    .sort((a, b) => a.x - b.x);
}

function startTradeoff(host) {
  const ranked = DATA.metrics.map((m, n) => [n, m]).filter(([, m]) => m.higher !== null);
  const costs = COSTS.filter((name) => DATA.rows.some((row) => AXES[name][1](row) !== null && AXES[name][1](row) !== undefined));
  const varies = (name) => unique(DATA.rows.filter((row) => row.ranked).map(AXES[name][1])).length > 1;
  const state = { x: costs.find(varies) ?? costs[0], y: ranked[0][0] };
  const bar = el("div", { class: "bar" });
  host.append(bar);
  const plot = new Plot(host, "Quality against cost");
  const said = el("p", { class: "note" });
  host.append(said);
  const xlog = checkbox("log x", true, () => show(true));

  function show(keepScales = false) {
    const metric = DATA.metrics[state.y];
    const [label, read] = AXES[state.x];
    const rows = metric.rows.map((n) => DATA.rows[n]).filter((row) => row.final && Number.isFinite(read(row)));
    if (!keepScales) xlog.box.checked = swept(rows.map(read));
    const names = unique(rows.map((row) => row.name));
    const few = rows.length <= 16;
    const series = names.map((name, n) => {
      const own = rows.filter((row) => row.name === name);
      const points = own.map((row) => ({ ...pointOf(row, read(row), metric), metric: metric.id }));
      if (few) for (const point of points) point.text = state.x === "nfe" ? name : `${name}, ${point.row.nfe}`;
      return { name, ...look(n), size: 6, points, hollow: !own[0].ranked };
    });
    const front = paretoFront(series.flatMap((s) => s.points), metric.higher);
    const on = front.map((p) => `${p.row.name}, NFE ${p.row.nfe}`).join("; ");
    said.textContent = front.length
      ? `On the front (nothing ranked is as good and cheaper): ${on}. Hollow marks are teachers; they take no part.`
      : "Nothing ranked has both numbers yet.";
    plot.show({
      x: { label, log: xlog.box.checked, values: state.x === "nfe" ? valuesOf(series) : null }, y: { label: metric.label + betterText(metric), log: false }, series, front,
    });
  }
  bar.append(
    select("Quality", ranked.map(([n, m]) => [n, m.label]), state.y, (v) => { state.y = Number(v); show(); }).field,
    select("Cost", costs.map((name) => [name, AXES[name][0]]), state.x, (v) => { state.x = v; show(); }).field,
    xlog.field);
  show();
}
