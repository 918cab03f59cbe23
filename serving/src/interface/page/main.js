"use strict";
// Ties the page together: forms, keys, theme and the clock that looks at the server.

const themes = ["system", "light", "dark"], systemTheme = matchMedia("(prefers-color-scheme: dark)");
// A browser may forbid the store. Then a choice lasts as long as the page.
const stored = { get: name => { try { return localStorage.getItem(name); } catch { return null; } }, set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* it lasts as long as the page */ } } };
let theme = stored.get("theme") || "system";

function setTheme(next) {
  theme = themes.includes(next) ? next : "system";
  stored.set("theme", theme);
  const dark = theme === "dark" || (theme === "system" && systemTheme.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  setText("theme", "theme: " + theme);
  drawAll();
}
function setRange(seconds) {
  range = seconds;
  document.querySelectorAll("[data-range]").forEach(button => button.setAttribute("aria-pressed", String(Number(button.dataset.range) === range)));
  drawAll();
}
function setPaused(next) {
  paused = next;
  $("pause").setAttribute("aria-pressed", String(paused));
  setText("pause", paused ? "continue" : "pause");
}

const keys = {
  "/": () => $("explore").elements.src.focus(),
  "?": () => $("keys").showModal(),
  p: () => setPaused(!paused),
  t: () => setTheme(themes[(themes.indexOf(theme) + 1) % themes.length]),
  1: () => setRange(300), 2: () => setRange(900), 3: () => setRange(3600), 4: () => setRange(21600),
};
document.addEventListener("keydown", pressed => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(pressed.target.tagName) || $("keys").open;
  const act = keys[pressed.key.toLowerCase()];
  if (typing || pressed.ctrlKey || pressed.metaKey || pressed.altKey || !act) return;
  pressed.preventDefault();
  act();
});

buildCharts();
setTheme(theme);
setRange(range);
$("theme").addEventListener("click", keys.t);
$("help").addEventListener("click", keys["?"]);
$("pause").addEventListener("click", keys.p);
document.querySelectorAll("[data-range]").forEach(button => button.addEventListener("click", () => setRange(Number(button.dataset.range))));
systemTheme.addEventListener("change", () => setTheme(theme));
$("filter").addEventListener("input", () => { if (lastLook?.metrics) showAll(lastLook.metrics); });
$("all-section").addEventListener("toggle", () => { if (lastLook?.metrics) showAll(lastLook.metrics); });
$("token").addEventListener("change", () => { looks = 0; look(); });
$("explore").addEventListener("submit", asked => { asked.preventDefault(); explore(); });
$("event").elements.id.value = newEventId();
$("event").addEventListener("submit", async asked => {
  asked.preventDefault();
  const button = asked.target.querySelector("button");
  button.disabled = true;
  try { await submitEvent(asked.target); } catch (error) { setText("event-said", error.message); }
  button.disabled = false;
});
window.addEventListener("hashchange", () => { explored = false; exploreFirst(); });
window.addEventListener("resize", drawAll);

(async function watch() {
  await look();
  // Rates need two looks, so the second comes soon.
  setTimeout(watch, looks === 1 ? period / 4 : period);
})();
