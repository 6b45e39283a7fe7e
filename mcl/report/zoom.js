"use strict";
// Windows of a run: draws every bar of a short window, and the lowest and highest value per span of a long one.
const Windows = (() => {
  const WHISKERS = 1500; // below so many bars each one shows its low-to-high range
  const BIG_MARKS = 400;
  const STEPS = 50000; // beyond so many bars the levels of orders would be a carpet

  // Whole numbers from the four byte planes of little-endian int32.
  const inflate = async (text) => {
    const planes = await inflated(text);
    const n = planes.length / 4, out = new Int32Array(n);
    for (let i = 0; i < n; i++) out[i] = planes[i] | (planes[n + i] << 8) | (planes[2 * n + i] << 16) | (planes[3 * n + i] << 24);
    return out;
  };

  const running = (steps) => { let sum = 0; return Float64Array.from(steps, (step) => (sum += step)); };

  // One overlay: a value per bar, NaN in its holes.
  const overlay = async (line) => {
    const [steps, edges] = await Promise.all([inflate(line.steps), inflate(line.holes)]);
    const values = running(steps).map((value) => value * line.step), holes = running(edges);
    for (let k = 0; k < holes.length; k += 2) values.fill(NaN, holes[k], k + 1 < holes.length ? holes[k + 1] : values.length);
    return { values, protective: line.protective };
  };

  // Columns of the run, from the streams of its `detail`; equity by the books: cash + position · close · tick value.
  const load = async (detail) => {
    const names = ["seconds", "close", "above", "below", "fillBar", "fillQuantity", "fillCenti", "fillTrace"];
    const [seconds, closes, above, below, fillBar, quantity, centi, trace] = await Promise.all(names.map((name) => inflate(detail[name])));
    const close = running(closes), bar = running(fillBar), n = close.length;
    const time = running(seconds).map((s) => (s + detail.start) * 1000);
    const price = Float64Array.from(centi, (c, k) => close[bar[k]] + c / 100);
    const position = new Float64Array(n), equity = new Float64Array(n), money = new Float64Array(n);
    const rolls = new Set(detail.rolls), era = new Int32Array(n); // era: how many rolls came before or on the bar
    let k = 0, held = 0, cash = detail.capital, peak = detail.capital;
    for (let i = 0; i < n; i++) {
      for (; k < bar.length && bar[k] === i; k++) {
        cash -= quantity[k] * price[k] * detail.tickValue + Math.abs(quantity[k]) * detail.commission;
        held += quantity[k];
      }
      era[i] = (i ? era[i - 1] : 0) + (rolls.has(i) ? 1 : 0);
      position[i] = held;
      equity[i] = cash + held * close[i] * detail.tickValue;
      peak = Math.max(peak, equity[i]);
      money[i] = equity[i] - peak;
    }
    const dated = (ticks) => Number((ticks * detail.tick).toPrecision(12));
    const lines = await Promise.all(detail.lines.map(overlay));
    return { lines, time, close, above, below, position, equity, money, bar, quantity, price, trace, dated, era };
  };

  const first = (times, wanted) => {
    let low = 0, high = times.length;
    while (low < high) { const middle = (low + high) >> 1; if (times[middle] < wanted) low = middle + 1; else high = middle; }
    return low;
  };

  // Rows of the lowest `low(i)` and the highest `high(i)` of each span of [from, to), in time order.
  const extremes = (from, to, buckets, low, high) => {
    const width = Math.ceil((to - from) / buckets), points = [];
    for (let start = from; start < to; start += width) {
      const stop = Math.min(start + width, to);
      let lowest = start, highest = start, least = low(start), most = high(start);
      for (let i = start + 1; i < stop; i++) {
        const below = low(i), above = high(i);
        if (below < least) { least = below; lowest = i; }
        if (above > most) { most = above; highest = i; }
      }
      const pair = [[lowest, least], [highest, most]];
      points.push(...(lowest <= highest ? pair : pair.reverse()));
    }
    return points;
  };

  const every = (from, to, value) => Array.from({ length: to - from }, (_, i) => [from + i, value(from + i)]);
  const split = (points, time) => ({ x: points.map(([i]) => (i === null ? null : time[i])), y: points.map(([, value]) => value) });

  // Price points: the low-to-high range of each bar where there is room, its close where there is less, else extremes.
  // In ticks throughout: only what is drawn becomes a price.
  const priced = (run, from, to, buckets) => {
    const low = (i) => run.close[i] - run.below[i], high = (i) => run.close[i] + run.above[i];
    const count = to - from, whiskers = count <= WHISKERS;
    const rows = count > 2 * buckets ? extremes(from, to, buckets, low, high) : every(from, to, (i) => run.close[i]);
    const points = [];
    let last = null;
    for (const [i, ticks] of rows) {
      if (last !== null && run.era[i] !== run.era[last]) points.push([null, null]);
      for (const value of whiskers ? [ticks, low(i), high(i), ticks] : [ticks]) points.push([i, run.dated(value)]);
      last = i;
    }
    return split(points, run.time);
  };

  const lined = (run, values, from, to, buckets) => {
    const value = (i) => values[i];
    return split(to - from > 2 * buckets ? extremes(from, to, buckets, value, value) : every(from, to, value), run.time);
  };

  // An overlay in a window: every value where there is room, its extremes where there is not. Levels of orders at their steps, and only near.
  const laid = (run, line, from, to, buckets) => {
    const value = (i) => (Number.isNaN(line.values[i]) ? null : Number(line.values[i].toPrecision(9)));
    if (line.protective) {
      const points = to - from > STEPS ? [] : every(from, to, value);
      const steps = points.filter(([i, y], k) => k === 0 || k === points.length - 1 || y !== points[k - 1][1] || y !== points[k + 1][1]);
      const turned = ([i]) => i > 0 && run.position[i] * run.position[i - 1] < 0; // the level of another trade
      return split(steps.flatMap((point) => (turned(point) ? [[null, null], point] : [point])), run.time);
    }
    if (to - from <= 2 * buckets) return split(every(from, to, value), run.time);
    const low = (i) => (Number.isNaN(line.values[i]) ? Infinity : line.values[i]), high = (i) => (Number.isNaN(line.values[i]) ? -Infinity : line.values[i]);
    return split(extremes(from, to, buckets, low, high).filter(([, value]) => Number.isFinite(value)), run.time);
  };

  // The traces of a window: four lines, the overlays, then one trace per kind of fill.
  const traces = (run, range, buckets, kinds) => {
    const from = Math.max(0, first(run.time, range[0]) - 1), to = Math.min(run.time.length, first(run.time, range[1]) + 1);
    const found = [priced(run, from, to, buckets), ...[run.equity, run.money, run.position].map((values) => lined(run, values, from, to, buckets))];
    for (const line of run.lines) found.push(laid(run, line, from, to, buckets));
    const begin = first(run.bar, from), end = first(run.bar, to);
    for (let t = found.length, last = t + kinds; t < last; t++) {
      const mine = Array.from({ length: end - begin }, (_, i) => begin + i).filter((k) => run.trace[k] === t);
      found.push({ x: mine.map((k) => run.time[run.bar[k]]), y: mine.map((k) => run.dated(run.price[k])), customdata: mine.map((k) => run.quantity[k]) });
    }
    return { found, bars: to - from, big: end - begin < BIG_MARKS };
  };

  return { load, traces };
})();
