/** What a node is told when it is let in. */
import type { NodeId } from "../../domain/ids.ts";
import { LIVENESS } from "../../domain/node.ts";
import type { HostPort } from "../../domain/peer.ts";
import type { Welcome } from "../../wire/agent-link.ts";
import { hostOf } from "./network-prefix.ts";

/** How the nodes of this grid reach each other. */
export interface GridPeering {
  /** UDP nodes of this grid for hole punching; empty when there are none. */
  readonly bootstrap: readonly HostPort[];
  readonly hasRelay: boolean;
}

/** What the grid says of itself to all nodes. */
export interface GridTold {
  readonly gridId: string;
  /** Durable count of coordinator starts. */
  readonly boot: number;
  /** What the grid signs with; nodes take no manifest and no grant without it. */
  readonly gridPublicKeyHex?: string;
  /** Absent, or null, where the grid has no peer network. */
  readonly peering?: () => GridPeering | null;
}

export function welcomeOf(
  { boot, gridPublicKeyHex, peering }: GridTold,
  /** `remote`: the address that the link comes from. */
  node: { readonly nodeId: NodeId; readonly sessionToken: string; readonly wallMs: number; readonly remote: string },
): Welcome {
  const { nodeId, sessionToken, wallMs, remote } = node;
  const ways = peering?.() ?? null;
  const network =
    ways === null ? null : { ...ways, bootstrap: ways.bootstrap.map(({ host, port }) => ({ host, port })) };
  return {
    type: "welcome",
    nodeId,
    boot,
    heartbeatMs: LIVENESS.heartbeatMs,
    sessionToken,
    coordinatorTimeMs: wallMs,
    wantsWeightsState: true,
    ...(gridPublicKeyHex === undefined ? {} : { gridPublicKey: gridPublicKeyHex }),
    ...(network === null ? {} : { peering: { ...network, observedHost: hostOf(remote) } }),
  };
}
