// Curves: a metric over what a row is or cost, with the spread of its seeds; and training losses.

const AXES = {
  nfe: ["NFE", (row) => row.nfe],
  evaluations: ["network evaluations per sample", (row) => row.evaluations],
  updates: ["student updates", (row) => row.updates],
  train_seconds: ["training seconds", (row) => row.cost.train_seconds],
  device_hours: ["training device-hours", (row) => row.cost.device_hours],
  sample_ms: ["ms per sample", (row) => row.cost.sample_ms],
  teacher_nfe: ["teacher evaluations in training", (row) => row.cost.teacher_nfe],
  peak_memory_mib: ["peak MiB in training", (row) => row.cost.peak_memory_mib],
};
const ON_THE_WAY = new Set(["updates", "train_seconds", "device_hours"]);

/** Axes on which rows differ: those above, and every number that the experiment varies. */
function axesOf(rows) {
  const varied = unique(rows.flatMap((row) => Object.keys(row.varied)))
    .map((path) => [path, [path.split(".").at(-1).replaceAll("_", " "), (row) => row.varied[path]]]);
  return Object.entries(AXES).filter(([name]) => name !== "nfe").concat(varied)
    .filter(([, [, read]]) => unique(rows.map(read).filter((v) => v !== null && v !== undefined)).length > 1)
    .reduce((all, [name, axis]) => ({ ...all, [name]: axis }), { nfe: AXES.nfe });
}

/** `TCD (gamma=0.3, eta=1)` without its `gamma=..` on an axis of gamma. */
function nameWithout(name, axis) {
  const parts = /^(.*) \((.*)\)$/.exec(name);
  if (!parts) return name;
  const kept = parts[2].split(", ").filter((term) => !term.startsWith(`${axis.split(".").at(-1)}=`));
  return kept.length ? `${parts[1]} (${kept.join(", ")})` : parts[1];
}

/** A teacher is a level, but where it differs along the axis. */
function isLevel(row, axis, rows) {
  if (row.ranked) return false;
  const same = rows.filter((r) => !r.ranked && r.name === row.name);
  return axis !== "nfe" || same.length < 2;
}

function seriesOf(rows, axis, metric) {
  const [, read] = axesOf(DATA.rows)[axis];
  const lines = rows.filter((row) => !isLevel(row, axis, rows));
  const steps = axis !== "nfe" && axis !== "evaluations" && unique(lines.map((row) => row.nfe)).length > 1;
  const found = new Map();
  for (const row of lines) {
    const x = read(row);
    if (x === null || x === undefined) continue;
    const base = nameWithout(row.name, axis) + (steps ? `, NFE ${row.nfe}` : "");
    let name = base;
    for (let n = 2; found.get(name)?.points.some((p) => p.x === x); n += 1) name = `${base} (${n})`;
    if (!found.has(name)) found.set(name, { name, points: [], ranked: row.ranked });
    found.get(name).points.push(pointOf(row, x, metric));
  }
  for (const series of found.values()) series.points.sort((a, b) => a.x - b.x);
  return [...found.values()].map((series, n) => ({ ...series, ...look(n), line: true, band: true, hollow: !series.ranked }));
}

function pointOf(row, x, metric) {
  const value = row.metrics[metric.id];
  const error = value.stderr === null ? "" : ` \u00b1 ${short(value.stderr)}`;
  const seeds = value.seeds.length > 1 ? `, ${value.seeds.length} seeds ${value.seeds.map(short).join(", ")}` : "";
  const partial = value.partial ? ", of a part of its seeds" : "";
  return {
    x, y: value.value, low: Math.min(...value.seeds), high: Math.max(...value.seeds), row,
    title: `${row.name}, NFE ${row.nfe}${row.updates ? `, ${row.updates} updates` : ""}: ` +
      `${metric.label} ${short(value.value)}${error} at ${short(x)}${seeds}${partial}`,
  };
}

function betterText(metric) {
  return metric.higher === null ? "" : metric.higher ? " (higher is better)" : " (lower is better)";
}

function swept(values) {
  const good = values.filter((v) => v > 0);
  return good.length === values.length && good.length > 1 && Math.max(...good) / Math.min(...good) >= 8;
}

function valuesOf(series) {
  return unique(series.flatMap((one) => one.points.map((p) => p.x)));
}

/** NFE where rows differ in it, else what the experiment varies: one place says nothing of a curve. */
function firstAxis(axes) {
  if (unique(DATA.rows.filter((row) => row.ranked).map((row) => row.nfe)).length > 1) return "nfe";
  return Object.keys(axes).find((name) => !AXES[name]) ?? (axes.updates ? "updates" : "nfe");
}

