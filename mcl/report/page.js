"use strict";
(() => {
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const charts = new Map();

  // { steps, unit, gaps }: the sums of whole steps times the unit, and where there is none.
  const running = ({ steps, unit, gaps }) => {
    let sum = 0;
    const values = Float64Array.from(Packed.integers(steps), (step) => (sum += step)).map((value) => Number((value * unit).toPrecision(15)));
    for (const gap of gaps) values[gap] = NaN;
    return values;
  };
  // "@name" anywhere in a figure is the CSS colour --name of the scheme in force.
  const resolve = (value, style) => {
    if (typeof value === "string") return value.startsWith("@") ? style.getPropertyValue("--" + value.slice(1)).trim() : value;
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value && value.steps) return running(value);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, key === "bdata" ? item : resolve(item, style)]));
    }
    return value;
  };

  const axis = { gridcolor: "@grid", zerolinecolor: "@line", linecolor: "@line", tickcolor: "@line", automargin: true, title: { font: { size: 12 }, standoff: 8 } };
  const dress = (layout) => {
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: "@ink", size: 12, family: "system-ui, sans-serif" },
      hoverlabel: { bgcolor: "@panel", bordercolor: "@line", font: { color: "@ink" } }, margin: { l: 8, r: 8, t: 8, b: 8 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, bgcolor: "rgba(0,0,0,0)" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: "@muted", activecolor: "@ink" }, xaxis: {}, yaxis: {}, ...layout,
    };
    for (const key of Object.keys(base).filter((name) => /^[xy]axis\d*$/.test(name))) {
      base[key] = { ...axis, ...base[key], title: { ...axis.title, ...(base[key].title || {}) } };
    }
    return base;
  };

  // An explicit list: the default bar offers to send the chart to a server.
  const buttons = [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
  const config = { responsive: true, displaylogo: false, modeBarButtons: buttons, plotlyServerURL: "", showSendToCloud: false };
  const shown = (figure) => ({ ...config, displayModeBar: figure.detail ? "hover" : false });

  // A number is written in a cell of a map that has room for it; the hover says the others.
  const legible = (trace, holder) => {
    if (trace.type !== "heatmap" || !trace.texttemplate) return trace;
    const sizes = (edges, room) => edges.slice(1).map((edge, k) => (room * (edge - edges[k])) / (edges[edges.length - 1] - edges[0]));
    const widths = sizes(trace.x, holder.clientWidth - 140), heights = sizes(trace.y, holder.clientHeight - 70);
    return { ...trace, text: trace.text.map((row, r) => row.map((text, c) => (widths[c] >= 7 * text.length && heights[r] >= 13 ? text : ""))) };
  };

  // On a phone Plotly would put every name of the main chart on a line of its own: there they stand as words above it.
  const NARROW = 520, SIGNS = { "triangle-up": "▲", "triangle-down": "▼", x: "✖", star: "★", diamond: "◆", square: "■" };
  const legend = (holder, figure, style) => {
    const narrow = holder.clientWidth < NARROW, named = figure.data.filter((trace) => trace.name && trace.showlegend !== false && trace.visible !== false);
    const list = document.getElementById(`${holder.id}-legend`) || Object.assign(document.createElement("ul"), { id: `${holder.id}-legend`, className: "legend" });
    list.replaceChildren(...named.map((trace) => {
      const item = document.createElement("li"), sign = document.createElement("span"), { symbol, color } = trace.mode === "markers" ? trace.marker : trace.line;
      Object.assign(sign, { textContent: SIGNS[symbol] || "┅", ariaHidden: "true" });
      sign.style.color = resolve(color, style);
      item.append(sign, ` ${trace.name}`);
      return item;
    }));
    list.hidden = !narrow;
    holder.before(list);
    return narrow;
  };

  const draw = async (holder) => {
    const known = charts.get(holder.id);
    const figure = known ? known.figure : JSON.parse(document.querySelector(`script[data-for="${holder.id}"]`).textContent);
    const style = getComputedStyle(document.documentElement);
    const layout = resolve(dress(figure.layout), style);
    if (known && figure.keepsZoom && holder.layout.xaxis.range) layout.xaxis.range = holder.layout.xaxis.range.slice();
    if (figure.detail && legend(holder, figure, style)) Object.assign(layout, { showlegend: false, margin: { ...layout.margin, t: 34 } });
    if ("print" in document.documentElement.dataset) Object.assign(layout, { width: holder.clientWidth, height: Math.min(holder.clientHeight, 620) }); // Plotly itself would look a moment later
    await Plotly.react(holder, resolve(figure.data, style).map((trace) => legible(trace, holder)), layout, shown(figure));
    if (known) return known.main && known.main.again();
    charts.set(holder.id, { figure, main: figure.detail ? mainChart({ holder, figure, shown, resolve, legend: () => legend(holder, figure, getComputedStyle(document.documentElement)) }) : null });
  };

  const mainOf = (row) => charts.get(row.closest("[data-zooms]").dataset.zooms).main;

  // Enter or Space shows a trade, the arrows, Home and End go on to another one and show it too, Escape shows the whole run again.
  const typed = (row, key) => {
    const all = [...row.parentElement.children].filter((one) => !one.hidden), at = all.indexOf(row);
    const next = { ArrowDown: all[at + 1], ArrowUp: all[at - 1], Home: all[0], End: all[all.length - 1], Enter: row, " ": row, Escape: row }[key];
    if (!next) return false;
    if (key === "Escape") mainOf(row).whole();
    else { next.focus({ preventScroll: true }); mainOf(row).show(Number(next.dataset.trade)); }
    return true;
  };

  // One tab stop for the whole table, wherever the keyboard last was in it.
  const reachable = (row) => {
    for (const other of row.parentElement.querySelectorAll("tr[tabindex='0']")) other.tabIndex = -1;
    row.tabIndex = 0;
  };

  // One of several pictures of the same thing: a select shows the one that it names.
  const choose = (select) => {
    for (const part of document.querySelectorAll(`[data-shown-by="${select.id}"]`)) {
      part.hidden = part.dataset.value !== select.value;
      for (const holder of part.querySelectorAll(".chart > div")) {
        if (holder.closest("[hidden]")) continue;
        if (charts.has(holder.id)) Plotly.Plots.resize(holder); else draw(holder).then(recolour);
      }
    }
    recolour(select.id === "map-of"); // a range of ratios is none of trades
  };

  // A picture that takes long is drawn when it is asked for.
  const request = (button) => {
    const part = document.getElementById(button.dataset.draws);
    part.hidden = false;
    button.parentElement.remove();
    for (const holder of part.querySelectorAll(".chart > div")) draw(holder);
  };

  const recolour = (afresh) => {
    for (const box of document.querySelectorAll("[data-colours]")) {
      if (afresh === true) for (const input of box.querySelectorAll("input")) input.value = "";
      colours(box);
    }
  };

  // The range of colours of every map: what is typed, or each map's own where nothing is.
  const colours = (box) => {
    const typed = (name) => { const { value } = box.querySelector(`[name="${name}"]`); return value === "" ? undefined : Number(value); };
    for (const holder of document.querySelectorAll("#parameter-map .chart > div")) {
      const known = charts.get(holder.id), script = document.querySelector(`script[data-for="${holder.id}"]`), own = JSON.parse(script.textContent).data[0];
      const range = { zmin: typed("low") ?? own.zmin, zmax: typed("high") ?? own.zmax };
      if (!known || range.zmin >= range.zmax) continue;
      Object.assign(known.figure.data[0], range);
      Plotly.restyle(holder, { zmin: [range.zmin], zmax: [range.zmax] }, [0]);
    }
  };

  const load = async () => {
    const script = document.createElement("script");
    const packed = document.getElementById("plotly");
    script.textContent = new TextDecoder().decode(await Packed.inflated(packed.textContent, Number(packed.dataset.size)));
    document.head.append(script);
  };

  // ?only=NAME: that chart alone, as large as the window, for a picture of it.
  const alone = (holder) => {
    for (const part of [...document.querySelectorAll("header, footer, .cards, nav, section")]) part.hidden = !part.contains(holder);
    document.documentElement.dataset.only = holder.id;
    const main = document.querySelector("main"), figure = holder.closest("figure");
    main.replaceChildren(figure);
    holder.style.height = `${window.outerHeight - Math.round(figure.getBoundingClientRect().top) - 8}px`; // a headless window draws all of it
  };
  const wanted = document.getElementById(new URLSearchParams(location.search).get("only") || "");
  if (wanted) alone(wanted);

  const visible = () => [...document.querySelectorAll(".chart > div")].filter((holder) => !holder.closest("[hidden], details:not([open])"));
  // What is near the screen first; the others as they come near, at the latest when the browser has nothing else to do.
  const started = new Set();
  const once = async (holder) => { if (!started.has(holder)) { started.add(holder); await draw(holder); } };
  const idle = () => new Promise((done) => { if (window.requestIdleCallback) window.requestIdleCallback(done, { timeout: 500 }); else setTimeout(done); });
  const all = async () => {
    const near = new IntersectionObserver((entries) => { for (const { isIntersecting, target } of entries) if (isIntersecting) { near.unobserve(target); once(target); } }, { rootMargin: "300px" });
    const holders = visible(), first = holders.filter((holder) => holder.getBoundingClientRect().top < window.innerHeight);
    for (const holder of first) await once(holder);
    for (const holder of holders) near.observe(holder);
    for (const holder of holders) { await idle(); await once(holder); }
  };
  const drawn = () => {
    for (const ruler of document.querySelectorAll("#js-plotly-tester")) ruler.setAttribute("aria-hidden", "true"); // what Plotly measures texts with
    document.documentElement.setAttribute("data-drawn", String(visible().length));
  };
  load().then(all).then(drawn);
  scheme.addEventListener("change", () => { for (const holder of visible()) if (charts.has(holder.id)) draw(holder); });
  // Paper is light and has its own width; what is drawn must fit it before the sheet is taken.
  const paper = (on) => () => {
    document.documentElement.toggleAttribute("data-print", on);
    for (const part of document.querySelectorAll(on ? "details:not([open])" : "details[data-closed]")) { part.open = on; part.toggleAttribute("data-closed", on); }
    for (const holder of visible()) {
      if (charts.has(holder.id)) draw(holder); else once(holder);
      if (!on) Plotly.Plots.resize(holder);
    }
  };
  window.addEventListener("beforeprint", paper(true));
  window.addEventListener("afterprint", paper(false));
  // A section that is closed at first: its charts are drawn when it is opened, by its heading or by a link to it.
  for (const part of document.querySelectorAll("section > details")) {
    part.addEventListener("toggle", () => { if (part.open) for (const holder of part.querySelectorAll(".chart > div")) once(holder); });
    for (const link of document.querySelectorAll(`a[href="#${part.parentElement.id}"]`)) link.addEventListener("click", () => { part.open = true; });
  }
  for (const select of document.querySelectorAll("select")) select.addEventListener("change", () => choose(select));
  for (const button of document.querySelectorAll("[data-draws]")) button.addEventListener("click", () => request(button));
  for (const box of document.querySelectorAll("[data-colours]")) {
    box.addEventListener("input", () => colours(box));
    box.querySelector("button").addEventListener("click", () => recolour(true));
  }
  for (const row of document.querySelectorAll("tr[data-from]")) {
    row.tabIndex = row.previousElementSibling ? -1 : 0;
    row.addEventListener("focus", () => reachable(row));
    row.addEventListener("click", () => mainOf(row).show(Number(row.dataset.trade)));
    row.addEventListener("keydown", (event) => { if (typed(row, event.key)) event.preventDefault(); });
  }

  // A table that continues to the right says so.
  const hint = (box) => {
    box.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
    box.tabIndex = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1 ? 0 : -1; // a stop only where there is something to scroll
  };
  const sizes = new ResizeObserver((seen) => { for (const { target } of seen) hint(target); });
  for (const box of document.querySelectorAll(".scroll")) {
    box.addEventListener("scroll", () => hint(box), { passive: true });
    sizes.observe(box);
  }
})();
