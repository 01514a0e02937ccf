// Examines the built site, served compressed as a static host does: Lighthouse (mobile) on the landing
// page and the longest chapter; pa11y and axe on every page, on a phone and a desktop, in both color
// modes; the bytes that each page transfers. Prints what was measured; ends with 1 beyond a budget.
//
//   node audit.mjs SITE [PART...] [PAGE...]
//     PART: lighthouse, axe, pa11y (all of them unless told)    PAGE: such as intro.html (all unless told)
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import axe from "axe-core";
import puppeteer from "puppeteer";
import { serve } from "./server.mjs";

const BUDGET = {
  // Less is asked of a machine that does other things meanwhile, as CI's may: LEAST_PERFORMANCE=70
  performance: Number(process.env.LEAST_PERFORMANCE || 90),
  accessibility: 100, "best-practices": 100, seo: 100,  // of 100
  kilobytes: 500,
};
// Lighthouse's performance depends on what else the machine does: the median of so many runs.
const RUNS = 3;

const site = process.argv[2] ?? "_build/html";
const PARTS = ["lighthouse", "axe", "pa11y"];
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
  executablePath: process.env.CHROMIUM || ["chromium", "chromium-browser", "google-chrome"]
    .flatMap((name) => process.env.PATH.split(":").map((folder) => join(folder, name)))
    .find(existsSync),
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

/** Open a page, and say what it transferred. */
async function open(name, size, scheme) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  let bytes = 0;
  const session = await page.createCDPSession();
  await session.send("Network.enable");
  session.on("Network.loadingFinished", (event) => { bytes += event.encodedDataLength; });
  await page.setViewport(SIZES[size]);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(address + name, { waitUntil: "networkidle0" });
  await page.evaluate(`(${prepare})()`);
  await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)))");
  return { page, kilobytes: Math.round(bytes / 1024), close: () => context.close() };
}

async function examine(tool, faultsOf, places) {
  console.log(`\n${tool}, ${places.map(([size, scheme]) => `${size} ${scheme}`).join(", ")}`);
  for (const name of examined) {
    const counts = [];
    let size = 0;
    for (const [device, scheme] of places) {
      const { page, kilobytes, close } = await open(name, device, scheme);
      const found = await faultsOf(page);
      counts.push(found.length);
      size = Math.max(size, kilobytes);
      faults.push(...found.map((fault) => `${tool}, ${name}, ${device} ${scheme}: ${fault}`));
      await close();
    }
    console.log(`  ${name}: ${counts.join(" + ")} violations, ${size} KB transferred`);
    if (size > BUDGET.kilobytes) faults.push(`${name}: ${size} KB, at most ${BUDGET.kilobytes} are asked`);
  }
}

async function axeFaults(page) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")}`));
}

async function runPa11y() {
  const { default: pa11y } = await import("pa11y");
  await examine("pa11y", async (page) => {
    const { issues } = await pa11y(page.url(), { browser, page, ignoreUrl: true, timeout: 300_000 });
    return issues.map(({ code, selector, message }) => `${code}: ${selector}: ${message}`);
  }, [["phone", "light"], ["desktop", "dark"]]);
}

const all = Object.keys(SIZES).flatMap((size) => ["light", "dark"].map((scheme) => [size, scheme]));
const DOES = { lighthouse: runLighthouse, axe: () => examine("axe", axeFaults, all), pa11y: runPa11y };
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
