"use strict";
// Draws every figure as wide as its place and in the page's colors; again when these change or the page is printed.
(() => {
  const { figures, templates, config } = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const printing = window.matchMedia("print");
  const drawn = new Map();

  const draw = (place) => {
    const theme = dark.matches && !printing.matches ? "dark" : "light";
    const width = Math.floor(place.getBoundingClientRect().width);
    const state = `${theme} ${width}`;
    if (!width || drawn.get(place.id) === state) return;
    drawn.set(place.id, state);
    const { data, layout } = structuredClone(figures[place.id]);
    const bar = place.id.startsWith("grid-") ? { displayModeBar: false } : {};
    Plotly.react(place, data, { ...layout, template: templates[theme], width }, { ...config, ...bar });
  };

  const places = Object.keys(figures).map((id) => document.getElementById(id));
  const drawAll = () => places.forEach(draw);
  const watcher = new ResizeObserver((entries) => entries.forEach((entry) => draw(entry.target)));
  places.forEach((place) => watcher.observe(place));
  drawAll();
  dark.addEventListener("change", drawAll);
  printing.addEventListener("change", drawAll);
})();
