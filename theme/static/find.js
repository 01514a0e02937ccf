// On search.html: symbols, terms and results that a query names, and below them the places of the book
// whose text answers it, which find_text.js finds. A symbol may be asked for by its letter (γ), its name
// (gamma) or its TeX (\gamma).
"use strict";

(() => {
  const { named, topic } = focalText;
  const HERE = document.currentScript.src;
  // What TeX says of a symbol's look, not of which symbol it is
  const LOOK = /\\(?:mathrm|mathbb|mathcal|boldsymbol|operatorname|hat|bar|tilde|widetilde)(?![a-z])/gi;

  /** The letters, names and numbers of a symbol or a query, in order: p_t is p, t. */
  const parts = (text) => named(text.replace(LOOK, " "))
    .replace(/\bvar(?=phi|epsilon|theta)/g, "").match(/\p{L}+|\p{N}+|[+*-]/gu) ?? [];

  const wordsOf = (text) => parts(text).map((part) => part.toLowerCase());

  /** How well a symbol fits, of 100. */
  function asSymbol(tex, query) {
    const own = parts(tex), asked = query.parts.join("");
    if (own.join(" ") === query.parts.join(" ")) return 100;
    if (own[0] === asked) return 80;
    if (own.join("").toLowerCase() === asked.toLowerCase()) return 75;
    return own.includes(asked) ? 60 : 0;
  }

  /** How well words fit: each that is asked for must be, or begin, one of them. */
  function asWords(text, query) {
    if (!query.words.length) return 0;
    const own = wordsOf(text);
    if (own.join(" ") === query.words.join(" ")) return 95;
    const occurs = (word) =>
      own.some((one) => (word.length > 2 ? one.startsWith(word) : one === word));
    if (!query.words.every((word) => word.length > 1 && occurs(word))) return 0;
    return own[0].startsWith(query.words[0]) ? 70 : 65;
  }

  function fit(entry, query) {
    const said = asWords(entry.text, query), asked = query.text.toLowerCase();
    if (entry.kind === "symbol") {
      return Math.max(said / 2, ...entry.tex.map((tex) => asSymbol(tex, query)));
    }
    return [entry.label, entry.number?.toLowerCase()].includes(asked) ? 100 : said;
  }

  function findEntries(entries, text) {
    const query = { text, parts: parts(text), words: wordsOf(text) };
    if (!query.parts.length) return [];
    return entries.map((entry, place) => ({ entry, place, fit: fit(entry, query) }))
      .filter((one) => one.fit > 0)
      .sort((a, b) => b.fit - a.fit || a.place - b.place)
      .map((one) => one.entry);
  }

  function item({ kind, name, body, subject, links }) {
    const row = document.createElement("li");
    const add = (tag, className, inner) => {
      const part = document.createElement(tag);
      part.className = className;
      part.innerHTML = inner;  // the site's own HTML, made when it was built
      row.append(part, " ");
      return part;
    };
    if (kind === "symbol") add("span", "found-name", name);
    else add("a", "found-name", name).href = links[0][0];
    if (body) add("span", "found-body", body);
    if (kind === "symbol") {
      const places = add("span", "found-places", `${subject}: `);
      links.forEach(([address, words], i) => {
        const link = document.createElement("a");
        link.href = address;
        link.textContent = words;
        places.append(i ? ", " : "", link);
      });
    } else add("span", "found-places", links[0][1]);
    return row;
  }

  function placeItem({ address, heading, title, snippet }) {
    const row = document.createElement("li");
    const link = Object.assign(document.createElement("a"), { className: "found-name", href: address });
    link.textContent = heading;
    const page = Object.assign(document.createElement("span"), { className: "found-page", textContent: title });
    const body = Object.assign(document.createElement("p"), { className: "found-body" });
    body.append(...snippet().map(([text, marked]) => (
      marked ? Object.assign(document.createElement("mark"), { textContent: text }) : text
    )));
    row.append(link, " ", page, body);
    return row;
  }

  /** The first of a list, and a button that shows as many more. */
  function show(id, rows, most) {
    const section = document.getElementById(id);
    const list = section.querySelector("ol"), button = section.querySelector("button");
    const more = () => {
      const next = rows.splice(0, most);
      list.append(...next.map((make) => make()));
      button.hidden = rows.length === 0;
      button.textContent = `Show ${Math.min(most, rows.length)} more`;
      return list.children[list.children.length - next.length];
    };
    section.hidden = rows.length === 0;
    if (section.hidden) return;
    more();
    button.addEventListener("click", () => more().querySelector("a").focus());
  }

  const load = (name) => new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL(name, HERE).href;
    script.addEventListener("load", done);
    script.addEventListener("error", () => failed(new Error(`${name} does not load`)));
    document.head.append(script);
  });

  async function answer(query) {
    const text = Promise.all([load("minisearch/minisearch.js"), load("find_places.js")]);
    await load("find_entries.js");
    const asked = findEntries(focalEntries, query);
    const entries = asked.length ? asked : findEntries(focalEntries, topic(query));
    const count = entries.length;
    show("found", entries.map((entry) => () => item(entry)), 6);
    await text;
    const shown = new Set(entries.filter(({ kind }) => kind === "term").map(({ links }) => links[0][0]));
    const { found, missing } = await focalText.find(focalPlaces, query);
    const places = found.filter(({ address }) => !shown.has(address));
    const said = [
      count && `${count} ${count > 1 ? "symbols, terms or results" : "symbol, term or result"}`,
      places.length && `${places.length} ${places.length > 1 ? "places" : "place"} in the text`,
    ].filter(Boolean).join(" and ");
    show("found-text", places.map((place) => () => placeItem(place)), 15);
    const quoted = (word) => `“${word}”`;
    const absent = missing.map(({ word, like }) => (
      ` The text does not have ${quoted(word)}${like.length ? `, but ${like.map(quoted).join(", ")}` : ""}.`
    ));
    return `${said || "Nothing"} found for “${query}”.${said ? absent.join("") : ""}`;
  }

  const query = (new URLSearchParams(location.search).get("q") ?? "").trim();
  if (!query) {
    document.querySelector(".bd-search-container input[name=q]").focus();
    return;
  }
  document.querySelector(".bd-search-container input[name=q]").value = query;
  const status = document.querySelector(".found-count");
  answer(query).then(
    (said) => { status.textContent = said; },
    () => { status.textContent = "The search could not be loaded."; },
  );
})();
