// Comes before the page is drawn, and before the theme's own scripts: they take the color mode from
// this store, and without it complain on the console and show the wrong colors for a moment.
"use strict";

(() => {
  const { dataset } = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  let mode = "auto";
  try {
    mode = localStorage.mode ??= "auto";
    localStorage.theme = mode === "auto" ? (dark ? "dark" : "light") : mode;
  } catch { /* a browser that stores nothing: the system's colors */ }
  dataset.mode = mode;
  dataset.theme = mode === "auto" ? (dark ? "dark" : "light") : mode;
})();
