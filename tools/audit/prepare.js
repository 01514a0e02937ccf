// Makes a page ready to be examined: all that is folded or far from the window is there, and each
// formula is one word in a box of its size, so that a page of a thousand formulas takes seconds. What
// is within a formula is KaTeX's, and has the color of its surroundings. (It is evaluated in the page.)
async () => {
  for (const image of document.images) image.loading = "eager";
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const part of document.querySelectorAll(".bd-article section > *")) {
    part.style.contentVisibility = "visible";
  }
  const formulas = [...document.querySelectorAll(".katex-html")];
  const boxes = formulas.map((formula) => formula.getBoundingClientRect());
  formulas.forEach((formula, i) => {
    formula.textContent = "formula";
    Object.assign(formula.style, {
      display: "inline-block", overflow: "hidden", whiteSpace: "nowrap",
      width: `${boxes[i].width}px`, height: `${boxes[i].height}px`,
    });
  });
  for (const math of document.querySelectorAll(".katex-mathml math")) math.textContent = "formula";
  await Promise.all([...document.images].map((image) => image.decode()));
}
