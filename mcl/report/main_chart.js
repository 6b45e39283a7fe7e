"use strict";
// The main chart of a run: a window is drawn from all bars, one line over all panels says what was so at a moment, and each trade can be shown.
const mainChart = ({ holder, figure, shown, resolve, legend }) => {
  const styled = (value) => resolve(value, getComputedStyle(document.documentElement));
  const controls = document.querySelector(`[data-controls="${holder.id}"]`), sentence = document.getElementById(`${holder.id}-trade`);
  const kinds = figure.data.filter((trace) => trace.mode === "markers").length;
  let loading = null, current = null, rolls = false;
  const run = () => (loading ??= Windows.load(figure.detail)); // when somebody looks closer: it takes a moment
  const milliseconds = (value) => (typeof value === "number" ? value : Date.parse(value.replace(" ", "T") + "Z"));
  const range = () => holder.layout.xaxis.range.map(milliseconds);

  // After each change of the time range: draw the window again from all bars.
  const refine = async () => {
    const columns = await run(), { found, bars, big } = Windows.traces(columns, range(), figure, kinds);
    holder.layout.xaxis.rangebreaks = Windows.closedTimes(columns, range());
    const size = (trace, k) => (trace.mode === "markers" ? { type: big ? "scatter" : figure.data[k].type, marker: { ...trace.marker, size: big ? 11 : figure.data[k].marker.size, opacity: big ? 1 : figure.data[k].marker.opacity } } : {});
    const data = holder.data.map((trace, k) => ({ ...trace, ...found[k], ...size(trace, k) }));
    await Plotly.react(holder, data, holder.layout, shown(figure)); // restyle would forget that x is a date
    holder.dataset.bars = String(bars);
  };
  // In a task of its own: the window moves at once, and of several moves in a row only the last is drawn anew.
  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(refine); };

  // ------------------------------------------------------------------------------------------------------------ words
  const usd = (value) => value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const signed = (value) => (value > 0 ? "+" : "") + usd(value);
  const decimals = Math.max(0, Math.ceil(-Math.log10(figure.detail.tick) - 1e-9));
  const price = (columns, ticks) => columns.dated(ticks).toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals + 2 });
  const moment = (time) => new Date(time).toISOString().slice(0, 16).replace("T", " ");
  const held = (contracts) => (contracts > 0 ? `long ${contracts}` : contracts < 0 ? `short ${-contracts}` : "flat");
  const plural = (count, noun) => `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;

  // What was so at the close of bar `i`: pairs of a name and a value.
  const facts = (columns, i) => {
    const at = (ticks) => price(columns, ticks), fills = [];
    for (let k = Windows.first(columns.bar, i); columns.bar[k] === i; k++) {
      fills.push(`${columns.quantity[k] > 0 ? "bought" : "sold"} ${Math.abs(columns.quantity[k])} at ${at(columns.price[k])}`);
    }
    const lines = columns.lines.filter((line) => !Number.isNaN(line.values[i]));
    const value = (line) => (line.protective ? line.values[i].toFixed(decimals) : line.onPrice ? line.values[i].toFixed(decimals + 1) : String(Number(line.values[i].toPrecision(6))));
    return [
      ["Price", at(columns.close[i])],
      ["Open, high, low", [columns.open, columns.high, columns.low].map((ticks) => at(ticks[i])).join(", ")],
      ["Volume", columns.volume[i].toLocaleString("en-US")],
      ["Position", held(columns.position[i])],
      ...(fills.length ? [[columns.rolls.has(i) ? "Fills, roll" : "Fills", fills.join("; ")]] : []),
      ["Equity", usd(columns.equity[i]) + " USD"],
      ["Drawdown", usd(columns.money[i]) + " USD"],
      ...lines.map((line) => [line.name, value(line)]),
    ];
  };

  const told = (columns, k) => {
    const trade = columns.trades[k], still = trade.reason === "end";
    const open = `Trade ${k + 1} of ${columns.trades.length}: ${held(trade.quantity)} at ${price(columns, trade.entryPrice)} on ${moment(columns.time[trade.entry])}`;
    const closed = still ? `still open, marked at ${price(columns, trade.exitPrice)}` : `closed at ${price(columns, trade.exitPrice)} on ${moment(columns.time[trade.exit])} by ${trade.reason}`;
    return `${open}, ${closed}, after ${plural(trade.bars, "bar")}. Net ${signed(trade.net)} USD with ${usd(trade.commission)} commission; open result from ${usd(trade.worst)} to ${signed(trade.best)} USD.`;
  };

  // ------------------------------------------------------------------------------------------------------- hover line
  const rule = document.createElement("div"), panel = document.createElement("dl");
  rule.className = "hover-line"; panel.className = "hover-facts"; rule.hidden = panel.hidden = true;
  const point = async (event) => {
    const columns = await run(), { _size: size, xaxis } = holder._fullLayout, box = holder.getBoundingClientRect();
    const share = (event.clientX - box.left - size.l) / size.w;
    if (share < 0 || share > 1) return away();
    const i = Windows.nearest(columns, xaxis.p2l(share * size.w)), x = size.l + xaxis.l2p(columns.time[i]);
    const rows = [["Time", moment(columns.time[i]) + " UTC"], ...facts(columns, i)];
    panel.replaceChildren(...rows.flatMap(([name, value]) => ["dt", "dd"].map((tag, part) => Object.assign(document.createElement(tag), { textContent: part ? value : name }))));
    holder.append(rule);
    holder.parentElement.append(panel); // on a phone it stands below the chart
    rule.hidden = panel.hidden = false;
    Object.assign(rule.style, { left: `${x}px`, top: `${size.t}px`, height: `${size.h}px` });
    const right = size.l + size.w - panel.offsetWidth - 6;
    Object.assign(panel.style, { left: `${share < 0.5 ? right : size.l + 6}px`, top: `${size.t + 6}px` }); // in the other half: it hides nothing near
    holder.dataset.bar = String(i);
  };
  const away = () => { rule.hidden = panel.hidden = true; };
  holder.addEventListener("pointermove", point);
  holder.addEventListener("pointerdown", point);
  holder.addEventListener("pointerleave", away);

  // ----------------------------------------------------------------------------------------------------------- trades
  const shapes = (columns) => {
    const lines = [...figure.layout.shapes, ...(rolls ? figure.rollLines : [])];
    if (current === null) return styled(lines);
    const trade = columns.trades[current], place = { x0: columns.time[trade.entry], x1: columns.time[trade.exit], y0: 0, y1: 1 };
    const look = { type: "rect", xref: "x", yref: "paper", layer: "below", line: { width: 0 }, fillcolor: trade.net > 0 ? "@blue-soft" : "@orange-soft" };
    return styled([...lines, { ...look, ...place }]);
  };
  const mark = (k) => {
    for (const other of document.querySelectorAll("tr[aria-current]")) other.removeAttribute("aria-current");
    const row = document.querySelector(`[data-zooms="${holder.id}"] tr[data-trade="${k}"]`);
    if (row) row.setAttribute("aria-current", "true");
  };
  const show = async (k) => {
    const columns = await run(), trade = columns.trades[k];
    current = k;
    mark(k);
    const from = columns.time[trade.entry], to = columns.time[trade.exit], room = Math.max((to - from) / 2, 3600000);
    sentence.textContent = told(columns, k);
    (controls || holder).scrollIntoView({ block: "start" });
    await Plotly.relayout(holder, { "xaxis.range": [from - room, to + room], shapes: shapes(columns) });
  };
  const whole = async () => {
    current = null;
    mark(-1);
    if (sentence) sentence.textContent = "";
    await Plotly.relayout(holder, { "xaxis.range": figure.layout.xaxis.range.slice(), shapes: shapes() });
  };
  // The next or the previous trade; without one in view, the first that begins in the window or the last that begins before its end.
  const step = async (by) => {
    const columns = await run(), count = columns.trades.length;
    if (!count) return;
    const [from, to] = range(), begins = columns.trades.map((trade) => columns.time[trade.entry]);
    const near = by > 0 ? begins.findIndex((time) => time >= from) : begins.findLastIndex((time) => time <= to);
    await show(current === null ? (near < 0 ? (by > 0 ? count - 1 : 0) : near) : Math.min(Math.max(current + by, 0), count - 1));
  };
  const moves = { next: () => step(1), previous: () => step(-1), whole };

  const turn = async (part, on) => {
    const columns = await run(), mine = figure.data.flatMap((trace, k) => (trace.meta === part ? [k] : []));
    if (part === "roll") rolls = on;
    for (const k of mine) figure.data[k].visible = on;
    for (const k of mine) holder.data[k].visible = on;
    legend();
    await Plotly.relayout(holder, { shapes: shapes(columns) });
    await refine();
  };
  for (const button of controls ? controls.querySelectorAll("[data-move]") : []) button.addEventListener("click", () => moves[button.dataset.move]());
  for (const box of controls ? controls.querySelectorAll("[data-part]") : []) box.addEventListener("change", () => turn(box.dataset.part, box.checked));
  document.addEventListener("keydown", (event) => {
    const move = { n: "next", p: "previous" }[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), select, textarea, dialog")) return;
    moves[move]();
  });
  holder.on("plotly_relayout", (change) => { if (Object.keys(change).some((key) => key.startsWith("xaxis."))) soon(); });

  // After the colours changed: the figure is as at first again, the window and the trade in view are not.
  const again = async () => {
    if (!loading) return;
    await Plotly.relayout(holder, { shapes: shapes(await run()) });
    await refine();
  };

  return { show, whole, again };
};
