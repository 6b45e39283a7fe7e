"use strict";
// Windows of a run: draws every bar of a short window, and the lowest and highest value per span of a long one.
const Windows = (() => {
  const WHISKERS = 1500; // below so many bars each one shows its low-to-high range
  const BIG_MARKS = 400;
  const HOUR = 3600000, CLOSED = 86400000, DAY = 86400000; // ms; a line of prices does not cross a longer time without bars
  const STEPS = 50000; // beyond so many bars the levels of orders would be a carpet

  // In tasks of their own: the page answers in between.
  const inflate = async (text, side) => { await new Promise((done) => { setTimeout(done); }); return Packed.integers(text, side); };

  const running = (steps) => { let sum = 0; return Float64Array.from(steps, (step) => (sum += step)); };

  // One overlay: a value per bar, NaN in its holes.
  const overlay = async (line) => {
    const [steps, edges] = await Promise.all([inflate(line.steps), inflate(line.holes)]);
    const whole = line.order === 2 ? running(running(steps)) : running(steps), values = whole.map((value) => value * line.step), holes = running(edges);
    for (let k = 0; k < holes.length; k += 2) values.fill(NaN, holes[k], k + 1 < holes.length ? holes[k + 1] : values.length);
    return { values, name: line.name, onPrice: line.onPrice, protective: line.protective };
  };

  const inflateAll = async (holder, names) => Object.fromEntries(await Promise.all(names.map(async (name) => [name, await inflate(holder[name])])));

  // The trades, prices in ticks, money in USD. `dated` is the exit in the contract that it happened in.
  const tradesOf = async (detail) => {
    const names = ["entry", "bars", "quantity", "entryCenti", "exitCenti", "gapCenti", "net", "commission", "worst", "best", "reason"];
    const t = await inflateAll(detail, names), entry = running(t.entry), price = running(t.entryCenti);
    return Array.from(entry, (bar, k) => ({
      entry: bar, exit: bar + t.bars[k], bars: t.bars[k], quantity: t.quantity[k],
      entryPrice: price[k] / 100, exitPrice: (price[k] + t.exitCenti[k]) / 100, datedExit: (price[k] + t.exitCenti[k] + t.gapCenti[k]) / 100,
      net: t.net[k] / 100, commission: t.commission[k] / 100, worst: t.worst[k] / 100, best: t.best[k] / 100, reason: detail.reasons[t.reason[k]],
    }));
  };

  // Columns of the run, from the streams of its `detail`; equity by the books: cash + position · close · tick value.
  const load = async (detail) => {
    const volume = await inflate(detail.volume), traded = Packed.digits(volume, 31), body = await inflate(detail.body, traded);
    const shape = Packed.digits(body, 3).map((size, i) => size + 4 * Math.min(traded[i], 7));
    const gap = await inflate(detail.gap, traded), upper = await inflate(detail.upper, shape), lower = await inflate(detail.lower, shape);
    const columns = await inflateAll(detail, ["seconds", "fillBar", "fillQuantity", "fillCenti", "fillTrace"]), { fillQuantity: quantity, fillTrace: trace } = columns;
    const n = volume.length, open = new Float64Array(n), high = new Float64Array(n), low = new Float64Array(n), close = new Float64Array(n);
    for (let i = 0, before = detail.firstOpen; i < n; i++) {
      open[i] = before + gap[i];
      before = close[i] = open[i] + body[i];
      high[i] = Math.max(open[i], close[i]) + upper[i];
      low[i] = Math.min(open[i], close[i]) - lower[i];
    }
    const time = running(columns.seconds.map((s) => s + detail.usual)).map((s) => (s + detail.start) * 1000);
    const bar = running(columns.fillBar), price = Float64Array.from(columns.fillCenti, (c, k) => close[bar[k]] + c / 100);
    const position = new Float64Array(n), equity = new Float64Array(n), money = new Float64Array(n);
    const rolls = new Set(detail.rolls), era = new Int32Array(n), closed = new Int32Array(n); // how many rolls, and closed weekends, came before or on the bar
    const whole = detail.usual * 1000 >= DAY; // bars of whole sessions
    let k = 0, held = 0, cash = detail.capital, peak = detail.capital;
    for (let i = 0; i < n; i++) {
      for (; k < bar.length && bar[k] === i; k++) {
        cash -= quantity[k] * price[k] * detail.tickValue + Math.abs(quantity[k]) * detail.commission;
        held += quantity[k];
      }
      era[i] = (i ? era[i - 1] : 0) + (rolls.has(i) ? 1 : 0);
      closed[i] = (i ? closed[i - 1] : 0) + (i && !whole && time[i] - time[i - 1] > CLOSED ? 1 : 0);
      position[i] = held;
      equity[i] = cash + held * close[i] * detail.tickValue;
      peak = Math.max(peak, equity[i]);
      money[i] = equity[i] - peak;
    }
    const dated = (ticks) => Number((ticks * detail.tick).toPrecision(12));
    const [lines, trades] = await Promise.all([Promise.all(detail.lines.map(overlay)), tradesOf(detail.trades)]);
    return { lines, trades, time, open, high, low, close, volume, position, equity, money, bar, quantity, price, trace, dated, era, closed, rolls, usual: detail.usual * 1000, capital: detail.capital };
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

  // Whether a line of prices is broken between two bars: at a roll, and over a weekend unless a span of the chart is longer than a session.
  const apart = (run, from, to, buckets) => {
    const near = run.time[to - 1] - run.time[from] <= buckets * DAY;
    return (a, b) => run.era[a] !== run.era[b] || (near && run.closed[a] !== run.closed[b]);
  };

  // Price points: the low-to-high range of each bar where there is room, its close where there is less, else extremes.
  // In ticks throughout: only what is drawn becomes a price.
  const priced = (run, from, to, buckets) => {
    const low = (i) => run.low[i], high = (i) => run.high[i];
    const count = to - from, whiskers = count <= WHISKERS;
    const rows = count > 2 * buckets ? extremes(from, to, buckets, low, high) : every(from, to, (i) => run.close[i]);
    const points = [], broken = apart(run, from, to, buckets);
    let last = null;
    for (const [i, ticks] of rows) {
      if (last !== null && broken(i, last)) points.push([null, null]);
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
    const broken = apart(run, from, to, buckets); // an indicator of prices goes over a roll, not over a weekend
    const parted = (points) => points.flatMap((point, k) => (line.onPrice && k && run.era[point[0]] === run.era[points[k - 1][0]] && broken(point[0], points[k - 1][0]) ? [[null, null], point] : [point]));
    if (to - from <= 2 * buckets) return split(parted(every(from, to, value)), run.time);
    const low = (i) => (Number.isNaN(line.values[i]) ? Infinity : line.values[i]), high = (i) => (Number.isNaN(line.values[i]) ? -Infinity : line.values[i]);
    return split(parted(extremes(from, to, buckets, low, high).filter(([, value]) => Number.isFinite(value))), run.time);
  };

  // The lowest and the highest equity of [from, to) in % of the start capital: the range of the axis on the right.
  const percent = (run, from, to) => {
    let lowest = from, highest = from;
    for (let i = from + 1; i < to; i++) { if (run.equity[i] < run.equity[lowest]) lowest = i; if (run.equity[i] > run.equity[highest]) highest = i; }
    return { x: [lowest, highest].map((i) => run.time[i]), y: [lowest, highest].map((i) => 100 * (run.equity[i] / run.capital - 1)) };
  };

  // The times without a session in and around a short window, which its axis leaves out.
  const closedTimes = (run, range) => {
    const around = range[1] - range[0], from = Math.max(1, first(run.time, range[0] - around)), to = Math.min(run.time.length, first(run.time, range[1] + around) + 1);
    const inside = first(run.time, range[1]) - first(run.time, range[0]), breaks = [];
    if (inside > WHISKERS || run.usual >= DAY) return breaks;
    for (let i = from; i < to; i++) {
      if (run.time[i] - run.time[i - 1] >= run.usual + HOUR) breaks.push({ bounds: [run.time[i - 1] + run.usual / 2, run.time[i] - run.usual / 2].map((time) => new Date(time).toISOString().slice(0, 23).replace("T", " ")) });
    }
    return breaks;
  };

  // Lines from entry to exit of the trades that touch the window, gains and losses apart.
  const connected = (run, from, to, most) => {
    const seen = run.trades.filter((trade) => trade.entry < to && trade.exit >= from), few = seen.length <= most ? seen : [];
    return [few.filter((trade) => trade.net > 0), few.filter((trade) => trade.net <= 0)].map((trades) => ({
      x: trades.flatMap((trade) => [run.time[trade.entry], run.time[trade.exit], null]),
      y: trades.flatMap((trade) => [run.dated(trade.entryPrice), run.dated(trade.datedExit), null]),
    }));
  };

  // Candles and volume of [from, to), or neither.
  const candled = (run, from, to, visible) => {
    const rows = visible ? Array.from({ length: to - from }, (_, i) => from + i) : [], x = rows.map((i) => run.time[i]);
    const column = (ticks) => rows.map((i) => run.dated(ticks[i]));
    return [
      { visible, x, open: column(run.open), high: column(run.high), low: column(run.low), close: column(run.close) },
      { visible, x, y: rows.map((i) => run.volume[i]) },
    ];
  };

  // The traces of a window: four lines, the range of the axis of %, the overlays, the connectors, candles and volume, then one trace per kind of fill.
  const traces = (run, range, { buckets, candles, connectors }, kinds) => {
    const from = Math.max(0, first(run.time, range[0]) - 1), to = Math.min(run.time.length, first(run.time, range[1]) + 1);
    const near = to - from < candles, price = near ? { x: [], y: [] } : priced(run, from, to, buckets);
    const found = [price, ...[run.equity, run.money, run.position].map((values) => lined(run, values, from, to, buckets)), percent(run, from, to)];
    for (const line of run.lines) found.push(laid(run, line, from, to, buckets));
    found.push(...connected(run, from, to, connectors), ...candled(run, from, to, near));
    const begin = first(run.bar, from), end = first(run.bar, to);
    for (let t = found.length, last = t + kinds; t < last; t++) {
      const mine = Array.from({ length: end - begin }, (_, i) => begin + i).filter((k) => run.trace[k] === t);
      found.push({ x: mine.map((k) => run.time[run.bar[k]]), y: mine.map((k) => run.dated(run.price[k])), customdata: mine.map((k) => run.quantity[k]) });
    }
    return { found, bars: to - from, big: end - begin < BIG_MARKS };
  };

  // The row of the bar that is nearest to a time.
  const nearest = (run, time) => {
    const after = Math.min(first(run.time, time), run.time.length - 1), before = Math.max(after - 1, 0);
    return time - run.time[before] < run.time[after] - time ? before : after;
  };

  return { load, traces, first, nearest, closedTimes };
})();
