/**
 * How long a client waits when whoever answers it is lost in mid-stream and another kind of resource goes on: two real grids on one machine,
 * the tiny model, one of them the other's cloud provider. The gap is the longest time between two pieces of text from the fault on.
 *
 *   to the cloud: the process group of the only agent gets SIGKILL
 *   to the grid: the provider's connection is reset
 *
 *   npm run bench -- overflow [--smoke]
 */
import { openOverflowLab, PROVIDER } from "../test/support/overflow-lab.ts";
import { openBench } from "./lib/bench-run.ts";
import { spreadOf } from "./lib/quantiles.ts";

const bench = openBench("overflow");
const ROUNDS = bench.isSmoke ? 1 : 10;
const GAP_BAR_MS = 2_000;
const TOKENS = 400;
/** Characters that the client has when the fault comes. */
const FAULT_AT_CHARS = 60;
const FAULT_AT_EVENTS = 30;

const lab = await openOverflowLab();
const gapsMs: Record<string, number[]> = { "to the cloud": [], "to the grid": [] };
try {
  for (let round = 0; round < ROUNDS; round++) {
    await lab.addAgent();
    lab.proxy.cutAfter(FAULT_AT_EVENTS);
    gapsMs["to the grid"]?.push(await longestGapMs({ provider: { order: [PROVIDER, "grid"] } }, null));
    gapsMs["to the cloud"]?.push(await longestGapMs({ grid: { hybrid: "prefer-grid" } }, () => void lab.killAgents()));
  }
} finally {
  await lab.close();
}
const measured = Object.fromEntries(
  Object.entries(gapsMs).map(([name, gaps]) => [`${name}, gap ms`, spreadOf(gaps, 0)]),
);
bench.say(JSON.stringify(measured, null, 2));
bench.keep({
  bars: Object.entries(gapsMs).map(([name, gaps]) => ({
    name: `gap in ms, ${name}, longest of ${ROUNDS}`,
    value: Math.round(Math.max(...gaps)),
    wanted: "at-most" as const,
    limit: GAP_BAR_MS,
  })),
  measured,
});

/** Of the whole stream where the fault comes by itself; else from when it was struck. */
async function longestGapMs(fields: object, strike: (() => void) | null): Promise<number> {
  const asked = {
    model: "tiny",
    messages: [{ role: "user" as const, content: "In the beginning God created the heaven and the earth." }],
    max_completion_tokens: TOKENS,
    stream: true as const,
    temperature: 0,
    ignore_eos: true,
    ...fields,
  };
  let [chars, lastMs, longestMs] = [0, 0, 0];
  let isStruck = strike === null;
  for await (const chunk of await lab.client.chat.completions.create(asked)) {
    const text = chunk.choices[0]?.delta.content ?? "";
    if (text === "") continue;
    const nowMs = performance.now();
    if (isStruck && lastMs > 0) longestMs = Math.max(longestMs, nowMs - lastMs);
    lastMs = nowMs;
    chars += text.length;
    if (isStruck || chars < FAULT_AT_CHARS) continue;
    isStruck = true;
    strike?.();
  }
  return longestMs;
}
