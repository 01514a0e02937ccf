// Above a chapter: unfold all its proofs, or fold all. And in print all is unfolded, also in browsers
// that do not know how to unfold by style.
"use strict";

(() => {
  const folds = [...document.querySelectorAll("details.fold")];
  const proofs = folds.filter((fold) => fold.matches(".proof"));
  const controls = document.querySelector(".fold-controls");  // a place that is kept for them

  if (controls) {
    const status = document.createElement("span");
    status.setAttribute("role", "status");
    const add = (name, does) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => { status.textContent = does(); });
      controls.append(button);
    };
    add("Unfold all proofs", () => {
      for (const proof of proofs) proof.open = true;
      return proofs.length === 1 ? "One proof is unfolded" : `${proofs.length} proofs are unfolded`;
    });
    add("Fold all", () => {
      for (const fold of folds) fold.open = false;
      return "All is folded";
    });
    controls.append(status);
  }

  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = folds.filter((fold) => !fold.open);
    for (const fold of unfolded) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of unfolded) fold.open = false;
    unfolded = [];
  });
})();
