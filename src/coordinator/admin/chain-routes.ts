/** `GET /admin/v1/chains`: the chains that run, their spares, and what happened to them since the start. Needs a key with the scope `admin`. */
import type { Hono } from "hono";
import type { ChainsView } from "../chains/chain-view.ts";
import type { LinkBook } from "../network/link-book.ts";
import type { Roster } from "../roster.ts";
import type { AdminGate } from "./admin-sources.ts";
import { chainList } from "./chain-rows.ts";

export interface ChainSources {
  readonly gate: Pick<AdminGate, "requireKey">;
  readonly chains: ChainsView;
  readonly links: Pick<LinkBook, "linksOf">;
  readonly roster: Pick<Roster, "node">;
}

export function addChainRoutes(app: Hono, { gate, chains, links, roster }: ChainSources): void {
  app.get("/admin/v1/chains", gate.requireKey("admin"), (context) =>
    context.json(
      chainList(chains, {
        nameOf: (nodeId) => roster.node(nodeId)?.name ?? nodeId,
        isDraining: (nodeId) => roster.node(nodeId)?.state === "draining",
        carrier: (from, to) => links.linksOf(from, [to])[0]?.carrier ?? links.linksOf(to, [from])[0]?.carrier ?? null,
      }),
    ),
  );
}