function startCurves(host) {
  const axes = axesOf(DATA.rows);
  const wished = DATA.curves.find((c) => axes[c.x]) ?? { x: firstAxis(axes), y: "" };
  const state = { x: wished.x, y: Math.max(0, DATA.metrics.findIndex((m) => m.id === wished.y)) };
  const bar = el("div", { class: "bar" });
  host.append(bar);
  const plot = new Plot(host, "Curves");
  const [xlog, ylog] = ["log x", "log y"].map((text) => checkbox(text, false, () => show(true)));

  function show(keepScales = false) {
    const metric = DATA.metrics[state.y];
    const [label, read] = axes[state.x];
    const rows = metric.rows.map((n) => DATA.rows[n]).filter((row) => row.final || ON_THE_WAY.has(state.x));
    if (!keepScales) xlog.box.checked = swept(rows.filter((row) => !isLevel(row, state.x, rows)).map(read));
    const levels = rows.filter((row) => row.final && isLevel(row, state.x, rows))
      .map((row) => ({ name: `${row.name}, NFE ${row.nfe}`, y: row.metrics[metric.id].value }));
    const series = seriesOf(rows, state.x, metric);
    plot.show({
      x: { label, log: xlog.box.checked, values: valuesOf(series) },
      y: { label: metric.label + betterText(metric), log: ylog.box.checked }, series, levels,
    });
  }
  const change = (name) => (value) => { state[name] = name === "y" ? Number(value) : value; show(); };
  bar.append(
    select("Metric", DATA.metrics.map((m, n) => [n, m.label]), state.y, change("y")).field,
    select("Over", Object.entries(axes).map(([name, [text]]) => [name, text]), state.x, change("x")).field,
    xlog.field, ylog.field);
  show();
}

/** Whether the typical losses of runs are so far apart that only a logarithmic axis shows all. */
function farApart(runs, name) {
  const values = runs.map((run) => run.losses[name].filter((v) => v !== null).sort((a, b) => a - b));
  if (values.some((own) => !own.length || own[0] <= 0)) return false;
  const middles = values.map((own) => own[Math.floor(own.length / 2)]);
  return Math.max(...middles) / Math.min(...middles) > 10;
}

/** Losses weighted back over the steps: 0 leaves them as they are. */
function smoothed(values, weight) {
  let last = null;
  return values.map((value) => {
    if (value === null) return null;
    last = last === null ? value : weight * last + (1 - weight) * value;
    return last;
  });
}

/** Trainings as lines: those of one row with the same steps together, unless each is asked for. */
function linesOf(runs, name, weight, apart) {
  const groups = new Map();
  for (const run of runs) {
    const key = apart ? `${run.name}, seed ${run.seed}` : `${run.name}\n${run.steps.length} ${run.steps.at(-1)}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push({ ...run, values: smoothed(run.losses[name], weight) });
  }
  const lines = [...groups.values()].map((own) => ({
    name: apart || own.length === 1 ? `${own[0].name}, seed ${own[0].seed}` : `${own[0].name}, ${own.length} seeds`,
    points: own[0].steps.map((x, at) => lossPoint(own, x, at)).filter((p) => p.y !== null),
  }));
  return lines.map((line, n) => ({ ...line, ...look(n), shape: null, line: true, band: true }));
}

/** The mean over the seeds of a row at one step, and the lowest and the highest of them. */
function lossPoint(runs, x, at) {
  const values = runs.map((run) => run.values[at]).filter((v) => v !== null);
  if (!values.length) return { x, y: null };
  const y = values.reduce((a, b) => a + b) / values.length;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const spread = values.length > 1 ? ` (${values.length} seeds, ${short(low)} to ${short(high)})` : "";
  return { x, y, low, high, title: `${runs[0].name}: ${short(y)}${spread} at update ${x}` };
}

function startLosses(host) {
  const names = unique(DATA.losses.flatMap((run) => Object.keys(run.losses)));
  const state = { name: names.find((n) => n.endsWith("loss")) ?? names[0], weight: 0 };
  const bar = el("div", { class: "bar" });
  host.append(bar);
  const plot = new Plot(host, "Training losses");
  const [xlog, ylog, apart] = ["log x", "log y", "each seed"].map((text) => checkbox(text, false, () => show()));
  const several = unique(DATA.losses.map((run) => run.name)).length < DATA.losses.length;
  const choose = (name) => {
    state.name = name;
    ylog.box.checked = farApart(DATA.losses.filter((run) => run.losses[name]), name);
    show();
  };
  const slider = el("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: 0,
    on: { input: () => { state.weight = Number(slider.value); show(true); } } });

  function show(keepView = false) {
    const runs = DATA.losses.filter((run) => run.losses[state.name]);
    const series = linesOf(runs, state.name, state.weight, apart.box.checked);
    plot.show({ x: { label: "update", log: xlog.box.checked }, y: { label: state.name, log: ylog.box.checked }, series }, keepView);
  }
  bar.append(
    select("Loss", names.map((name) => [name, name]), state.name, choose).field,
    el("label", {}, el("span", {}, "Smoothing"), slider), xlog.field, ylog.field, ...(several ? [apart.field] : []));
  choose(state.name);
}
