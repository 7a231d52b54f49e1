/**
 * What the gateway adds to the engine called directly: HTTP, key, schema, template, tokeniser, hold, seed, text, events, charge.
 * The engine sits behind the gateway in its own process and nothing else between; each token's time is noted when the engine
 * says it and again when a client in a third process has it, on one clock. Added to a request: from the client's last byte to
 * the engine's call, and from the engine's first token to the client's. Added to a token: from the engine to the client.
 *
 *   npm run bench -- gateway [--smoke] [--tokens 64] [--requests 40]
 */
import { parseArgs } from "node:util";
import { openBench } from "./lib/bench-run.ts";
import { type EngineTimes, startGatewayAlone } from "./lib/gateway-alone.ts";
import { spreadOf } from "./lib/quantiles.ts";
import { startTimedClient, type TimedRequest } from "./lib/timed-client.ts";

const { values: asked } = parseArgs({
  options: { smoke: { type: "boolean", default: false }, tokens: { type: "string" }, requests: { type: "string" } },
});

const P50_BAR_MS = 1;
const P99_BAR_MS = 5;
const STREAMS = [1, 16] as const;
/** Of one lane, before anything is measured. */
const WARM_UP_REQUESTS = asked.smoke ? 10 : 400;

const bench = openBench("gateway");
const shape = {
  tokens: Number(asked.tokens ?? (asked.smoke ? 16 : 64)),
  /** Of each stream, one after the other. */
  requests: Number(asked.requests ?? (asked.smoke ? 3 : 40)),
};

interface Added {
  readonly requestMs: number[];
  readonly tokenMs: number[];
  /** From the engine's end to `[DONE]`: it holds the charge's way to the disk. */
  readonly endMs: number[];
}

const grid = await startGatewayAlone({ sequencesMax: Math.max(...STREAMS) });
const client = startTimedClient({ port: grid.port, key: grid.key, path: "/v1/chat/completions" });
try {
  // A coordinator runs for weeks: its code is compiled before anything is measured.
  await client.run(lanes(2, WARM_UP_REQUESTS, 4));
  const measured: Record<string, unknown> = {};
  const bars: { name: string; value: number; wanted: "at-most"; limit: number }[] = [];
  for (const streams of STREAMS) {
    const { requests, wallMs } = await client.run(lanes(streams, shape.requests, shape.tokens));
    const added = sumUp(requests);
    const spreads = { request: spreadOf(added.requestMs), token: spreadOf(added.tokenMs), end: spreadOf(added.endMs) };
    measured[`${streams} streams`] = {
      addedMs: spreads,
      tokPerSecond: Math.round((added.tokenMs.length / wallMs) * 1_000),
    };
    for (const [kind, spread] of [
      ["request", spreads.request],
      ["token", spreads.token],
    ] as const) {
      bars.push({
        name: `added ms of a ${kind}, p50, ${streams} streams`,
        value: spread.p50,
        wanted: "at-most",
        limit: P50_BAR_MS,
      });
      bars.push({
        name: `added ms of a ${kind}, p99, ${streams} streams`,
        value: spread.p99,
        wanted: "at-most",
        limit: P99_BAR_MS,
      });
    }
    bench.say(
      `${streams} streams: request ${spreads.request.p50} / ${spreads.request.p99} ms, token ${spreads.token.p50} / ${spreads.token.p99} ms, end ${spreads.end.p50} / ${spreads.end.p99} ms (p50 / p99)`,
    );
  }
  bench.keep({ bars, measured: { ...shape, ...measured } });
} finally {
  client.stop();
  await grid.stop();
}

/**
 * Answers of unlike length, half to one and a half times `tokens`: with equal ones all lanes would ask at the same moment again
 * and again, which callers do not.
 */
function lanes(streams: number, requests: number, tokens: number): readonly (readonly unknown[])[] {
  return Array.from({ length: streams }, (_, lane) =>
    Array.from({ length: requests }, (_unused, turn) => ({
      model: "tiny",
      messages: [{ role: "user", content: `In the beginning, said number ${lane} for the ${turn}th time` }],
      max_completion_tokens: Math.ceil(tokens * (0.5 + ((lane * 7 + turn * 13) % 17) / 16)),
      ignore_eos: true,
      seed: lane * 1_000 + turn,
      stream: true,
      stream_options: { include_usage: true },
    })),
  );
}

function sumUp(requests: readonly TimedRequest[]): Added {
  const added: Added = { requestMs: [], tokenMs: [], endMs: [] };
  for (const request of requests) {
    const engine = grid.times.get(request.requestId);
    if (engine === undefined) throw new Error(`the engine was never asked for ${request.requestId}`);
    const tokens = addedToTokens(request, engine);
    added.tokenMs.push(...tokens);
    added.requestMs.push(engine.askedMs - request.sentMs + (tokens[0] ?? 0));
    added.endMs.push(request.doneMs - engine.endedMs);
  }
  return added;
}

/** A token has arrived with the first piece after which the client has all the text up to it. */
function addedToTokens(request: TimedRequest, engine: EngineTimes): number[] {
  let at = 0;
  const added: number[] = [];
  for (const token of engine.tokens) {
    while (at < request.arrivals.length && (request.arrivals[at]?.textBytes ?? 0) < token.textBytes) at++;
    const arrival = request.arrivals[at];
    if (arrival === undefined) throw new Error("the client has less text than the engine wrote");
    added.push(Math.max(0, arrival.atMs - token.atMs));
  }
  return added;
}
