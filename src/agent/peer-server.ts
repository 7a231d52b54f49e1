/**
 * One server for all that other nodes want of this one: weights by the grid's grants, chains by their own credentials. Links are shared too: who fetches
 * weights over a link ends it for good only while no chain needs it.
 */
import type { PeerLink, PeerNetwork, PeerServer } from "../ports/peer-link.ts";
import type { ChainServer } from "./stages/stage-hall.ts";

export interface SharedPeers {
  /** The network as the weights see it; they serve through it. */
  readonly weights: PeerNetwork;
  /** May be called once; without it the node is in no chain. */
  serveChains(server: ChainServer): void;
}

export function sharePeers(network: PeerNetwork): SharedPeers {
  let weights: PeerServer | null = null;
  let chains: ChainServer | null = null;
  const nobody = {
    ok: false,
    reason: { code: "not-found", message: "this node serves nothing", param: null, retryAfterMs: null },
  } as const;
  const kept = (link: PeerLink): PeerLink => ({
    peerKeyHex: link.peerKeyHex,
    closed: link.closed,
    carrier: () => link.carrier(),
    quality: () => link.quality(),
    present: (credential, signal) => link.present(credential, signal),
    fetch: (request, options) => link.fetch(request, options),
    send: (message) => link.send(message),
    close: (reason) => {
      if (chains?.needs(link.peerKeyHex) !== true) link.close(reason);
    },
  });
  network.serve({
    admit: (credential, peerKeyHex) =>
      chains?.admit(credential, peerKeyHex) ?? weights?.admit(credential, peerKeyHex) ?? nobody,
    onFetch: (request, peerKeyHex) =>
      chains?.onFetch(request, peerKeyHex) ?? weights?.onFetch(request, peerKeyHex) ?? Promise.resolve(nobody),
    onMessage: (message, link) => chains?.onMessage(message, link),
  });
  return {
    weights: {
      connect: async (target, credential, signal) => kept(await network.connect(target, credential, signal)),
      open: (peerKeyHex) => {
        const link = network.open(peerKeyHex);
        return link === null ? null : kept(link);
      },
      serve: (server) => {
        weights = server;
      },
      qualities: () => network.qualities(),
      close: () => network.close(),
    },
    serveChains: (server) => {
      chains = server;
    },
  };
}
