/** The reports in a real browser: nothing from elsewhere, no error, no text over another, whatever a cluster file calls its parts. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { planLayout } from "../src/scheduler/layout/plan-layout.ts";
import { runChurn } from "../src/sim/churn/churn-run.ts";
import { churnReportHtml } from "../src/sim/report/churn-report-page.ts";
import { planReportHtml } from "../src/sim/report/plan-report.ts";
import { servingReportHtml } from "../src/sim/report/serving-report.ts";
import { simulateServing } from "../src/sim/serving/serving-run.ts";
import { parseClusterFile } from "../src/wire/cluster-file.ts";
import { findChromium, isCi } from "../tools/test-tools.ts";

const browserPath = findChromium();
if (browserPath === null && isCi()) throw new Error("Chromium is missing: npm test installs it as root on Debian");

const EVIL = '<img src=x onerror="document.title=1"></title><script>document.title=1</script>';

/** The example with names that are markup. Ids cannot be: the schema refuses them. */
function evilCluster() {
  const file = JSON.parse(readFileSync(new URL("../examples/three-homes.json", import.meta.url), "utf8"));
  file.name = EVIL;
  file.machineTypes = Object.fromEntries(
    Object.entries(file.machineTypes).map(([name, type]) => [`${name}${EVIL}`, type]),
  );
  for (const node of file.nodes) Object.assign(node, { type: `${node.type}${EVIL}`, region: `${node.region}${EVIL}` });
  const parsed = parseClusterFile(JSON.stringify(file), { name: "x" });
  if (!parsed.ok) throw new Error(parsed.reason.message);
  return parsed.value.cluster;
}

function planPage(): string {
  const cluster = evilCluster();
  const steps: { evaluations: number; score: number }[] = [];
  const plan = planLayout({ cluster, seed: 1, evaluationsMax: 2_000, onImproved: (step) => steps.push(step) });
  if (!plan.ok) throw new Error(plan.reason.message);
  return planReportHtml({
    cluster,
    plan: plan.value,
    objective: "throughput",
    seed: 1,
    cpuSeconds: 0.1,
    steps,
    notes: [EVIL],
    madeBy: EVIL,
  });
}

function servingPage(): string {
  const cluster = evilCluster();
  const plan = planLayout({ cluster, seed: 1, evaluationsMax: 2_000 });
  if (!plan.ok) throw new Error(plan.reason.message);
  const { layout } = plan.value;
  const trace = Array.from({ length: 50 }, (_, at) => ({
    atSeconds: at,
    promptTokens: 100 + 10 * at,
    outputTokens: 20 + at,
  }));
  const run = { mode: "offline", warmupS: 10, durationS: 120, seed: "1" } as const;
  const result = simulateServing({ cluster, layout, router: "helix", trace, ...run });
  if (!result.ok) throw new Error(result.reason.message);
  const names = { layoutName: EVIL, router: EVIL, traceName: EVIL, madeBy: EVIL, notes: [EVIL] };
  return servingReportHtml({ cluster, layout, ...run, ...names, outcome: result.outcome });
}

function churnPage(): string {
  const report = runChurn({
    seeds: [1, 2],
    policies: ["ours", "petals"],
    kinds: ["owners"],
    hours: 1,
    nodes: 4,
    requestsPerHour: 60,
    traces: null,
  });
  return churnReportHtml(report, { madeBy: EVIL, notes: [EVIL] });
}

describe.skipIf(browserPath === null)("a report in a browser", () => {
  let browser: Browser;
  const folder = mkdtempSync(join(tmpdir(), "fallow-report-"));
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: browserPath ?? "", args: ["--no-sandbox"] });
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
  });

  const shown = async (html: string, view: { width: number; scheme: "light" | "dark" }) => {
    const file = join(folder, "report.html");
    writeFileSync(file, html);
    const address = pathToFileURL(file).href;
    const page = await browser.newPage({ viewport: { width: view.width, height: 900 }, colorScheme: view.scheme });
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => problems.push(message.text()));
    page.on("request", (request) => {
      if (request.url() !== address) problems.push(`asked for ${request.url()}`);
    });
    await page.goto(address);
    return { page, problems };
  };

  const pages = [
    ["plan", planPage, 3],
    ["serving", servingPage, 4],
    ["churn", churnPage, 4],
  ] as const;

  test.each(pages)("of a %s asks for nothing, has no error, and shows names as text", async (_name, make, drawings) => {
    const { page, problems } = await shown(make(), { width: 1_100, scheme: "light" });
    expect(await page.locator("img, script").count()).toBe(0);
    expect(await page.locator("svg").count()).toBeGreaterThanOrEqual(drawings);
    expect(await page.title()).not.toBe("1");
    expect(await page.locator(".notes").innerText()).toContain(EVIL);
    // The style sheet took effect: its digest in the page's policy is right.
    expect(await page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth")).toBe("1040px");
    expect(problems).toEqual([]);
    await page.close();
  });

  test.each(pages)(
    "of a %s lays no text over another in a drawing, and is no wider than its window",
    async (_name, make) => {
      const html = make();
      for (const width of [1_100, 600]) {
        const { page } = await shown(html, { width, scheme: "dark" });
        expect(await page.evaluate(OVERLAPS)).toEqual([]);
        expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
        await page.close();
      }
    },
  );
});

/** Runs in the page: pairs of texts of one drawing whose boxes meet. */
const OVERLAPS = `
  [...document.querySelectorAll("svg")].flatMap((svg) => {
    const boxes = [...svg.querySelectorAll("text")].map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }));
    return boxes.flatMap((one, at) => boxes.slice(at + 1).flatMap((other) => {
      const wide = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const high = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
      return wide > 1 && high > 4 ? [one.text + " | " + other.text] : [];
    }));
  })`;
