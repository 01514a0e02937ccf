// Examines the built site, served compressed as a static host does: Lighthouse (mobile) on the landing
// page and the longest chapter; pa11y on every page, on a phone and a desktop. Prints what was measured;
// ends with 1 beyond a budget. (axe and the bytes of each page are in the tests: tests/theme/test_site.py.)
//
//   node audit.mjs SITE [PART...] [PAGE...]
//     PART: lighthouse, pa11y (both unless told)    PAGE: such as intro.html (all unless told)
import { readFileSync, readdirSync, statSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer";
import { serve } from "./server.mjs";

const BUDGET = {
  // Less is asked of a machine that does other things meanwhile, as CI's may: LEAST_PERFORMANCE=70
  performance: Number(process.env.LEAST_PERFORMANCE || 90),
  accessibility: 100, "best-practices": 100, seo: 100,  // of 100
};
// Lighthouse's performance depends on what else the machine does: the median of so many runs.
const RUNS = 3;

const site = process.argv[2] ?? "_build/html";
const PARTS = ["lighthouse", "pa11y"];
const asked = process.argv.slice(3), only = asked.filter((name) => name.endsWith(".html"));
const parts = asked.length > only.length ? asked.filter((name) => PARTS.includes(name)) : PARTS;
const prepare = readFileSync(new URL("prepare.js", import.meta.url), "utf8");

const { address, server } = await serve(site);

// index.html only sends on to the landing page.
const pages = readdirSync(site, { recursive: true })
  .filter((name) => name.endsWith(".html") && !/^_(static|sources)\b/.test(name))
  .map((name) => name.replaceAll("\\", "/")).filter((name) => name !== "index.html").sort();
const examined = only.length ? only : pages;
const longest = pages.filter((name) => name.startsWith("chapters/"))
  .reduce((a, b) => (statSync(join(site, a)).size < statSync(join(site, b)).size ? b : a));

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
  protocolTimeout: 600_000,
});

const faults = [];

async function runLighthouse() {
  const { default: lighthouse } = await import("lighthouse");
  console.log(`\nLighthouse, mobile, the median of ${RUNS} runs`);
  for (const name of only.length ? only : ["intro.html", longest]) {
    const runs = [];
    for (let run = 0; run < RUNS; run++) {
      const context = await browser.createBrowserContext();
      const page = await context.newPage();
      runs.push((await lighthouse(address + name, { logLevel: "error" }, undefined, page)).lhr);
      await context.close();
    }
    const of = (lhr, key) => Math.round(100 * (lhr.categories[key].score ?? 0));
    runs.sort((a, b) => of(a, "performance") - of(b, "performance"));
    const lhr = runs[Math.floor(RUNS / 2)];
    const scores = Object.keys(lhr.categories).filter((key) => key in BUDGET).map((key) => [key, of(lhr, key)]);
    const times = ["first-contentful-paint", "largest-contentful-paint", "speed-index", "total-blocking-time",
      "cumulative-layout-shift"].map((id) => `${id} ${lhr.audits[id].displayValue}`);
    console.log(`  ${name}: ${scores.map(([key, score]) => `${key} ${score}`).join(", ")}`);
    console.log(`    performance of all runs: ${runs.map((run) => of(run, "performance")).join(", ")}; ` +
      `load of the machine ${loadavg()[0].toFixed(1)} on ${cpus().length} processors`);
    console.log(`    ${times.join(", ")}`);
    for (const [key, score] of scores) {
      if (score >= BUDGET[key]) continue;
      faults.push(`Lighthouse, ${name}: ${key} ${score}, at least ${BUDGET[key]} is asked`);
      for (const { id, weight } of lhr.categories[key].auditRefs) {
        const { score: part, title } = lhr.audits[id];
        if (weight && part !== null && part < 1) console.log(`    ${key} loses by ${id}: ${title}`);
      }
    }
  }
}

const SIZES = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };

async function open(name, size, scheme) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.setViewport(SIZES[size]);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(address + name, { waitUntil: "load" });
  await page.evaluate(`(${prepare})()`);
  await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)))");
  return { page, close: () => context.close() };
}

async function runPa11y() {
  const { default: pa11y } = await import("pa11y");
  const places = [["phone", "light"], ["desktop", "dark"]];
  console.log(`\npa11y, ${places.map(([size, scheme]) => `${size} ${scheme}`).join(", ")}`);
  for (const name of examined) {
    const counts = [];
    for (const [device, scheme] of places) {
      const { page, close } = await open(name, device, scheme);
      const { issues } = await pa11y(page.url(), { browser, page, ignoreUrl: true, timeout: 300_000 });
      counts.push(issues.length);
      faults.push(...issues.map(({ code, selector, message }) =>
        `pa11y, ${name}, ${device} ${scheme}: ${code}: ${selector}: ${message}`));
      await close();
    }
    console.log(`  ${name}: ${counts.join(" + ")} violations`);
  }
}

const DOES = { lighthouse: runLighthouse, pa11y: runPa11y };
for (const part of parts) {
  const start = Date.now();
  await DOES[part]();
  console.log(`  ${part} took ${Math.round((Date.now() - start) / 1000)} s`);
}
await browser.close();
server.close();
console.log(faults.length ? `\n${faults.length} beyond the budgets:\n${faults.slice(0, 100).join("\n")}`
  : "\nAll is within the budgets.");
process.exitCode = faults.length ? 1 : 0;
