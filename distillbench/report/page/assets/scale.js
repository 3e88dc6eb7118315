// Scales: from values to places on an axis, with ticks at round numbers.

class Scale {
  /** `domain` and `range` are [low, high]; a logarithmic scale takes positive values only. */
  constructor(domain, range, log) {
    this.log = log;
    this.range = range;
    this.inner = domain.map((value) => this.inside(value));
  }

  /** The value as the axis is divided: itself, or its logarithm. */
  inside(value) {
    return this.log ? Math.log10(value) : value;
  }

  place(value) {
    const [low, high] = this.inner;
    const share = (this.inside(value) - low) / (high - low);
    return this.range[0] + share * (this.range[1] - this.range[0]);
  }

  value(place) {
    const share = (place - this.range[0]) / (this.range[1] - this.range[0]);
    const inner = this.inner[0] + share * (this.inner[1] - this.inner[0]);
    return this.log ? 10 ** inner : inner;
  }

  holds(value) {
    return !this.log || value > 0;
  }

  ticks(count) {
    const [low, high] = this.inner;
    return this.log && high - low > 0.7 ? this.decades(low, high, count) : this.round(low, high, count);
  }

  round(low, high, count) {
    const [from, to] = this.log ? [10 ** low, 10 ** high] : [low, high];
    const raw = (to - from) / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((times) => times * power >= raw * 0.999);
    const first = Math.ceil(from / step - 1e-9);
    const found = [];
    for (let n = first; n * step <= to + step * 1e-9 && found.length < 50; n += 1) {
      found.push(n * step);
    }
    return found;
  }

  decades(low, high, count) {
    const steps = high - low < 1.5 ? [1, 2, 3, 5] : high - low < 3 ? [1, 3] : [1];
    const every = Math.max(1, Math.ceil((high - low) / Math.max(2, count)));
    const found = [];
    for (let power = Math.floor(low); power <= high; power += every) {
      for (const times of steps) {
        const value = times * 10 ** power;
        if (Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9) found.push(value);
      }
    }
    return found;
  }
}

/** [low, high] round the values with some air; a single value gets an interval of its own. */
function extent(values, log) {
  const good = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  if (!good.length) return log ? [1, 10] : [0, 1];
  const inner = good.map((v) => (log ? Math.log10(v) : v));
  let low = inner.reduce((a, b) => Math.min(a, b));
  let high = inner.reduce((a, b) => Math.max(a, b));
  const air = high > low ? (high - low) * 0.06 : Math.abs(low) * 0.1 || 0.5;
  [low, high] = [low - air, high + air];
  return log ? [10 ** low, 10 ** high] : [low, high];
}
