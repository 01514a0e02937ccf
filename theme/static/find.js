// On search.html: symbols, terms and results that a query names, above Sphinx's own results. A symbol
// may be asked for by its letter (γ), its name (gamma) or its TeX (\gamma).
"use strict";

(() => {
  const MOST = 12;
  const LIST = new URL("find_entries.js", document.currentScript.src).href;
  const GREEK = {
    α: "alpha", β: "beta", γ: "gamma", δ: "delta", ε: "epsilon", ζ: "zeta", η: "eta", θ: "theta",
    ι: "iota", κ: "kappa", λ: "lambda", μ: "mu", ν: "nu", ξ: "xi", π: "pi", ρ: "rho", ς: "sigma",
    σ: "sigma", τ: "tau", υ: "upsilon", φ: "phi", χ: "chi", ψ: "psi", ω: "omega",
    Γ: "Gamma", Δ: "Delta", Θ: "Theta", Λ: "Lambda", Ξ: "Xi", Π: "Pi", Σ: "Sigma", Φ: "Phi",
    Ψ: "Psi", Ω: "Omega", ϕ: "phi", ϵ: "epsilon", "∞": "infinity",
  };
  const LETTER = new RegExp(`[${Object.keys(GREEK).join("")}]`, "gu");
  // What TeX says of a symbol's look, not of which symbol it is
  const LOOK = /\\(?:mathrm|mathbb|mathcal|boldsymbol|operatorname|hat|bar|tilde|widetilde)(?![a-z])/gi;

  /** Greek letters by their names, and everything else as it is. */
  const named = (text) => text.normalize("NFKC").replace(LETTER, (letter) => ` ${GREEK[letter]} `);

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

  function find(entries, text) {
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

  function show(entries, text) {
    const section = document.getElementById("found"), found = find(entries, text);
    const { length } = found;
    section.querySelector("h2").hidden = length === 0;
    section.querySelector("ol").replaceChildren(...found.slice(0, MOST).map(item));
    section.querySelector("[role=status]").textContent =
      length === 0 ? `No symbol, term or result is called “${text}”.`
        : length > MOST ? `The first ${MOST} of ${length} for “${text}”.`
          : `${length} found for “${text}”.`;
  }

  const query = (new URLSearchParams(location.search).get("q") ?? "").trim();
  if (!query) {
    document.querySelector(".bd-search-container input[name=q]").focus();
    return;
  }
  // Sphinx's index has the names of Greek letters, from TeX, and not the letters.
  if (typeof Search !== "undefined") {
    const perform = Search.performSearch;
    Search.performSearch = (text) => perform(named(text).trim());
  }
  const script = document.createElement("script");
  script.src = LIST;
  script.addEventListener("load", () => show(window.focalEntries, query));
  document.head.append(script);
})();
