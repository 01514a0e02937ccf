// "Cite this result": a button beside the permalink of each definition, proposition, equation and
// figure, and one dialog with the sentence, the BibTeX entry and the permanent address.
"use strict";

(() => {
  const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";
  const book = meta("citation_inbook_title") || meta("citation_title");
  const chapter = meta("citation_inbook_title") ? meta("citation_title") : "";
  const year = meta("citation_publication_date").slice(0, 4);
  // Without BOOK_URL the site does not know where it will be: addresses begin at its root.
  const known = meta("citation_public_url");
  const root = new URL(document.documentElement.dataset.content_root || ".", location.href).href;
  const page = known || location.href.replace(/[#?].*$/, "").slice(root.length);

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Text in which formulas are TeX, and nothing is that is not read: permalinks, buttons.
  const textOf = (element) => {
    const copy = element.cloneNode(true);
    for (const formula of copy.querySelectorAll(".katex")) {
      formula.replaceWith(`$${formula.querySelector("annotation").textContent.trim()}$`);
    }
    for (const extra of copy.querySelectorAll(".headerlink, .cite-button")) extra.remove();
    return copy.textContent.replace(/\s+/g, " ").trim();
  };

  // What is cited: its number, its title if it has one, and the label that its address ends with.
  const describe = (place) => {
    if (place.matches(".eqno")) {
      const label = place.querySelector(".headerlink").hash.slice(1);
      return { number: `Equation ${textOf(place)}`, title: "", label };
    }
    const number = textOf(place.querySelector(".caption-number"));
    const heading = place.querySelector(".admonition-title");
    const title = heading ? textOf(heading).slice(number.length).replace(/^[\s(]+|[\s)]+$/g, "") : "";
    return { number, title, label: place.id };
  };

  const sentence = ({ number, title, label }) => {
    const what = title ? `${number} (${title})` : number;
    return `${meta("citation_author")}, ${what} of “${chapter || book}”, in ${book}, ` +
      `version ${meta("citation_version")}, ${year}, ${page}#${label}`;
  };

  const bibtex = ({ number, title, label }) => {
    const today = new Date().toISOString().slice(0, 10);
    const fields = {
      author: `{${meta("citation_author")}}`,
      title: chapter || book,
      booktitle: book,
      year,
      version: meta("citation_version"),
      note: title ? `${number}: ${title}` : number,
      url: `${page}#${label}`,
      urldate: today,
    };
    const lines = Object.entries(fields).map(([key, value]) => `  ${key.padEnd(9)} = {${value}},`);
    return `@incollection{focalnotes${year}-${label},\n${lines.join("\n")}\n}`;
  };

  let dialog;
  const open = (place) => {
    const what = describe(place);
    const parts = {
      "In a sentence": sentence(what),
      "BibTeX": bibtex(what),
      "Permanent address": `${page}#${what.label}`,
    };
    dialog?.remove();
    const status = make("p", { className: "cite-status", role: "status" });
    const close = make("button", { type: "button", className: "cite-close", textContent: "Close" });
    dialog = make("dialog", { className: "cite-dialog" },
      make("h2", { id: "cite-heading", textContent: `Cite ${what.number}` }));
    dialog.setAttribute("aria-labelledby", "cite-heading");
    for (const [name, text] of Object.entries(parts)) {
      const copy = make("button", { type: "button", textContent: "Copy" });
      copy.setAttribute("aria-label", `Copy: ${name}`);
      copy.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(text);
          status.textContent = `Copied: ${name}`;
        } catch {  // where the page may not write there: the text is selected instead
          getSelection().selectAllChildren(copy.parentElement.nextElementSibling);
          status.textContent = "Selected: copy it with the keyboard";
        }
      });
      const body = make("pre", { textContent: text, tabIndex: 0 });
      body.setAttribute("aria-label", name);
      dialog.append(make("h3", {}, `${name} `, copy), body);
    }
    if (!known) {
      dialog.append(make("p", {
        textContent: "This copy of the site was built without its address (BOOK_URL): "
          + "put the address of the site before the path.",
      }));
    }
    dialog.append(status, close);
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    document.body.append(dialog);
    dialog.showModal();
  };

  const places = ".proof.admonition[id], article figure[id^='fig-'], div.math > .eqno";
  for (const place of document.querySelectorAll(places)) {
    const link = [...place.querySelectorAll(".headerlink")].at(place.matches("figure") ? -1 : 0);
    if (!link) continue;
    const button = make("button", { type: "button", className: "cite-button", textContent: "cite" });
    button.setAttribute("aria-label", `Cite ${describe(place).number}`);
    button.setAttribute("aria-haspopup", "dialog");
    button.addEventListener("click", () => open(place));
    link.after(button);
  }
})();
