// What the theme does by scripts in the page, by searching all of it, or for mice alone: printing, the
// sidebar, and what scrolls within the page.
"use strict";

(() => {
  for (const button of document.querySelectorAll(".btn-download-pdf-button")) {
    button.addEventListener("click", () => print());
  }

  // Paper is light.
  const { dataset } = document.documentElement;
  let shown = dataset.theme;
  addEventListener("beforeprint", () => {
    shown = dataset.theme;
    dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    dataset.theme = shown;
  });

  // Figures far from the window come once the page is there, so that a printout has them all.
  addEventListener("load", () => {
    for (const image of document.images) image.loading = "eager";
  });

  // In a wide window the sidebar beside the page is shown or hidden, where a narrow one has it on top.
  document.querySelector(".primary-toggle")?.addEventListener("click", (event) => {
    if (!matchMedia("(min-width: 992px)").matches) return;
    event.stopImmediatePropagation();
    document.getElementById("pst-primary-sidebar").classList.toggle("pst-sidebar-hidden");
  }, true);

  // The bar on top has an edge once the page is scrolled.
  const top = document.querySelector(".sbt-scroll-pixel-helper");
  if (top) {
    new IntersectionObserver(([{ boundingClientRect }]) => {
      document.body.classList.toggle("scrolled", boundingClientRect.y < 0);
    }).observe(top);
  }

  // What is wider than its place is reached and scrolled with the keyboard.
  const BOXES = "pre, .cell_output > .output, .cell_output .output > div, " +
    ".pst-scrollable-table-container, div.math > .formula";
  const scrolls = (box) => box.scrollWidth > box.clientWidth + 1 ||
    (box.scrollHeight > box.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(box).overflowY));
  const watcher = new ResizeObserver((entries) => {
    // First all is read and then all is written, so that the page is laid out once.
    const found = entries.map(({ target }) => scrolls(target));
    entries.forEach(({ target }, i) => {
      if (found[i]) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    });
  });
  for (const box of document.querySelectorAll(BOXES)) watcher.observe(box);
})();
