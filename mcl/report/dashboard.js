"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const name = new URLSearchParams(location.search).get("name") || document.body.dataset.name;
  const wide = window.matchMedia("(min-width: 561px)");
  let state = null, past = null, heard = 0, token = "";

  // ------------------------------------------------------------------------------------------------ words and numbers
  const missing = (value) => value === null || value === undefined;
  const number = (value, digits = 10) => (missing(value) ? "–" : Number(Number(value).toPrecision(digits)).toString());
  const price = (value) => (!missing(value) && Math.abs(value * 100 - Math.round(value * 100)) < 1e-6 ? value.toFixed(2) : number(value, 8));
  const usd = (value, sign = true) => (missing(value) ? "–"
    : (sign && value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }));
  const signed = (value) => (missing(value) ? "–" : value > 0 ? "+" + number(value) : value < 0 ? "−" + number(-value) : "0");
  const clock = (ns) => (missing(ns) || !ns ? "–" : new Date(ns / 1e6).toISOString().slice(11, 19));
  const hour = (ns) => new Date(ns / 1e6).toISOString().slice(11, 16);
  const age = (sec) => (missing(sec) ? "–" : sec < 90 ? sec.toFixed(1) + " s" : sec < 5400 ? Math.round(sec / 60) + " min" : (sec / 3600).toFixed(1) + " h");
  const text = (id, value) => { const node = $(id); if (node.textContent !== value) node.textContent = value; };
  const make = (tag, className, content) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (content !== undefined) node.textContent = content;
    return node;
  };

  // -------------------------------------------------------------------------------------------------------- pictures
  const svg = (tag, attributes, content) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (content !== undefined) node.textContent = content;
    return node;
  };
  const steps = (low, high, count) => {
    const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((s) => s * power >= raw);
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
    return found;
  };
  // A frame with axes: returns the root and the two scales.
  const frame = (holder, xs, ys, label, xText) => {
    const width = holder.clientWidth, height = holder.clientHeight;
    let [low, high] = [Math.min(...ys), Math.max(...ys)];
    const money = high - low < 10;
    const room = (high - low || 1) * 0.08; low -= room; high += room;
    const ticks = steps(low, high, height < 220 ? 4 : 5), names = ticks.map((t) => (t < 0 ? "−" : "") + Math.abs(t).toLocaleString("en-US", { maximumFractionDigits: money ? 2 : 0 }));
    const left = Math.max(...names.map((n) => n.length)) * 6.6 + 10, bottom = 22, [first, last] = [Math.min(...xs), Math.max(...xs)];
    const x = (v) => left + ((v - first) / (last - first || 1)) * (width - left - 8), y = (v) => 6 + ((high - v) / (high - low)) * (height - bottom - 6);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    ticks.forEach((t, i) => {
      root.append(svg("line", { class: t === 0 ? "zero" : "grid", x1: left, x2: width - 8, y1: y(t), y2: y(t) }));
      root.append(svg("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, names[i]));
    });
    const count = Math.max(1, Math.min(xs.length - 1, Math.floor(width / 130)));
    for (let i = 0; i <= count; i++) {
      const v = first + ((last - first) * i) / count;
      root.append(svg("text", { x: x(v), y: height - 4, "text-anchor": i === 0 ? "start" : i === count ? "end" : "middle" }, xText(v)));
    }
    return { root, x, y };
  };
  const path = (points, x, y) => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const area = (low, high, x, y) => path(low, x, y) + high.slice().reverse().map(([a, b]) => `L${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("") + "Z";
  const nothing = (holder, sentence) => holder.replaceChildren(make("p", "empty", sentence));

  const drawSession = () => {
    const holder = $("plot-session"), points = (state.equity || []).map(([at, equity]) => [at, equity]);
    if (points.length < 2) return nothing(holder, "The curve begins with the second bar.");
    const pnl = state.session_pnl_usd, start = missing(pnl) || missing(state.equity_usd) ? points[0][1] : state.equity_usd - pnl;
    const curve = points.map(([at, equity]) => [at, equity - start]);
    const xs = curve.map((p) => p[0]), ys = [0, ...curve.map((p) => p[1])]; // not those of the band: it would flatten the day
    const limits = [past && past.band ? `One session may earn ${usd(past.band.low[0])} to ${usd(past.band.high[0])} USD.` : "", missing(state.max_daily_loss_usd) ? "" : `At ${usd(-state.max_daily_loss_usd)} USD the session is flat until the next one.`];
    text("session-note", ["After costs, in a scale of its own.", ...limits].filter(Boolean).join(" "));
    const last = curve[curve.length - 1];
    const { root, x, y } = frame(holder, xs, ys, `P&L of this session: ${usd(last[1])} USD`, hour);
    root.append(svg("path", { class: "line", d: path(curve, x, y) }));
    root.append(svg("circle", { class: "dot", cx: x(last[0]), cy: y(last[1]), r: 3.5 }));
    holder.replaceChildren(root);
  };

  // The price with the fills at their prices, and the levels of the position.
  const drawPrice = () => {
    const holder = $("plot-price"), points = state.prices || [], levels = Object.entries(state.levels || {});
    if (points.length < 2) return nothing(holder, "The price begins with the second bar.");
    const xs = points.map((p) => p[0]), [from, to] = [xs[0], xs[xs.length - 1]];
    const fills = (state.fills || []).filter((fill) => fill.time >= from && fill.time <= to);
    const ys = [...points.map((p) => p[1]), ...fills.map((fill) => fill.price), ...levels.map(([, level]) => level)];
    const words = levels.map(([name, level]) => `, ${name.replace("_", "-")} ${price(level)}`).join("");
    const { root, x, y } = frame(holder, xs, ys, `Price of this session: ${price(points[points.length - 1][1])}${words}`, hour);
    root.append(svg("path", { class: "price", d: path(points, x, y) }));
    for (const [name, level] of levels) {
      root.append(svg("line", { class: "level " + name, x1: x(from), x2: x(to), y1: y(level), y2: y(level) }));
      root.append(svg("text", { class: "level", x: x(from) + 4, y: y(level) - 4 }, `${name.replace("_", "-")} ${price(level)}`));
    }
    for (const fill of fills) {
      const cx = x(fill.time), cy = y(fill.price), up = fill.quantity > 0 ? 1 : -1;
      const mark = svg("path", { class: up > 0 ? "bought" : "sold", d: `M${cx} ${cy}l-5 ${9 * up}h10Z` });
      mark.append(svg("title", {}, `${clock(fill.time)} ${signed(fill.quantity)} at ${price(fill.price)}`));
      root.append(mark);
    }
    root.append(svg("circle", { class: "dot", cx: x(to), cy: y(points[points.length - 1][1]), r: 3.5 }));
    holder.replaceChildren(root);
  };

  const drawBand = () => {
    const holder = $("plot-band");
    if (!past || (!past.band && !past.sessions.length)) return nothing(holder, past ? "No session of this version has been recorded yet." : "Reading the record …");
    const lived = past.sessions.map((s) => s.net_pnl_usd);
    if (state && state.running !== false && !missing(state.session_pnl_usd)) lived.push(state.session_pnl_usd);
    let sum = 0;
    const curve = [[0, 0], ...lived.map((v, i) => [i + 1, (sum += v)])];
    const n = Math.max(20, Math.ceil(lived.length * 1.25));
    const pick = (values) => [[0, 0], ...values.slice(0, n).map((v, i) => [i + 1, v])];
    const [low, median, high] = past.band ? ["low", "median", "high"].map((k) => pick(past.band[k])) : [[], [], []];
    const ys = [...curve, ...low, ...high].map((p) => p[1]), xs = [...curve, ...low].map((p) => p[0]);
    const { root, x, y } = frame(holder, xs, ys, `Cumulative P&L after ${lived.length} sessions: ${usd(sum)} USD`, (v) => String(Math.round(v)));
    if (past.band) {
      root.insertBefore(svg("path", { class: "band", d: area(low, high, x, y) }), root.firstChild);
      root.append(svg("path", { class: "median", d: path(median, x, y) }));
    }
    root.append(svg("path", { class: "line", d: path(curve, x, y) }));
    const last = curve[curve.length - 1];
    root.append(svg("circle", { class: "dot", cx: x(last[0]), cy: y(last[1]), r: 3.5 }));
    holder.replaceChildren(root);
  };

  const drawLatency = () => {
    const holder = $("plot-latency"), told = state.latency;
    if (!told || !told.count) return nothing(holder, "No order has been sent yet.");
    const width = holder.clientWidth, height = holder.clientHeight, most = Math.max(...told.buckets), slot = width / told.buckets.length;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${told.count} orders, median ${told.p50.toFixed(2)} ms, 99 % within ${told.p99.toFixed(2)} ms` });
    told.buckets.forEach((count, i) => {
      const tall = (count / most) * (height - 44), bound = told.bounds_ms[i];
      const bar = svg("rect", { class: (i ? told.bounds_ms[i - 1] : 0) >= 10 ? "bar slow" : "bar", x: i * slot + 2, width: Math.max(slot - 4, 1), y: height - 22 - tall, height: tall });
      bar.append(svg("title", {}, `${count} orders ${missing(bound) ? "slower" : "within " + bound + " ms"}`));
      root.append(bar);
      if (count) root.append(svg("text", { x: (i + 0.5) * slot, y: height - 27 - tall, "text-anchor": "middle" }, String(count)));
      root.append(svg("text", { x: (i + 0.5) * slot, y: height - 6, "text-anchor": "middle" }, missing(bound) ? "more" : wide.matches || i % 2 === 0 ? String(bound) : ""));
    });
    holder.replaceChildren(root);
  };

  // ---------------------------------------------------------------------------------------------------------- tables
  const fill = (id, rows, none) => {
    const holder = $(id);
    if (!rows.length) return holder.replaceChildren(make("p", "empty", none));
    const columns = rows[0].map(([title]) => title), table = make("table"), head = make("tr"), body = make("tbody");
    rows[0].forEach(([title, , css]) => { const th = make("th", css || "", title); th.scope = "col"; head.append(th); });
    for (const row of rows) {
      const tr = make("tr");
      row.forEach(([, value, css]) => tr.append(make("td", css || "", value)));
      body.append(tr);
    }
    const thead = make("thead"); thead.append(head); table.append(thead, body);
    const box = holder.firstElementChild && holder.firstElementChild.className === "scroll" ? holder.firstElementChild : make("div", "scroll");
    for (const named of [box, table]) named.setAttribute("aria-label", holder.closest("section").querySelector("h2").textContent);
    box.tabIndex = 0; box.role = "region"; box.replaceChildren(table);
    if (box.parentElement !== holder) holder.replaceChildren(box);
    return columns;
  };
  const short = (ref) => ref.replace(/^.*-(?=\d{6}|[a-z])/, ""); // the end of a reference tells it apart
  const soft = (code) => String(code).replaceAll("_", "_\u200b"); // may break after an underscore
  const newest = (rows, count = 20) => (rows || []).slice(-count).reverse();

  // Decisions that follow each other and differ in nothing but time and price are one row: the newest, and how many.
  const folded = (rows) => {
    const same = (d) => JSON.stringify([missing(d.wanted) ? null : d.wanted.toFixed(3), d.position, d.target, d.block, d.reason]), groups = [];
    for (const row of rows) {
      const last = groups[groups.length - 1];
      if (last && same(last.row) === same(row)) { last.count++; last.since = row.time; } else groups.push({ row, count: 1, since: row.time });
    }
    return groups;
  };
  // The order of a target follows the signal, or the command to close.
  const why = ({ reason, ref }) => (reason !== "target" ? String(reason).replace("_", "-") : String(ref).endsWith("/flat") ? "flatten" : "signal");
  const tables = () => {
    fill("decisions", folded(newest(state.decisions)).map(({ row: d, count, since }) => [["bar close", count > 1 ? `${hour(since)} to ${hour(d.time)}` : clock(d.time)], ["bars", count > 1 ? "×" + count : "1", "n"], ["price", price(d.close), "n minor"], ["wanted", signed(missing(d.wanted) ? null : Number(d.wanted.toFixed(3))), "n"],
      ["held", signed(d.position), "n minor"], ["target", signed(d.target), "n"], ["what was done", soft([d.block !== "NONE" && d.block, d.reason].filter(Boolean).join(": ")), "words"]]), "No decision yet.");
    fill("working", (state.working || []).map((w) => [["order", short(w.ref || String(w.permanent_id))], ["kind", w.kind], ["contracts", signed(w.quantity), "n"], ["price", price(w.price), "n"], ["status", w.status, "minor"]]), "No order works at the broker.");
    fill("fills", newest(state.fills).map((f) => [["time", clock(f.time)], ["contracts", signed(f.quantity), "n"], ["price", price(f.price), "n"], ["for", why(f)], ["cost", usd(f.commission_usd, false), "n minor"]]), "No fill yet.");
    fill("alerts", newest(state.alerts).map((a) => [["time", clock(a.at_ns)], ["code", soft(a.code), a.severity + " code"], ["what", a.sentence, "words"]]), "No alert.");
  };
  const audits = () => fill("audits", newest(past ? past.audits : [], 40).map((a) => [["session", a.session], ["P&L", usd(a.net_pnl_usd), "n"], ["backtest", usd(a.backtest_net_pnl_usd), "n"],
    ["slippage", missing(a.slippage_ticks) ? "–" : number(a.slippage_ticks, 3) + " ticks", "n minor"], ["differences", number(a.differences), "n"], ["audit", a.verdict, a.unexplained ? "warning" : ""]]), past ? "No session of this version has been audited yet." : "Reading the record …");

  // ------------------------------------------------------------------------------------------------------- the screen
  const show = () => {
    const s = state, running = s.running !== false, badge = $("state");
    text("state", s.state); badge.className = "state " + s.state;
    text("mode", running ? (s.mode === "NORMAL" ? "" : s.mode.replace("_", " ").toLowerCase()) : "stopped; this is its last state" + (s.at_ns ? `, written ${new Date(s.at_ns / 1e6).toISOString().slice(0, 19).replace("T", " ")}` : ""));
    text("why", s.why || "");
    text("whose", ["mcl dashboard", `${s.alias} v${s.version}`, "session " + s.session, s.contract, s.broker, s.account].filter(Boolean).join(" · "));
    document.title = `${s.state} ${signed(s.position)} ${s.alias} · mcl`;
    $("synthetic").hidden = !s.synthetic; text("synthetic", s.synthetic ? (s.synthetic === true ? "SYNTHETIC DATA" : String(s.synthetic)) : "");
    text("position", signed(s.position)); text("position-note", missing(s.target) || s.target === s.position ? s.contract || "" : "target " + signed(s.target));
    text("pnl", usd(s.session_pnl_usd)); $("pnl").className = "figure " + (s.session_pnl_usd > 0 ? "up" : s.session_pnl_usd < 0 ? "down" : "");
    text("pnl-note", missing(s.realized_usd) ? "after costs" : `realised ${usd(s.realized_usd)}, open ${usd(s.unrealized_usd)}`);
    text("equity", usd(s.equity_usd, false)); text("equity-note", "of the account");
    text("price", price(s.last_price)); text("price-note", missing(s.average_price) ? "no entry" : "entry " + price(s.average_price));
    text("orders", `${number((s.counters || {}).orders || 0)} / ${number((s.counters || {}).fills || 0)}`); text("orders-note", (s.working || []).length + " working");
    const quick = s.latency && s.latency.count;
    text("latency", quick ? s.latency.p50.toFixed(2) + " ms" : "–"); text("latency-note", quick ? `99 % within ${s.latency.p99.toFixed(2)} ms` : "median");
    const limit = s.max_daily_loss_usd, remaining = missing(limit) || missing(s.session_pnl_usd) ? null : Math.max(0, limit + s.session_pnl_usd);
    text("left", usd(remaining, false)); $("left").className = "figure " + (remaining !== null && remaining < limit / 4 ? "down" : "");
    text("left-note", missing(limit) ? "no max_daily_loss_usd is set" : `of ${usd(limit, false)} a session`);
    $("acts").hidden = !token;
    acts(); ages(); drawPrice(); drawSession(); drawLatency(); tables(); drawBand();
    document.documentElement.dataset.shown = String(s.at_ns || 0);
  };
  // Why a command can do nothing now; empty where it can.
  const idle = (word) => {
    const s = state, flat = !s.position && !(s.working || []).length, doubtful = ["HALTED", "DEGRADED"].includes(s.state);
    if (s.running === false || s.state === "STOPPED") return "no session runs";
    if (word === "pause" && s.mode === "PAUSED") return "it is paused";
    if (word === "reduce-only" && s.mode === "REDUCE_ONLY") return "it only reduces";
    if (word === "resume" && s.mode === "NORMAL" && !doubtful) return "it trades";
    if (word === "flatten" && s.state === "FLATTENING") return "the position is being closed";
    if (word === "flatten" && flat && !doubtful) return "there is no position and no order";
    return "";
  };
  const acts = () => {
    for (const button of document.querySelectorAll("[data-act]")) {
      const why = idle(button.dataset.act);
      button.disabled = Boolean(why); button.title = why;
    }
  };
  const ages = () => {
    const silent = (Date.now() - heard) / 1000, pulse = $("pulse"), running = state && state.running !== false;
    const lost = !heard || silent > 4;
    pulse.className = "pulse " + (lost ? "off" : running ? "on" : "");
    text("heard", lost ? (heard ? `nothing heard for ${age(silent)}` : "connecting …") : running ? (state.connected ? "live" : "broker not connected") : "no session runs");
    if (!state) return;
    const old = missing(state.data_age_sec) ? null : state.data_age_sec + silent;
    text("age", running ? age(old) : "–"); text("age-note", (running ? "since the last bar; " : "stopped; ") + number(state.bars) + (state.bars === 1 ? " bar" : " bars"));
  };

  // ------------------------------------------------------------------------------------------------------ what is told
  const listen = () => {
    const source = new EventSource("events?name=" + encodeURIComponent(name));
    source.addEventListener("status", (event) => {
      const was = state && state.running !== false;
      state = JSON.parse(event.data).status; heard = Date.now();
      show();
      if (was && state.running === false) remember();
    });
    source.addEventListener("beat", () => { heard = Date.now(); ages(); });
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000); }; // as many pages are open as may be
  };
  const remember = async () => {
    const answer = await fetch("record?name=" + encodeURIComponent(name));
    if (!answer.ok) return;
    past = await answer.json(); audits();
    text("band-note", past.note);
    if (state) { drawBand(); drawSession(); }
    const others = $("others");
    others.replaceChildren(...(past.names.length > 1 ? past.names : []).map((other) => { const a = make("a", "", other); a.href = "?name=" + encodeURIComponent(other) + location.hash; if (other === name) a.setAttribute("aria-current", "page"); return a; }));
    document.documentElement.dataset.recorded = "yes";
  };

  // ------------------------------------------------------------------------------------------------------- what is done
  const asked = { pause: "Decide and write down, but send nothing?", resume: "Trade again?", "reduce-only": "Close risk only, open nothing?", flatten: "Close the position at the market, now?", stop: "End the session? Protective orders stay at the broker." };
  const tell = (sentence, bad) => { const said = $("said"); said.hidden = false; said.className = "said" + (bad ? " bad" : ""); said.textContent = sentence; };
  const act = async (word, because) => {
    try {
      const answer = await fetch("act", { method: "POST", headers: { "Content-Type": "application/json", Authorization: "Bearer " + token }, body: JSON.stringify({ name, word, because }) });
      const told = await answer.json();
      tell(told.said || told.error, !answer.ok);
    } catch (error) { tell("the dashboard did not answer: " + error.message, true); }
  };
  const ask = (word) => {
    const dialog = $("dialog");
    text("asked", asked[word]); text("holding", `${state.alias} · ${signed(state.position)} ${state.contract} · ${state.account}`);
    text("confirm", word); $("confirm").className = word === "resume" || word === "pause" ? "" : "grave"; $("because").value = "";
    dialog.onclose = () => { if (dialog.returnValue === "yes") act(word, $("because").value); };
    dialog.returnValue = ""; dialog.showModal(); $("because").focus();
  };
  const unlock = async () => {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) { sessionStorage.setItem("mcl-token", given); history.replaceState(null, "", location.pathname + location.search); }
    const kept = sessionStorage.getItem("mcl-token");
    if (!kept) return;
    const answer = await fetch("may", { headers: { Authorization: "Bearer " + kept } });
    const told = await answer.json();
    if (!told.may) { sessionStorage.removeItem("mcl-token"); return tell("this token is not the dashboard's; the page only shows", true); }
    token = kept; if (state) show();
  };

  for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => ask(button.dataset.act));
  new ResizeObserver(() => { if (state) { drawPrice(); drawSession(); drawBand(); drawLatency(); } }).observe(document.querySelector("main"));
  setInterval(ages, 250); setInterval(remember, 60000);
  listen(); remember(); unlock();
})();
