// Run in a page; returns one sentence per fault. WCAG 2.2 AA: contrast of text (1.4.3), names of controls and graphics (1.1.1, 4.1.2),
// names and headings of tables (1.3.1), language and title (3.1.1, 2.4.2), landmarks and order of headings (1.3.1, 2.4.6).
const faults = [];
const visible = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
const short = (node) => `${node.tagName.toLowerCase()}${node.id ? "#" + node.id : ""} "${node.textContent.trim().slice(0, 40)}"`;

// ------------------------------------------------------------------------------------------------------------------ contrast
const rgba = (text) => {
  const found = text.match(/[\d.]+/g);
  if (!found) return [0, 0, 0, 0];
  const scale = text.startsWith("color(srgb") ? 255 : 1; // a mixed colour has parts of 1
  return [...found.slice(0, 3).map((part) => scale * Number(part)), found[3] === undefined ? 1 : Number(found[3])];
};
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const luminance = ([r, g, b]) => { const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
const grounds = new Map();
const ground = (node) => {
  if (!node) return rgba(getComputedStyle(document.documentElement).colorScheme.includes("dark") && matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(18, 18, 18)" : "rgb(255, 255, 255)");
  if (!grounds.has(node)) grounds.set(node, over(rgba(getComputedStyle(node).backgroundColor), ground(node.parentElement)));
  return grounds.get(node);
};
const clear = (node) => { let all = 1; for (let at = node; at; at = at.parentElement) all *= Number(getComputedStyle(at).opacity); return all; };
const judged = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || judged.has(node) || node.closest("script, style, option, :disabled, .heatmap-label")) continue;
  judged.add(node);
  if (!visible(node)) continue;
  const style = getComputedStyle(node), svg = node instanceof SVGElement, behind = ground(node);
  const ink = rgba(svg ? style.fill : style.color);
  ink[3] *= clear(node);
  const [light, dark] = [luminance(over(ink, behind)), luminance(behind)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05), size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (large ? 3 : 4.5)) faults.push(`contrast ${ratio.toFixed(2)} of ${short(node)}`);
}

// --------------------------------------------------------------------------------------------------------------------- names
const told = (node) => (node.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean).map((id) => document.getElementById(id)?.textContent || "").join(" ").trim()
  || (node.getAttribute("aria-label") || "").trim() || (node.labels && [...node.labels].map((l) => l.textContent).join(" ").trim())
  || (node.matches("input, select, textarea, [role=img], svg, figure, table") ? "" : node.textContent.trim()) || (node.getAttribute("title") || "").trim();
for (const node of document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex], [role=img], [role=region], [role=group], nav, dialog, table")) {
  if (node.matches("main") || !visible(node)) continue;
  if (!told(node)) faults.push(`no name: ${short(node)}`);
}
for (const node of document.querySelectorAll("img:not([alt])")) faults.push(`no alternative text: ${short(node)}`);
for (const node of document.querySelectorAll("svg")) {
  if (visible(node) && !node.closest("[role=img][aria-label], [role=group][aria-label], button, [aria-hidden=true]")) faults.push(`a graphic without a name: ${short(node)}`);
}
for (const node of document.querySelectorAll("th")) {
  if (!node.textContent.trim()) faults.push(`an empty heading in table ${told(node.closest("table"))}`);
  if (!node.scope) faults.push(`a heading without a scope: ${short(node)}`);
}
for (const node of document.querySelectorAll("[tabindex]")) if (node.tabIndex > 0) faults.push(`an order of its own: ${short(node)}`);

// -------------------------------------------------------------------------------------------------------------------- document
if (!document.documentElement.lang) faults.push("the document has no language");
if (!document.title.trim()) faults.push("the document has no title");
for (const [what, count] of [["main", 1], ["h1", 1], ["header", 1]]) {
  const found = document.querySelectorAll(what).length;
  if (found !== count) faults.push(`${found} ${what}, not ${count}`);
}
let level = 0;
for (const node of document.querySelectorAll("h1, h2, h3, h4")) {
  const own = Number(node.tagName[1]);
  if (own > level + 1) faults.push(`h${own} after h${level}: ${short(node)}`);
  level = own;
}
const ids = [...document.querySelectorAll("[id]")].map((node) => node.id).filter((id) => id && !document.getElementById(id)?.closest(".js-plotly-plot"));
for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) faults.push(`two elements with the id ${id}`);
return faults;
