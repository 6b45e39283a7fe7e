"use strict";
(() => {
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const charts = new Map();

  // "@name" anywhere in a figure is the CSS colour --name of the scheme in force.
  const resolve = (value, style) => {
    if (typeof value === "string") return value.startsWith("@") ? style.getPropertyValue("--" + value.slice(1)).trim() : value;
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, key === "bdata" ? item : resolve(item, style)]));
    }
    return value;
  };

  const axis = { gridcolor: "@grid", zerolinecolor: "@line", linecolor: "@line", tickcolor: "@line", automargin: true, title: { font: { size: 12 } } };
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

  const draw = async (holder) => {
    const known = charts.get(holder.id);
    const figure = known ? known.figure : JSON.parse(document.querySelector(`script[data-for="${holder.id}"]`).textContent);
    const style = getComputedStyle(document.documentElement);
    const layout = resolve(dress(figure.layout), style);
    if (known && figure.keepsZoom && holder.layout.xaxis.range) layout.xaxis.range = holder.layout.xaxis.range.slice();
    await Plotly.react(holder, resolve(figure.data, style), layout, shown(figure));
    if (known) return known.refine();
    charts.set(holder.id, { figure, refine: figure.detail ? zoomable(holder, figure) : () => {} });
  };

  // After each change of the time range: draw the window again from all bars.
  const zoomable = (holder, figure) => {
    const run = Windows.load(figure.detail);
    const refine = async () => {
      const columns = await run, range = holder.layout.xaxis.range.map((value) => (typeof value === "number" ? value : Date.parse(value.replace(" ", "T") + "Z")));
      const { found, bars, big } = Windows.traces(columns, range, figure.buckets, figure.data.length);
      const size = (trace, k) => (trace.marker ? { marker: { ...trace.marker, size: big ? 10 : figure.data[k].marker.size } } : {});
      const data = holder.data.map((trace, k) => ({ ...trace, ...found[k], ...size(trace, k) }));
      await Plotly.react(holder, data, holder.layout, shown(figure)); // restyle would forget that x is a date
      holder.dataset.bars = String(bars);
    };
    holder.on("plotly_relayout", (change) => { if (Object.keys(change).some((key) => key.startsWith("xaxis."))) refine(); });
    return refine;
  };

  const zoom = (row) => {
    const holder = document.getElementById(row.closest("[data-zooms]").dataset.zooms);
    const from = Number(row.dataset.from), to = Number(row.dataset.to), room = Math.max(to - from, 3600000);
    Plotly.relayout(holder, { "xaxis.range": [from - room, to + room] });
    holder.scrollIntoView({ block: "center" });
  };

  const holders = [...document.querySelectorAll(".chart > div")];
  const all = async () => { for (const holder of holders) await draw(holder); };
  all().then(() => document.documentElement.setAttribute("data-drawn", String(holders.length)));
  scheme.addEventListener("change", all);
  for (const row of document.querySelectorAll("tr[data-from]")) {
    row.tabIndex = 0;
    row.addEventListener("click", () => zoom(row));
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") zoom(row); });
  }
})();
