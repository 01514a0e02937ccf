/* The curves of the explorer: the formulas, the curves as points, and what can be set. It knows no
   document: the page uses it (explorer.js) and, in node, the build (focal_theme/explorer.py). */
globalThis.focalCurves = (() => {
  "use strict";

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

  // The logit of the probability for which the logit x is the best score; no weight.
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

  const NEGATIVES = 4, POSITIVES = 0.5, DEVIATION = 1.5; // means, and of both
  const LEAST = -20, LARGEST = 24, STEP = 1 / 16; // the margins beyond have no weight
  const POPULATION = { NEGATIVES, POSITIVES, DEVIATION, LEAST, LARGEST };
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

  // What can be set, and where it starts. An alpha of 0 is none.

  const RANGES = { gamma: [0, 5], alpha: [0, 0.99], ratio: [1, 10000], p: [0.001, 0.999] };
  const START = { gamma: 2, alpha: 0, ratio: 1000, p: 0.9 };

  // The parts. Of a state, `curves` gives the points [x, y] of each curve, and what it is of.

  const range = (n) => Array.from({ length: n + 1 }, (_, k) => k / n);
  const INNER = range(300).map((part) => margin(20 * part - 10).p); // close where curves are steep
  const graph = (of, f) => ({ of, points: INNER.map((p) => [p, f(p)]) });

  const weighted = (f) => ({ gamma, alpha }) => [
    graph("cross entropy", (p) => f(p, 0)),
    graph("focal", (p) => (alpha || 1) * f(p, gamma)),
    ...(alpha ? [graph("label 0", (p) => (1 - alpha) * f(p, gamma))] : []),
  ];

  function shares(state) {
    const curve = (of, gamma, alpha, part) => {
      const inner = range(128).map((k) => 16 * k - 8).map((z) => {
        const t = totals(z, gamma, alpha, state.ratio);
        return [margin(z).p, part(t) / t.all];
      });
      const t = totals(Infinity, gamma, alpha, state.ratio);
      return { of, points: [[0, 0], ...inner, [1, part(t) / t.all]] };
    };
    const both = (t) => t.negatives + t.positives;
    return [
      curve("cross entropy", 0, 0, both),
      curve("focal", state.gamma, state.alpha, both),
      curve("negatives", state.gamma, state.alpha, (t) => t.negatives),
      curve("positives", state.gamma, state.alpha, (t) => t.positives),
    ];
  }

  function scores({ gamma, alpha }) {
    const inner = INNER.map((s) => [margin(posterior(logit(s), gamma, alpha)).p, s]);
    return [
      { of: "cross entropy", points: [[0, 0], [1, 1]] },
      { of: "focal", points: [[0, 0], ...inner, [1, 1]] },
    ];
  }

  const FIFTHS = range(5).map((value) => [value, String(value)]);

  // top and ticks: of the vertical axis; at: where the point is
  const PARTS = {
    loss: {
      top: 5,
      ticks: range(5).map((value) => [5 * value, String(5 * value)]),
      curves: weighted(loss),
      at: (v) => v.focalPositive,
    },
    gradient: {
      top: 1.4,
      ticks: range(7).map((value) => [1.4 * value, (1.4 * value).toFixed(1)]),
      curves: weighted(gradient),
      at: (v) => v.gradientPositive,
    },
    ratio: {
      top: 4,
      ticks: range(4).map((value) => [4 * value, (10 ** (4 * value)).toLocaleString("en")]),
      curves: ({ gamma }) => [
        graph("cross entropy", () => 0),
        graph("focal", (p) => Math.log10(ratio(p, gamma))),
      ],
      at: (v) => Math.log10(v.ratio),
    },
    population: { top: 1, ticks: FIFTHS, curves: shares, at: (v) => v.upToFocal },
    score: { top: 1, ticks: FIFTHS, curves: scores, at: (v) => v.score },
  };

  const FRAME = { left: 46, right: 10, top: 10, bottom: 24 }; // around the axes, in pixels

  /** A curve without what is above the frame; cut where it crosses the frame's edge. */
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

  /** What the build draws and says: of each part the axis, for each gamma the curve, and the
      numbers at a point, which `points` has for each part. */
  function figure(gammas, points) {
    const states = (p) => gammas.map((gamma) => ({ ...START, gamma, p }));
    const parts = Object.entries(PARTS).map(([name, { top, ticks, curves }]) => [name, {
      top,
      ticks,
      curves: states(0.5).map((state) => clip(curves(state)[1].points, top)),
      numbers: states(points[name]).map(values),
    }]);
    return { ranges: RANGES, start: START, frame: FRAME, fifths: FIFTHS,
      parts: Object.fromEntries(parts) };
  }

  return { RANGES, START, PARTS, FIFTHS, FRAME, POPULATION, clip, figure, values };
})();
