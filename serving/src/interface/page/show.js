"use strict";
// Small parts that show numbers, tables and times.

const $ = id => document.getElementById(id);
const setText = (id, value) => { if ($(id).textContent !== value) $(id).textContent = value; };

function formatNumber(value, unit = "") {
  if (value == null || !isFinite(value)) return "–";
  if (unit === "bytes") return formatBytes(value);
  const size = Math.abs(value);
  const text = size >= 1e4 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : value.toFixed(size >= 100 ? 0 : size >= 1 ? 1 : 3);
  return text + (unit && unit !== "%" ? " " : "") + unit;
}
function formatBytes(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (Math.abs(bytes) >= 1000 && at < units.length - 1) { bytes /= 1000; at += 1; }
  return bytes.toFixed(at && bytes < 100 ? 1 : 0) + " " + units[at];
}
function formatSeconds(seconds) {
  if (seconds == null || !isFinite(seconds)) return "–";
  if (seconds < 120) return Math.round(seconds) + " s";
  if (seconds < 7200) return Math.round(seconds / 60) + " min";
  return seconds < 172800 ? Math.round(seconds / 3600) + " h" : Math.round(seconds / 86400) + " days";
}
const clock = (at, seconds) => new Date(at).toLocaleTimeString([], { hourCycle: "h23", hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) });

function element(name, content, attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) made.setAttribute(key, value);
  made.append(...[content].flat().filter(part => part != null).map(part => part instanceof Node ? part : String(part)));
  return made;
}
// A table of rows under a head; with no rows, a sentence instead.
function table(id, head, rows, nothing) {
  const cell = name => content => content instanceof HTMLTableCellElement ? content : element(name, content);
  const lines = rows.map(cells => element("tr", cells.map(cell("td"))));
  $(id).replaceChildren(...(lines.length ? [element("tr", head.map(cell("th"))), ...lines] : [element("tr", element("td", nothing, { class: "quiet text" }))]));
}
