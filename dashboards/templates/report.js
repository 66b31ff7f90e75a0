"use strict";
// Unpacks the drawing library and the figures, and draws every figure as wide as its place and in the page's colors; again when these
// change or the page is printed.
(async () => {
  // Python's base85 with " in place of <, and zlib's format inside.
  const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;"=>?@^_`{|}~';
  const unpacked = (text) => {
    const value = new Uint8Array(128);
    [...DIGITS].forEach((digit, i) => (value[digit.charCodeAt(0)] = i));
    const padded = text + "~".repeat((5 - (text.length % 5)) % 5);
    const view = new DataView(new ArrayBuffer((padded.length / 5) * 4));
    for (let i = 0; i < padded.length; i += 5) {
      let group = 0;
      for (let j = i; j < i + 5; j += 1) group = group * 85 + value[padded.charCodeAt(j)];
      view.setUint32((i / 5) * 4, group);
    }
    const bytes = view.buffer.slice(0, view.byteLength - (padded.length - text.length));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  };

  const library = document.createElement("script"); // the page's policy knows its hash
  const read = (id) => unpacked(document.getElementById(id).textContent);
  library.textContent = await read("library");
  document.head.append(library);

  const { figures, templates, config } = JSON.parse(await read("data"));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const printing = window.matchMedia("print");
  const drawn = new Map();

  const draw = (place) => {
    const theme = dark.matches && !printing.matches ? "dark" : "light";
    const width = place.clientWidth;
    const state = `${theme} ${width}`;
    if (!width || drawn.get(place.id) === state) return;
    drawn.set(place.id, state);
    const { data, layout } = structuredClone(figures[place.id]);
    const bar = place.id.startsWith("grid-") ? { displayModeBar: false } : {};
    Plotly.react(place, data, { ...layout, template: templates[theme], width }, { ...config, ...bar });
  };

  // A finger scrolls the page; Plotly would take the swipe for a zoom. A tap still arrives as a click.
  document.addEventListener("touchstart", (event) => event.target.closest(".plot") && event.stopPropagation(), true);

  const places = Object.keys(figures).map((id) => document.getElementById(id));
  const drawAll = () => places.forEach(draw);
  const watcher = new ResizeObserver((entries) => entries.forEach((entry) => draw(entry.target)));
  places.forEach((place) => watcher.observe(place));
  drawAll();
  dark.addEventListener("change", drawAll);
  printing.addEventListener("change", drawAll);
})();
