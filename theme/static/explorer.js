/* The explorer: curves of the losses that the reader moves. The page has its controls and panels
   (focal_theme/explorer.py); JSXGraph, which draws the curves, is loaded when they come near. */
(() => {
  "use strict";

  const LIBRARY = new URL("jsxgraph/jsxgraphcore.js", document.currentScript.src).href;

  // The formulas. A margin is z = log(p_t / (1 - p_t)), u = -log p_t and v = -log(1 - p_t).

  const { abs, exp, log, log1p, max, min, sqrt } = Math;
  const logit = (p) => log(p) - log1p(-p);

  function margin(z) {
    const e = exp(-abs(z)), tail = log1p(e);
    return {
      p: (z < 0 ? e : 1) / (1 + e),
      q: (z < 0 ? 1 : e) / (1 + e),
      u: tail + max(-z, 0),
      v: tail + max(z, 0),
      a: z < 0 ? e * (tail - z) : e === 0 ? 1 : tail / e, // p u / q
    };
  }

  const factor = (p, gamma) => exp(gamma * log1p(-p));
  const loss = (p, gamma) => factor(p, gamma) * -log(p);
  const gradient = (p, gamma) => factor(p, gamma) * (1 - p - gamma * p * log(p));
  const ratio = (p, gamma) => exp(-gamma * log1p(-p));

  // The logit of the probability for which the logit x is the best score, and the slope; no weight.
  function steepen(x, gamma) {
    const z = abs(x), one = margin(z), zero = margin(-z);
    const fall = exp(-z) * z + Math.expm1(-2 * z) * one.a; // zero.a - one.a
    const value = (gamma + 1) * z + log1p((gamma * fall) / (1 + gamma * one.a));
    return x < 0 ? -value : value;
  }

  const shift = (alpha) => (alpha ? logit(alpha) : 0);

  /** The logit of the probability that a score stands for. */
  const posterior = (x, gamma, alpha) => steepen(x, gamma) - shift(alpha);

  /** The logit of the score that a loss asks for where class 1 has a probability of this logit. */
  function score(x, gamma, alpha) {
    const goal = x + shift(alpha), size = abs(goal);
    let low = size / (gamma + 1), high = (size + log1p(gamma)) / (gamma + 1);
    for (let turn = 0; turn < 100 && low < high; turn++) {
      const middle = (low + high) / 2;
      if (middle === low || middle === high) break;
      if (steepen(middle, gamma) < size) low = middle;
      else high = middle;
    }
    return goal < 0 ? -high : high;
  }

  // A population of fixed scores: the margins of each class are normal.

  const NEGATIVES = 4, POSITIVES = 0.5, DEVIATION = 1.5;
  const LEAST = -20, LARGEST = 24, STEP = 1 / 16; // the margins beyond have no weight
  const NODES = [
    [0.3399810435848563, 0.6521451548625461],
    [0.8611363115940526, 0.3478548451374538],
  ];

  /** Integral of a class's loss over margins from a to b, by Gauss's rule with four points. */
  function piece(a, b, gamma, mean) {
    const half = (b - a) / 2;
    let total = 0;
    for (const [node, weight] of NODES) {
      for (const z of [a + half * (1 - node), a + half * (1 + node)]) {
        const { u, v } = margin(z), distance = (z - mean) / DEVIATION;
        total += weight * exp(-distance * distance / 2 - gamma * v) * u;
      }
    }
    return (total * half) / (DEVIATION * sqrt(2 * Math.PI));
  }

  const known = new Map();
  /** The expected loss of a class up to each margin of the grid. */
  function sums(gamma, mean) {
    const key = `${gamma} ${mean}`;
    if (!known.has(key)) {
      if (known.size > 500) known.clear();
      const steps = (LARGEST - LEAST) / STEP, result = new Float64Array(steps + 1);
      for (let k = 0; k < steps; k++) {
        result[k + 1] = result[k] + piece(LEAST + k * STEP, LEAST + (k + 1) * STEP, gamma, mean);
      }
      known.set(key, result);
    }
    return known.get(key);
  }

  function upTo(z, gamma, mean) {
    const table = sums(gamma, mean), k = Math.floor((z - LEAST) / STEP);
    if (k < 0) return 0;
    if (k >= table.length - 1) return table[table.length - 1];
    return table[k] + piece(LEAST + k * STEP, z, gamma, mean);
  }

  /** What the negatives and the positives with margins up to z lose, and what all lose. */
  function totals(z, gamma, alpha, negatives) {
    const zero = negatives * (alpha ? 1 - alpha : 1), one = alpha || 1;
    return {
      negatives: zero * upTo(z, gamma, NEGATIVES),
      positives: one * upTo(z, gamma, POSITIVES),
      all: zero * upTo(Infinity, gamma, NEGATIVES) + one * upTo(Infinity, gamma, POSITIVES),
    };
  }

  /** Every number that the explorer shows. An alpha of 0, or none, is no weight. */
  function values({ gamma, alpha = 0, ratio: negatives = 1000, p }) {
    const x = logit(p), best = score(x, gamma, alpha), stands = posterior(x, gamma, alpha);
    const one = alpha || 1, zero = alpha ? 1 - alpha : 1;
    const result = {
      crossEntropy: loss(p, 0),
      focal: loss(p, gamma),
      focalPositive: one * loss(p, gamma),
      focalNegative: zero * loss(p, gamma),
      ratio: ratio(p, gamma),
      gradientCrossEntropy: gradient(p, 0),
      gradient: gradient(p, gamma),
      gradientPositive: one * gradient(p, gamma),
      gradientNegative: zero * gradient(p, gamma),
      score: margin(best).p,
      posterior: margin(stands).p,
    };
    for (const [name, power, weight] of [["CrossEntropy", 0, 0], ["Focal", gamma, alpha]]) {
      const here = totals(x, power, weight, negatives);
      const easy = totals(0, power, weight, negatives);
      const end = totals(Infinity, power, weight, negatives);
      result[`upTo${name}`] = (here.negatives + here.positives) / here.all;
      result[`negatives${name}`] = end.negatives / end.all;
      result[`easyNegatives${name}`] = (end.negatives - easy.negatives) / end.all;
    }
    return result;
  }

  // How things look: the book's colors, in black ink on nothing; the style inverts it in dark mode.

  const CE = "#000000", POSITIVE = "#9A6700", NEGATIVE = "#57606A";
  const COLORS = [
    [0, "#000000"], [0.5, "#AA3377"], [1, "#0072B2"],
    [2, "#D55E00"], [3, "#777777"], [5, "#00855F"],
  ];

  /** The book's color of a gamma; between two that have one, a mixture. */
  function color(gamma) {
    const after = max(1, COLORS.findIndex(([value]) => value >= gamma));
    const [[a, from], [b, to]] = [COLORS[after - 1], COLORS[after]];
    const channel = (text, k) => parseInt(text.slice(1 + 2 * k, 3 + 2 * k), 16);
    const mixed = [0, 1, 2].map((k) => {
      const part = (gamma - a) / (b - a);
      const value = Math.round((1 - part) * channel(from, k) + part * channel(to, k));
      return value.toString(16).padStart(2, "0");
    });
    return `#${mixed.join("")}`;
  }

  function text(number) {
    if (number === 0) return "0";
    if (number >= 1e-4 && number < 1e6) {
      const rounded = Number(number.toPrecision(4));
      return rounded.toLocaleString("en", { maximumSignificantDigits: 4 });
    }
    const [digits, power] = number.toExponential(2).split("e");
    return `${digits} × 10^${Number(power)}`;
  }
  const percent = (share) => `${(100 * share).toFixed(1)}%`;
  const short = (number) => String(Number(number.toFixed(4)));
  const imbalance = (negatives) => Math.round(negatives).toLocaleString("en");

  // The panels. A curve is a function of the state that gives points [x, y].

  const range = (n) => Array.from({ length: n + 1 }, (_, k) => k / n);
  const INNER = range(300).map((part) => margin(20 * part - 10).p); // close where curves are steep
  const graph = (f) => INNER.map((p) => [p, f(p)]);

  function weighted(f) {
    return (state) => state.alpha
      ? [[graph((p) => f(p, 0)), CE],
         [graph((p) => state.alpha * f(p, state.gamma)), color(state.gamma)],
         [graph((p) => (1 - state.alpha) * f(p, state.gamma)), color(state.gamma), "dashed"]]
      : [[graph((p) => f(p, 0)), CE], [graph((p) => f(p, state.gamma)), color(state.gamma)]];
  }

  function shares(state) {
    const of = (gamma, alpha, part) => {
      const points = [[0, 0]];
      for (let z = -8; z <= 8; z += 2 * STEP) {
        const t = totals(z, gamma, alpha, state.ratio);
        points.push([margin(z).p, part(t) / t.all]);
      }
      const t = totals(Infinity, gamma, alpha, state.ratio);
      return [...points, [1, part(t) / t.all]];
    };
    const both = (t) => t.negatives + t.positives;
    return [
      [of(0, 0, both), CE],
      [of(state.gamma, state.alpha, both), color(state.gamma)],
      [of(state.gamma, state.alpha, (t) => t.negatives), NEGATIVE, "dashed"],
      [of(state.gamma, state.alpha, (t) => t.positives), POSITIVE, "dotted"],
    ];
  }

  function scores(state) {
    const inner = INNER.map((s) => [margin(posterior(logit(s), state.gamma, state.alpha)).p, s]);
    return [[[[0, 0], [1, 1]], CE], [[[0, 0], ...inner, [1, 1]], color(state.gamma)]];
  }

  const FIFTHS = range(5).map((value) => [value, short(value)]);
  const weightedValues = (name, ce, shown) => [
    ["CE", ce],
    ...(shown.alpha
      ? [["<i>α</i> FL, label 1", `${name}Positive`],
         ["(1 − <i>α</i>) FL, label 0", `${name}Negative`]]
      : [["FL", name]]),
  ];

  const spokenPair = (state, plain, positive, negative) => state.alpha
    ? `${text(positive)} for label 1, ${text(negative)} for label 0` : text(plain);

  // top: of the vertical axis; at: where the point is; values: what is read out, in HTML
  const PARTS = {
    loss: {
      top: 5,
      ticks: range(5).map((value) => [5 * value, short(5 * value)]),
      curves: weighted(loss),
      at: (v) => v.focalPositive,
      values: (state) => weightedValues("focal", "crossEntropy", state),
      spoken: (state, v) => `loss: cross entropy ${text(v.crossEntropy)}, focal `
        + spokenPair(state, v.focal, v.focalPositive, v.focalNegative),
    },
    gradient: {
      top: 1.4,
      ticks: range(7).map((value) => [1.4 * value, (1.4 * value).toFixed(1)]),
      curves: weighted(gradient),
      at: (v) => v.gradientPositive,
      values: (state) => weightedValues("gradient", "gradientCrossEntropy", state),
      spoken: (state, v) => `gradient: cross entropy ${text(v.gradientCrossEntropy)}, focal `
        + spokenPair(state, v.gradient, v.gradientPositive, v.gradientNegative),
    },
    ratio: {
      top: 4,
      ticks: range(4).map((value) => [4 * value, (10 ** (4 * value)).toLocaleString("en")]),
      curves: (state) => [0, state.gamma].map((gamma) =>
        [graph((p) => Math.log10(ratio(p, gamma))), gamma ? color(gamma) : CE]),
      at: (v) => Math.log10(v.ratio),
      values: () => [["CE / FL", "ratio"]],
      spoken: (state, v) => `focal loss is ${text(v.ratio)} times cheaper`,
    },
    population: {
      top: 1,
      ticks: FIFTHS,
      curves: shares,
      at: (v) => v.upToFocal,
      values: () => [
        ["up to the point: CE", "upToCrossEntropy", percent],
        ["FL", "upToFocal", percent],
        ["negatives: CE", "negativesCrossEntropy", percent],
        ["FL", "negativesFocal", percent],
        ["easy negatives: CE", "easyNegativesCrossEntropy", percent],
        ["FL", "easyNegativesFocal", percent],
      ],
      spoken: (state, v) => `negatives own ${percent(v.negativesCrossEntropy)} of the total cross `
        + `entropy, ${percent(v.negativesFocal)} of the focal loss`,
    },
    score: {
      top: 1,
      ticks: FIFTHS,
      curves: scores,
      at: (v) => v.score,
      values: (state) => [
        [`probability ${short(state.p)} is scored`, "score"],
        [`score ${short(state.p)} stands for`, "posterior"],
      ],
      spoken: (state, v) => `the probability ${short(state.p)} is scored ${text(v.score)}`,
    },
  };

  // As in focal_theme/explorer.py
  const LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 24;

  function clip(points, highest) {
    const kept = [];
    points.forEach(([x, y], k) => {
      const before = points[k - 1];
      if (before && before[1] > highest !== y > highest) {
        const part = (highest - before[1]) / (y - before[1]);
        kept.push([before[0] + part * (x - before[0]), highest]);
      }
      if (y <= highest) kept.push([x, y]);
    });
    return kept;
  }

  /** One picture: JSXGraph's axes, curves and the point. `current` gives p, `change` sets it. */
  class Board {
    constructor(element, part, current, change) {
      this.element = element;
      this.part = part;
      this.board = window.JXG.JSXGraph.initBoard(element.id, {
        boundingBox: [0, part.top, 1, 0],
        axis: false,
        keepAspectRatio: false,
        showCopyright: false,
        showInfobox: false,
        showNavigation: false,
        pan: { enabled: false },
        zoom: { enabled: false },
        keyboard: { enabled: false }, // its steps are pixels: see `keys`
        resize: { enabled: false },
        registerEvents: {
          fullscreen: false, keyboard: false, pointer: true, resize: false, wheel: false },
      });
      for (const name of ["role", "aria-label", "tabindex"]) element.removeAttribute(name);
      this.fit();
      const still = { fixed: true, highlight: false, needsRegularUpdate: false };
      const line = { ...still, strokeColor: "#b8b8b8", strokeOpacity: 0.5,
        strokeWidth: 0.6, layer: 1, straightFirst: false, straightLast: false };
      const label = { ...still, display: "internal", parse: false, fontSize: 12,
        strokeColor: "#000000", layer: 2 };
      const end = { ...still, visible: false }, ends = { point1: end, point2: end };
      const rule = (a, b) => this.board.create("segment", [a, b], { ...line, ...ends });
      for (const [value, name] of part.ticks) {
        rule([0, value], [1, value]);
        this.label(() => -6 / this.board.unitX, value, name, { ...label, anchorX: "right" });
      }
      for (const [value, name] of FIFTHS) {
        rule([value, 0], [value, part.top]);
        this.label(value, () => -14 / this.board.unitY, name, { ...label, anchorX: "middle" });
      }
      this.curves = [];
      this.guide = this.board.create("curve", [[0, 0], [0, part.top]], {
        fixed: true, highlight: false, strokeColor: "#57606A", strokeWidth: 1, dash: 1, layer: 4 });
      this.point = this.board.create("point", [0.5, 0], {
        name: "", withLabel: false, size: 7, showInfobox: false, layer: 9, transitionDuration: 0,
        highlightStrokeColor: "#000000", strokeColor: "#ffffff", strokeWidth: 2 });
      this.point.on("drag", () => change(this.point.X()));
      this.listen(current, change);
      this.handle = this.point.rendNode;
      this.handle.setAttribute("role", "slider");
      this.handle.setAttribute("tabindex", "0");
      this.handle.setAttribute("aria-valuemin", "0");
      this.handle.setAttribute("aria-valuemax", "1");
      this.handle.setAttribute("aria-labelledby",
        element.closest(".explorer-panel").getAttribute("aria-labelledby"));
      this.handle.addEventListener("keydown", (event) => keys(event, current(), change));
      new ResizeObserver(() => this.fit()).observe(element);
    }

    /** Beside the point, a press takes the point there; of a finger, which may scroll, a tap. */
    listen(current, change) {
      const { element, board } = this;
      const place = (event) => board.getUsrCoordsOfMouse(event)[0];
      const follow = (event) => change(place(event));
      let held = false, pressed = false, moved = false, beside = 0;
      element.addEventListener("pointerdown", (event) => {
        held = board.mode === board.BOARD_MODE_DRAG;
        moved = false;
        beside = current() - place(event);
        pressed = !held && event.pointerType !== "touch" && event.button === 0;
        if (pressed) follow(event);
        this.handle.focus({ preventScroll: true });
      });
      element.addEventListener("pointermove", (event) => {
        pressed &&= (event.buttons & 1) === 1;
        moved = true;
        if (pressed) follow(event);
      });
      // JSXGraph may not follow the last of quick movements: the point is left where it is let go.
      element.addEventListener("pointerup", (event) => {
        if (held && moved) change(place(event) + beside);
      });
      element.addEventListener("click", (event) => {
        if (!held) follow(event);
      });
    }

    label(x, y, name, attributes) {
      const words = this.board.create("text", [x, y, name], { ...attributes, anchorY: "middle" });
      words.rendNode.setAttribute("aria-hidden", "true");
    }

    /** The margins around the axes are of a fixed size, whatever the board's. */
    fit() {
      const { clientWidth: width, clientHeight: height } = this.element;
      if (!width || !height) return;
      const x = 1 / (width - LEFT - RIGHT), y = this.part.top / (height - TOP - BOTTOM);
      this.board.resizeContainer(width, height, true, true);
      this.board.setBoundingBox(
        [-LEFT * x, this.part.top + TOP * y, 1 + RIGHT * x, -BOTTOM * y], false, "keep");
      this.board.fullUpdate();
    }

    draw(state, numbers) {
      this.board.suspendUpdate();
      const curves = this.part.curves(state);
      while (this.curves.length > curves.length) this.board.removeObject(this.curves.pop());
      curves.forEach(([points, stroke, style], k) => {
        this.curves[k] ??= this.board.create("curve", [[0], [0]], {
          fixed: true, highlight: false, strokeWidth: k ? 2.4 : 1.8, layer: 5,
          transitionDuration: 0 });
        const shown = clip(points, this.part.top);
        this.curves[k].dataX = shown.map(([x]) => x);
        this.curves[k].dataY = shown.map(([, y]) => y);
        this.curves[k].setAttribute({
          strokeColor: stroke, dash: { dashed: 2, dotted: 1 }[style] ?? 0 });
      });
      this.guide.dataX = [state.p, state.p];
      // Above the frame the point stays at its edge, hollow.
      const y = this.part.at(numbers), above = y > this.part.top;
      this.point.setAttribute({
        fillColor: above ? "#ffffff" : color(state.gamma),
        strokeColor: above ? color(state.gamma) : "#ffffff" });
      this.point.setPositionDirectly(window.JXG.COORDS_BY_USER, [state.p, min(y, this.part.top)]);
      this.handle.setAttribute("aria-valuenow", short(state.p));
      this.handle.setAttribute("aria-valuetext", short(state.p));
      this.board.unsuspendUpdate();
    }
  }

  const STEPS = { ArrowRight: 0.01, ArrowUp: 0.01, ArrowLeft: -0.01, ArrowDown: -0.01,
    PageUp: 0.1, PageDown: -0.1, Home: -1, End: 1 };

  function keys(event, p, change) {
    if (!(event.key in STEPS) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    change(p + STEPS[event.key] * (event.shiftKey ? 0.1 : 1));
  }

  // The state of one explorer, its controls and its address

  const RANGES = { gamma: [0, 5], alpha: [0, 0.99], ratio: [1, 10000], p: [0.001, 0.999] };
  const within = (name, value) => min(max(value, RANGES[name][0]), RANGES[name][1]);
  const toSlider = { ratio: (value) => Math.log10(value) };
  const fromSlider = { ratio: (value) => Number((10 ** value).toPrecision(2)) };
  const OUTPUTS = {
    gamma: short,
    alpha: (alpha) => (alpha ? short(alpha) : "off"),
    ratio: (negatives) => `${imbalance(negatives)} to 1`,
    p: short,
  };

  /** The element that the address names. What is no text when decoded names none. */
  function placeInAddress() {
    try {
      return document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch {
      return null;
    }
  }

  let library;
  function loadLibrary() {
    library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = LIBRARY;
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    });
    return library;
  }

  class Explorer {
    constructor(element) {
      this.element = element;
      this.start = Object.fromEntries(
        Object.keys(RANGES).map((name) => [name, Number(element.dataset[name])]));
      this.state = { ...this.start, ...this.fromAddress() };
      this.inputs = [...element.querySelectorAll(".explorer-controls input")];
      this.panels = [...element.querySelectorAll(".explorer-panel")];
      this.boards = [];
      for (const input of this.inputs) {
        input.addEventListener("input", () => {
          const value = (fromSlider[input.name] ?? Number)(Number(input.value));
          this.change({ [input.name]: value });
        });
      }
      const on = (selector, kind, does) =>
        element.querySelector(selector).addEventListener(kind, does);
      on("[name=reset]", "click", () => this.change(this.start));
      on("[name=copy]", "click", () => this.copy());
      const hidden = element.querySelectorAll("[hidden]:not(.explorer-board)");
      hidden.forEach((part) => { part.hidden = false; });
      this.show();
      const near = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        near.disconnect();
        loadLibrary().then(() => this.live(), () => { /* the figures stay */ });
      }, { rootMargin: "100px" });
      near.observe(element);
    }

    /** The settings that the page was asked for, if they are this explorer's. */
    fromAddress() {
      const found = {}, named = placeInAddress();
      if (named?.matches(".explorer") && named !== this.element) return found;
      const asked = new URLSearchParams(location.search);
      for (const name of Object.keys(RANGES)) {
        const value = asked.get(name);
        if (value !== null && value.trim() !== "" && Number.isFinite(Number(value))) {
          found[name] = within(name, Number(value));
        }
      }
      return found;
    }

    get address() {
      const address = new URL(location.href);
      const shown = new Set(this.inputs.map((input) => input.name));
      for (const name of Object.keys(RANGES)) {
        if (shown.has(name) && (name !== "alpha" || this.state.alpha)) {
          address.searchParams.set(name, String(Number(this.state[name].toPrecision(6))));
        } else address.searchParams.delete(name);
      }
      address.hash = this.element.id;
      return address.href;
    }

    change(settings) {
      for (const [name, value] of Object.entries(settings)) this.state[name] = within(name, value);
      this.show();
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.settle(), 400);
    }

    /** What waits until the reader rests: the address, and what a screen reader says. */
    settle() {
      try {
        history.replaceState(history.state, "", this.address);
      } catch { /* a page that is opened from a file may not */ }
      const { gamma, alpha, p } = this.state;
      const said = this.panels.map((panel) =>
        PARTS[panel.dataset.part].spoken(this.state, this.numbers));
      const weight = alpha ? `, alpha ${short(alpha)}` : "";
      this.element.querySelector(".explorer-spoken").textContent =
        `gamma ${short(gamma)}${weight}, p ${short(p)}: ${said.join("; ")}`;
    }

    async copy() {
      const status = this.element.querySelector("[role=status]");
      this.settle();
      try {
        await navigator.clipboard.writeText(this.address);
        status.textContent = "Copied";
      } catch {
        status.textContent = "Copy the page's address: it has the setting";
      }
      setTimeout(() => { status.textContent = ""; }, 4000);
    }

    /** Put boards in the places of the figures. */
    live() {
      for (const panel of this.panels) {
        const part = PARTS[panel.dataset.part], board = panel.querySelector(".explorer-board");
        board.hidden = false;
        const change = (p) => this.change({ p: Number(p.toFixed(3)) });
        this.boards.push(new Board(board, part, () => this.state.p, change));
      }
      this.element.classList.add("explorer-moves");
      this.show();
    }

    show() {
      const { state } = this;
      this.numbers = values(state);
      for (const input of this.inputs) {
        const words = OUTPUTS[input.name](state[input.name]);
        const place = String((toSlider[input.name] ?? Number)(state[input.name]));
        if (Number(input.value) !== Number(place)) input.value = place;
        input.setAttribute("aria-valuetext", words);
        input.previousElementSibling.textContent = words;
      }
      this.panels.forEach((panel) => {
        const entries = PARTS[panel.dataset.part].values(state).map(([name, key, form = text]) => {
          const entry = document.createElement("div");
          entry.innerHTML = `<dt>${name}</dt><dd></dd>`;
          entry.lastChild.textContent = form(this.numbers[key]);
          entry.lastChild.dataset.value = this.numbers[key];
          entry.lastChild.dataset.name = key;
          return entry;
        });
        panel.querySelector(".explorer-values").replaceChildren(...entries);
      });
      this.showKey();
      cancelAnimationFrame(this.frame);
      this.frame = requestAnimationFrame(() => {
        for (const board of this.boards) board.draw(state, this.numbers);
      });
    }

    showKey() {
      const { gamma, alpha } = this.state;
      const has = (name) => this.panels.some((panel) => panel.dataset.part === name);
      const name = alpha ? "<i>α</i>-weighted FL" : "FL";
      const weighs = alpha && (has("loss") || has("gradient"));
      const rows = [
        [CE, "", "CE"],
        [color(gamma), "", `${name}, <i>γ</i> = ${short(gamma)}${weighs ? ", label 1" : ""}`],
        ...(weighs ? [[color(gamma), "5 4", "label 0"]] : []),
        ...(has("population")
          ? [[NEGATIVE, "5 4", "the negatives’ part"], [POSITIVE, "2 3", "the positives’ part"]]
          : []),
      ];
      const swatch = (stroke, dash) =>
        '<svg class="explorer-ink" viewBox="0 0 28 6" width="28" height="6" aria-hidden="true">'
        + `<path d="M0,3L28,3" stroke="${stroke}" stroke-width="2.4" stroke-dasharray="${dash}"/>`
        + "</svg>";
      this.element.querySelector(".explorer-live").innerHTML = rows
        .map(([stroke, dash, words]) => `<span>${swatch(stroke, dash)} ${words}</span>`).join("");
    }
  }

  window.focalExplorer = { values };
  document.querySelectorAll(".explorer").forEach((element) => new Explorer(element));
})();
