/* The explorer: curves of the losses that the reader moves. The page has its controls and panels
   (focal_theme/explorer.py), and curves.js the numbers; JSXGraph, which draws the curves, is loaded
   when they come near. */
(() => {
  "use strict";

  const LIBRARY = new URL("jsxgraph/jsxgraphcore.js", document.currentScript.src).href;

  const { max, min } = Math;
  const { RANGES, PARTS, FIFTHS, FRAME, clip, values } = window.focalCurves;

  // How things look: the book's colors, in black ink on nothing; the style inverts it in dark mode.

  const explorers = document.querySelectorAll(".explorer");
  const COLORS = JSON.parse(explorers[0].dataset.colors); // focal_notes/palette.json

  /** The book's color of a gamma; between two that have one, a mixture. */
  function color(gamma) {
    const after = max(1, COLORS.gammas.findIndex(([value]) => value >= gamma));
    const [[a, from], [b, to]] = COLORS.gammas.slice(after - 1, after + 1);
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

  // The stroke of what a curve is of, and JSXGraph's dash
  const LOOKS = {
    "cross entropy": () => [COLORS.ink, 0],
    focal: (gamma) => [color(gamma), 0],
    "label 0": (gamma) => [color(gamma), 2],
    negatives: () => [COLORS.negative, 2],
    positives: () => [COLORS.positive, 1],
  };

  // The panels

  const weightedValues = (name, ce, shown) => [
    ["CE", ce],
    ...(shown.alpha
      ? [["<i>α</i> FL, label 1", `${name}Positive`],
         ["(1 − <i>α</i>) FL, label 0", `${name}Negative`]]
      : [["FL", name]]),
  ];

  const spokenPair = (state, plain, positive, negative) => state.alpha
    ? `${text(positive)} for label 1, ${text(negative)} for label 0` : text(plain);

  // values: what is read out, in HTML; spoken: what a screen reader says
  const READOUTS = {
    loss: {
      values: (state) => weightedValues("focal", "crossEntropy", state),
      spoken: (state, v) => `loss: cross entropy ${text(v.crossEntropy)}, focal `
        + spokenPair(state, v.focal, v.focalPositive, v.focalNegative),
    },
    gradient: {
      values: (state) => weightedValues("gradient", "gradientCrossEntropy", state),
      spoken: (state, v) => `gradient: cross entropy ${text(v.gradientCrossEntropy)}, focal `
        + spokenPair(state, v.gradient, v.gradientPositive, v.gradientNegative),
    },
    ratio: {
      values: () => [["CE / FL", "ratio"]],
      spoken: (state, v) => `focal loss is ${text(v.ratio)} times cheaper`,
    },
    population: {
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
      values: (state) => [
        [`probability ${short(state.p)} is scored`, "score"],
        [`score ${short(state.p)} stands for`, "posterior"],
      ],
      spoken: (state, v) => `the probability ${short(state.p)} is scored ${text(v.score)}`,
    },
  };

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
      const line = { ...still, strokeColor: COLORS.grid, strokeOpacity: 0.5,
        strokeWidth: 0.6, layer: 1, straightFirst: false, straightLast: false };
      const label = { ...still, display: "internal", parse: false, fontSize: 12,
        strokeColor: COLORS.ink, layer: 2 };
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
        fixed: true, highlight: false, strokeColor: COLORS.negative, strokeWidth: 1, dash: 1, layer: 4 });
      this.point = this.board.create("point", [0.5, 0], {
        name: "", withLabel: false, size: 7, showInfobox: false, layer: 9, transitionDuration: 0,
        highlightStrokeColor: COLORS.ink, strokeColor: "#ffffff", strokeWidth: 2 });
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
      const { left, right, top, bottom } = FRAME;
      const x = 1 / (width - left - right), y = this.part.top / (height - top - bottom);
      this.board.resizeContainer(width, height, true, true);
      this.board.setBoundingBox(
        [-left * x, this.part.top + top * y, 1 + right * x, -bottom * y], false, "keep");
      this.board.fullUpdate();
    }

    draw(state, numbers) {
      this.board.suspendUpdate();
      const curves = this.part.curves(state);
      while (this.curves.length > curves.length) this.board.removeObject(this.curves.pop());
      curves.forEach(({ of, points }, k) => {
        this.curves[k] ??= this.board.create("curve", [[0], [0]], {
          fixed: true, highlight: false, strokeWidth: k ? 2.4 : 1.8, layer: 5,
          transitionDuration: 0 });
        const shown = clip(points, this.part.top);
        this.curves[k].dataX = shown.map(([x]) => x);
        this.curves[k].dataY = shown.map(([, y]) => y);
        const [strokeColor, dash] = LOOKS[of](state.gamma);
        this.curves[k].setAttribute({ strokeColor, dash });
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
        READOUTS[panel.dataset.part].spoken(this.state, this.numbers));
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
        const entries = READOUTS[panel.dataset.part].values(state).map(([name, key, form = text]) => {
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
        [COLORS.ink, "", "CE"],
        [color(gamma), "", `${name}, <i>γ</i> = ${short(gamma)}${weighs ? ", label 1" : ""}`],
        ...(weighs ? [[color(gamma), "5 4", "label 0"]] : []),
        ...(has("population")
          ? [[COLORS.negative, "5 4", "the negatives’ part"],
             [COLORS.positive, "2 3", "the positives’ part"]]
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

  explorers.forEach((element) => new Explorer(element));
})();
