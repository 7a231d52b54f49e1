/** The status page in a real browser against a real grid. */
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findChromium, isCi } from "../tools/test-tools.ts";
import { type AgentProcess, type Grid, runFallow, startAgent, startGrid } from "./support/grid.ts";

const browserPath = findChromium();
if (browserPath === null && isCi()) throw new Error("Chromium is missing: npm test installs it as root on Debian");

/** The browser starts on a busy machine, and the page polls every two seconds. */
const SHOWN_MS = 20_000;
const EVIL_NAME = '<img src=x onerror="document.title=1">';

describe.skipIf(browserPath === null)("the status page in a browser", () => {
  let grid: Grid;
  let agent: AgentProcess;
  let browser: Browser;
  beforeAll(async () => {
    grid = await startGrid();
    agent = await startAgent(grid.joinCode, { args: ["--name", EVIL_NAME], until: "online" });
    browser = await chromium.launch({ executablePath: browserPath ?? "", args: ["--no-sandbox"] });
  });
  afterAll(async () => {
    await browser?.close();
    await agent?.stop();
    await grid?.stop();
  });

  const open = async (address: string): Promise<{ page: Page; problems: string[] }> => {
    const page = await browser.newPage();
    page.setDefaultTimeout(SHOWN_MS);
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(message.text());
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(grid.baseUrl)) problems.push(`asked elsewhere: ${request.url()}`);
    });
    await page.goto(address);
    return { page, problems };
  };
  const tile = (page: Page, label: string) => page.locator("#totals div", { hasText: label }).locator("dd");

  test("the dashboard address shows nodes, replicas and money, and the key leaves the address", async () => {
    const { page, problems } = await open(grid.dashboardUrl);
    await page.locator("#nodes td.state-online").first().waitFor();
    expect(page.url()).toBe(`${grid.baseUrl}/`);
    expect(await page.locator("#nodes tbody tr").count()).toBe(2);
    expect(await page.locator("#replicas").innerText()).toContain("tiny");
    expect(await page.locator("#models").innerText()).toContain("Q8_0");
    await page.reload();
    await page.locator("#nodes td.state-online").first().waitFor();
    expect(problems).toEqual([]);
    await page.close();
  });

  test("a request changes the counters and shows up with its receipt", async () => {
    const { page, problems } = await open(grid.dashboardUrl);
    await tile(page, "Requests settled").waitFor();
    const settled = Number(await tile(page, "Requests settled").innerText());
    const charged = await tile(page, "Charged").innerText();
    const { json } = await runFallow(["chat", "hello", "--max-tokens", "8", "--json"], { home: grid.home });
    const { receiptId } = json as { receiptId: string };
    await page.locator("#requests td", { hasText: receiptId }).waitFor();
    expect(Number(await tile(page, "Requests settled").innerText())).toBe(settled + 1);
    expect(await tile(page, "Charged").innerText()).not.toBe(charged);
    expect(problems).toEqual([]);
    await page.close();
  });

  test("every panel of the metrics shows something of /metrics", async () => {
    const { page } = await open(grid.dashboardUrl);
    await page.locator("#metrics div").first().waitFor();
    const names = await page.locator("#metrics code").allInnerTexts();
    const text = await (
      await fetch(`${grid.baseUrl}/metrics`, { headers: { authorization: `Bearer ${grid.apiKey}` } })
    ).text();
    for (const name of names) expect(text).toContain(`# TYPE ${name} `);
    expect(names.length).toBeGreaterThan(5);
    await page.close();
  });

  test("a node's name is text and never markup", async () => {
    const { page, problems } = await open(grid.dashboardUrl);
    await page.locator("#nodes td", { hasText: EVIL_NAME }).waitFor();
    expect(await page.locator("#nodes img").count()).toBe(0);
    expect(await page.title()).toBe("Fallow");
    expect(problems).toEqual([]);
    await page.close();
  });

  test("without a key the page says where one comes from, and takes one", async () => {
    const { page } = await open(`${grid.baseUrl}/`);
    await page.locator("#key-message").waitFor();
    expect(await page.locator("#key-message").innerText()).toContain("needs the grid's API key");
    await page.locator("#key-input").fill("fal_wrong");
    await page.locator("#key-form button").click();
    await page.locator("#key-message", { hasText: "does not know this key" }).waitFor();
    await page.locator("#key-input").fill(grid.apiKey);
    await page.locator("#key-form button").click();
    await page.locator("#nodes td.state-online").first().waitFor();
    await page.close();
  });

  test("the page's policy lets nothing in from elsewhere and no inline script", async () => {
    const answer = await fetch(`${grid.baseUrl}/`);
    const policy = answer.headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain("unsafe");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect(await answer.text()).not.toMatch(/https?:\/\/|<script>|onload=/);
  });
});
