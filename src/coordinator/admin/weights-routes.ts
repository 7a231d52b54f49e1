/**
 * Where the weights are, in shares of each model, and the ways between nodes. Both need a key with the scope `admin`. With
 * `accept: text/event-stream` the shares come again whenever they changed, at most once a second, until the reader goes.
 */
import type { Context, Hono } from "hono";
import { ID_PATTERNS, nodeId } from "../../domain/ids.ts";
import { refuse } from "../../domain/refusal.ts";
import { type Clock, pause } from "../../ports/clock.ts";
import type { LinkBook } from "../network/link-book.ts";
import type { Roster } from "../roster.ts";
import { ADMIN_LIST_MAX } from "./admin-schemas.ts";
import type { AdminGate } from "./admin-sources.ts";
import { linkRow } from "./weights-rows.ts";
import type { WeightsRow } from "./weights-schema.ts";

export interface DistributionSources {
  readonly gate: Pick<AdminGate, "requireKey" | "refusal">;
  readonly clock: Clock;
  readonly roster: Pick<Roster, "node" | "nodes">;
  readonly links: Pick<LinkBook, "measured" | "linksOf">;
  weights(): readonly WeightsRow[];
}

const EVENT_MS = 1_000;
/** A proxy closes what is silent for a minute; a comment keeps the stream open. */
const KEEP_ALIVE_MS = 15_000;
/** Readers at once: each costs a look at all models a second. */
export const WEIGHTS_STREAMS_MAX = 32;

export function addDistributionRoutes(app: Hono, sources: DistributionSources): void {
  const { gate, roster, links } = sources;
  let streams = 0;
  app.get("/grid/v1/weights", gate.requireKey("admin"), (context) => {
    if (!(context.req.header("accept") ?? "").includes("text/event-stream")) {
      return context.json({ weights: sources.weights() });
    }
    if (streams >= WEIGHTS_STREAMS_MAX) {
      const why = `${streams} readers watch the weights already, as many as may`;
      return gate.refusal(context, refuse("no-capacity", why, { retryAfterMs: EVENT_MS }).reason);
    }
    streams += 1;
    return progress(context, sources, () => {
      streams -= 1;
    });
  });
  app.get("/grid/v1/links", gate.requireKey("admin"), (context) => {
    const named = context.req.query("node");
    if (named === undefined) {
      const measured = links.measured().slice(0, ADMIN_LIST_MAX);
      return context.json({ links: measured.map((link) => linkRow(link, roster)) });
    }
    const from = ID_PATTERNS.node.test(named) ? roster.node(nodeId(named)) : null;
    if (from === null) {
      const why = `there is no node called ${JSON.stringify(named.slice(0, 80))}`;
      return gate.refusal(context, refuse("not-found", why).reason);
    }
    const others = roster
      .nodes()
      .filter((node) => node.state !== "offline" && node.nodeId !== from.nodeId)
      .slice(0, ADMIN_LIST_MAX)
      .map((node) => node.nodeId);
    return context.json({ links: links.linksOf(from.nodeId, others).map((link) => linkRow(link, roster)) });
  });
}

function progress(context: Context, { clock, weights }: DistributionSources, onEnd: () => void): Response {
  const gone = new AbortController();
  let isOver = false;
  const end = () => {
    if (!isOver) onEnd();
    isOver = true;
    gone.abort();
  };
  context.req.raw.signal.addEventListener("abort", end, { once: true });
  const encoder = new TextEncoder();
  let told = "";
  let toldAtMs = Number.NEGATIVE_INFINITY;
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        if (toldAtMs !== Number.NEGATIVE_INFINITY) await pause(clock, EVENT_MS, gone.signal);
        while (!isOver) {
          const text = JSON.stringify({ weights: weights() });
          const silentMs = clock.monoMs() - toldAtMs;
          if (text !== told || silentMs >= KEEP_ALIVE_MS) {
            controller.enqueue(
              encoder.encode(text === told ? ": still the same\n\n" : `event: weights\ndata: ${text}\n\n`),
            );
            told = text;
            toldAtMs = clock.monoMs();
            return;
          }
          await pause(clock, EVENT_MS, gone.signal);
        }
        controller.close();
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { headers: { "content-type": "text/event-stream", "cache-control": "no-store" } });
}
