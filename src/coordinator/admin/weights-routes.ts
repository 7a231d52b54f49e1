/**
 * Where the weights are, in shares of each model, and the ways between nodes. Both need a key with the scope `admin`. With
 * `accept: text/event-stream` (or `application/x-ndjson`) the shares come again whenever they changed, at most once a second, until the
 * reader goes.
 */
import type { Hono } from "hono";
import { ID_PATTERNS, nodeId } from "../../domain/ids.ts";
import { refuse } from "../../domain/refusal.ts";
import { type Clock, pause } from "../../ports/clock.ts";
import type { LinkBook } from "../network/link-book.ts";
import type { Roster } from "../roster.ts";
import { ADMIN_LIST_MAX } from "./admin-schemas.ts";
import type { AdminGate } from "./admin-sources.ts";
import { eventStream } from "./event-stream.ts";
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
/** A proxy closes what is silent for a minute. */
const KEEP_ALIVE_MS = 15_000;
/** Readers at once: each costs a look at all models a second. */
export const WEIGHTS_STREAMS_MAX = 32;

export function addDistributionRoutes(app: Hono, sources: DistributionSources): void {
  const { gate, roster, links } = sources;
  let streams = 0;
  app.get("/grid/v1/weights", gate.requireKey("admin"), (context) => {
    if (!/text\/event-stream|application\/x-ndjson/.test(context.req.header("accept") ?? "")) {
      return context.json({ weights: sources.weights() });
    }
    if (streams >= WEIGHTS_STREAMS_MAX) {
      const why = `${streams} readers watch the weights already, as many as may`;
      return gate.refusal(context, refuse("no-capacity", why, { retryAfterMs: EVENT_MS }).reason);
    }
    streams += 1;
    return eventStream(context, (signal) => {
      signal.addEventListener("abort", () => (streams -= 1), { once: true });
      return changes(sources, signal);
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

/** The rows whenever they changed, and now and then when they did not. */
async function* changes({ clock, weights }: DistributionSources, signal: AbortSignal): AsyncIterable<unknown> {
  let told = "";
  let toldAtMs = Number.NEGATIVE_INFINITY;
  while (!signal.aborted) {
    const rows = weights();
    const text = JSON.stringify(rows);
    if (text !== told || clock.monoMs() - toldAtMs >= KEEP_ALIVE_MS) {
      told = text;
      toldAtMs = clock.monoMs();
      yield { event: "weights", weights: rows };
    }
    await pause(clock, EVENT_MS, signal);
  }
}
