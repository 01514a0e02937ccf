// Makes a page ready to be examined: all that is folded or far from the window is there, and each
// formula is one word in a box of its size, so that a page of a thousand formulas takes seconds. What
// is within a formula is KaTeX's, and has the color of its surroundings. Of the colored words in code
// the first of each color and ground stays colored: it stands for the others, which are thousands. (It is
// evaluated in the page.)
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
  const groundOf = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" && element.parentElement ? groundOf(element.parentElement) : color;
  };
  const seen = new Set();
  for (const code of document.querySelectorAll(".highlight pre")) {
    const ground = groundOf(code);
    for (const word of code.querySelectorAll("span[class]:not(:has(*))")) {
      const kind = `${word.className} on ${ground}`;
      if (seen.has(kind)) word.replaceWith(word.textContent);
      else seen.add(kind);
    }
  }
  await Promise.all([...document.images].map((image) => image.decode()));
}
