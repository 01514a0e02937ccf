// On search.html: the places of the book whose text answers a query. MiniSearch ranks them; here is what
// a word is, which words are one, and which part of a text is shown.
"use strict";

const focalText = (() => {
  const GREEK = {
    __proto__: null,
    α: "alpha", β: "beta", γ: "gamma", δ: "delta", ε: "epsilon", ζ: "zeta", η: "eta", θ: "theta",
    ι: "iota", κ: "kappa", λ: "lambda", μ: "mu", ν: "nu", ξ: "xi", π: "pi", ρ: "rho", ς: "sigma",
    σ: "sigma", τ: "tau", υ: "upsilon", φ: "phi", χ: "chi", ψ: "psi", ω: "omega",
    Γ: "Gamma", Δ: "Delta", Θ: "Theta", Λ: "Lambda", Ξ: "Xi", Π: "Pi", Σ: "Sigma", Φ: "Phi",
    Ψ: "Psi", Ω: "Omega", ϕ: "phi", ϵ: "epsilon", "∞": "infinity",
  };
  const LETTER = new RegExp(`[${Object.keys(GREEK).join("")}]`, "gu");
  const WORD = new RegExp([
    "(?<=\\b(?:are|be|becomes|is) )0(?!\\.?\\p{N})",  // a sentence says that something is 0, or zero
    "\\p{Script=Greek}|∞",
    "\\p{N}+\\.\\p{N}+",
    "\\p{L}_\\p{L}(?!\\p{L})",  // p_t, which is also asked for as pt
    "(?!0(?![\\p{L}\\p{N}]))[\\p{L}\\p{N}]+",
  ].join("|"), "gu");
  const STOP = new Set((
    "a an and are as at be been but by can could did do does for from had has have he how i if in into is it its me "
    + "my no not of on or our shall should so than that the their them then there these they this those to us "
    + "was we were what when where which who why will with would you your"
  ).split(" "));

  // Words that no ending brings together, and words that a query may mean beside its own: in the book
  // scores start, and a loss helps.
  const ROOTS = {
    __proto__: null, bias: "bias", choice: "choos", chose: "choos", chosen: "choos", used: "use", using: "use",
  };
  const ALSO = { choose: ["best"], initialize: ["start", "prior"], use: ["help"] };
  const ENDINGS = [
    [5, /i[sz](?:e[drs]?|ers|ing|ations?)$/],
    [4, /at(?:e[ds]?|ing|ions?|ors?)$/],
    [3, /(?:ions?|ings?|ors?|ers?|e[ds]?)$/],
    [3, /(?<=[^isu])s$/],
  ];
  const VERB = /(?<=^|\b(?:I|to|we|you) )set\b/i;  // not a set of data
  const known = new Map();

  /** Greek letters by their names, and everything else as it is. */
  const named = (text) => text.normalize("NFKC").replace(LETTER, (letter) => ` ${GREEK[letter]} `);

  /** What the words of one family share, initialize, initialise and initial; "" for one that says nothing. */
  function rootOf(match) {
    if (!known.has(match)) {
      const word = (match === "0" ? "zero" : GREEK[match] ?? match.replace("_", "")).toLowerCase();
      known.set(match, word.length < 2 || STOP.has(word) ? "" : ROOTS[word] ?? withoutEnding(word));
    }
    return known.get(match);
  }

  function withoutEnding(word) {
    const single = word.replace(/i(?:es|ed)$/, "y");
    if (single !== word) return single;
    for (const [least, ending] of ENDINGS) {
      const stem = word.replace(ending, "");
      if (stem !== word && stem.length >= least) return stem.replace(/([bgmnprt])\1$/, "$1");
    }
    return word;
  }

  const also = new Map(Object.entries(ALSO).map(([word, others]) => [rootOf(word), others.map(rootOf)]));

  const wordsOf = (text) => text.match(WORD) ?? [];

  /** A query without the words that say nothing: "what is gamma" is "gamma". */
  const topic = (query) => query.split(/\s+/).filter((word) => !STOP.has(word.toLowerCase())).join(" ");

  /** Up to three words of the book that begin with a word or differ from it in a letter or two. */
  function like(word, vocabulary) {
    const words = new MiniSearch({ fields: ["id"], tokenize: (one) => [one] });
    words.addAll([...known].flatMap(([id, root]) => (vocabulary.has(root) ? { id } : [])));
    const roots = new Map();
    for (const { id } of words.search(word, { prefix: word.length > 2, fuzzy: word.length > 2 && (word.length > 5 ? 2 : 1) })) {
      const same = id[0].toLowerCase() === word[0].toLowerCase();
      if (same && roots.size < 3 && !roots.has(rootOf(id))) roots.set(rootOf(id), id.toLowerCase());
    }
    return [...roots.values()];
  }

  /** Where in a text the words of a query are together, and what they are worth there. */
  function together(marks, worthOf, width) {
    let place = 0, most = 0;
    marks.forEach(({ start }, i) => {
      const near = new Set();
      for (let j = i; j < marks.length && marks[j].start < start + width; j += 1) near.add(marks[j].group);
      const worth = [...near].reduce((sum, group) => sum + worthOf[group], 0);
      if (worth > most) [place, most] = [start, worth];
    });
    return { start: place, worth: most };
  }

  /** The part of a text around a place, as pieces of [text, whether it is marked]. */
  function snippet(text, marks, place) {
    const sentence = Math.max(...[". ", ": ", "? "].map((stop) => text.lastIndexOf(stop, place - 1) + 2), 0);
    const from = place < 40 ? 0 : place - sentence < 60 ? sentence : text.indexOf(" ", place - 40) + 1;
    const to = from + 220 < text.length ? text.lastIndexOf(" ", from + 220) : text.length;
    const pieces = [[from ? "… " : "", false]];
    let at = from;
    for (const { start, end } of marks) {
      if (start < from || end > to) continue;
      pieces.push([text.slice(at, start), false], [text.slice(start, end), true]);
      at = end;
    }
    return [...pieces, [text.slice(at, to) + (to < text.length ? " …" : ""), false]];
  }

  /** The places that a query finds, best first: those with all its words, and if they are few, those with
      some; and which of its words the book does not have, with words like them. */
  async function find({ pages, places }, query) {
    const index = new MiniSearch({ fields: ["heading", "page", "text"], tokenize: wordsOf, processTerm: rootOf });
    await index.addAllAsync(
      places.map(([page, , heading, text], id) => ({ id, heading, page: pages[page][1], text })), { chunkSize: 100 },
    );
    const vocabulary = new Set(known.values());
    const asked = [...new Set(wordsOf(query.normalize("NFKC").replace(VERB, "choose")))].filter(rootOf);
    const missing = asked.filter((word) => !vocabulary.has(rootOf(word)))
      .map((word) => ({ word, like: like(word, vocabulary) }));
    // For each word the roots that stand for it: its own, or those of words like it
    const groups = asked.map((word) => {
      const lost = missing.find((one) => one.word === word);
      return lost ? lost.like.map(rootOf) : [rootOf(word), ...also.get(rootOf(word)) ?? []];
    }).filter((roots) => roots.length);
    const search = (combineWith, queries) => index.search({ combineWith, queries }, {
      tokenize: (text) => [text],
      processTerm: (term) => term,
      boost: { heading: 2, page: 0.5 },
      boostTerm: (term) => (groups.some(([own]) => own === term) ? 1 : 0.8),
      // Prose answers a question sooner than a statement with its proof, and that sooner than a function.
      boostDocument: (id) => {
        const [page, anchor] = places[id];
        return pages[page][0] === "reference.html" ? 0.6 : /^(?:def|ex|prop)-/.test(anchor) ? 0.8 : 1;
      },
    });

    const anyOf = groups.map((queries) => ({ combineWith: "OR", queries }));
    const all = search("AND", anyOf), ids = new Set(all.map(({ id }) => id));
    const some = all.length < 10 ? search("OR", anyOf).filter(({ id }) => !ids.has(id)) : [];

    const rarity = groups.map((roots) => Math.log(1 + places.length / (1 + search("OR", roots).length)));
    const total = rarity.reduce((sum, one) => sum + one, 0);
    const marksOf = (text) => [...text.matchAll(WORD)]
      .map((match) => ({ match, group: groups.findIndex((roots) => roots.includes(rootOf(match[0]))) }))
      .filter(({ group }) => group >= 0)
      .map(({ match, group }) => ({ group, start: match.index, end: match.index + match[0].length }));
    const nearness = ({ id }) => together(marksOf(places[id][3]), rarity, 40).worth / total;
    // Of the best, those come first that have the words in one breath.
    const found = [all, some].flatMap((ones) => [
      ...ones.slice(0, 50).map((one) => ({ ...one, score: one.score * (1 + nearness(one)) }))
        .sort((a, b) => b.score - a.score),
      ...ones.slice(50),
    ]).map(({ id }) => {
      const [page, anchor, heading, text] = places[id], [address, title] = pages[page];
      return {
        address: address + (anchor && `#${anchor}`), heading, title: anchor && title,
        snippet: () => {
          const marks = marksOf(text);
          return snippet(text, marks, together(marks, rarity, 170).start);
        },
      };
    });
    return { found, missing };
  }

  return { find, named, topic };
})();
