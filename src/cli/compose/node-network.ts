/** The coordinator's part in the network between nodes: bootstrap nodes for hole punching, and its announcement on the local network. */
import { isIPv4 } from "node:net";
import { MdnsDiscovery } from "../../adapters/lan-mdns/mdns-discovery.ts";
import { type BootstrapNodes, startBootstrapNodes } from "../../adapters/peer-udp/bootstrap.ts";
import { isLoopback } from "../../adapters/tls-identity/loopback.ts";
import type { Roster } from "../../coordinator/roster.ts";
import { describeFault } from "../../domain/fault.ts";
import type { HostPort } from "../../domain/peer.ts";
import type { Log } from "../../ports/log.ts";
import { reachableHosts } from "./addresses.ts";

export interface NodeNetworkOptions {
  /** First of four UDP ports; null: the same number as the grid's own port. */
  readonly peerPort: number | null;
  /** IPv4 address under which agents reach this machine over UDP; null: the first of those that join codes carry. */
  readonly peerAddress: string | null;
  readonly hasUdp: boolean;
  readonly hasLan: boolean;
}

export interface NodeNetwork {
  bootstrap(): readonly HostPort[];
  stop(): Promise<void>;
}

/**
 * A grid that only this machine reaches needs neither. Ports that somebody named and that cannot be had are a fault; those that were
 * only guessed leave hole punching out, and the log says so.
 */
export async function startNodeNetwork(
  options: NodeNetworkOptions,
  grid: {
    readonly gridId: string;
    readonly host: string;
    readonly port: number;
    readonly roster: Roster;
    readonly log: Log;
  },
): Promise<NodeNetwork> {
  const { host, port, roster, log, gridId } = grid;
  const isLocal = isLoopback(host) && options.peerAddress === null;
  const bootstrap = options.hasUdp && !isLocal ? await bootstrapNodes(options, grid) : null;
  if (bootstrap !== null) followRoster(roster, bootstrap);
  const announcement =
    options.hasLan && !isLoopback(host)
      ? await new MdnsDiscovery({
          onWarning: (what) => log.warn({ what }, "the local network cannot be told of this grid"),
        }).start({ gridId, publicKeyHex: null, role: "coordinator", port }, () => undefined)
      : null;
  return {
    bootstrap: () => bootstrap?.addresses ?? [],
    stop: async () => {
      await Promise.all([announcement?.stop(), bootstrap?.stop()]);
    },
  };
}

async function bootstrapNodes(
  { peerPort, peerAddress }: NodeNetworkOptions,
  { host, port, log }: { readonly host: string; readonly port: number; readonly log: Log },
): Promise<BootstrapNodes | null> {
  const publicHost = peerAddress ?? reachableHosts(host).find((name) => isIPv4(name)) ?? null;
  if (publicHost === null) {
    log.warn({ host }, "no hole punching: this machine has no IPv4 address; name one with --peer-address");
    return null;
  }
  try {
    const bindHost = isIPv4(host) && !isLoopback(host) ? host : "0.0.0.0";
    return await startBootstrapNodes({ publicHost, firstPort: peerPort ?? port, bindHost });
  } catch (thrown) {
    if (peerPort !== null || peerAddress !== null) throw thrown;
    log.warn({ cause: describeFault(thrown) }, "no hole punching: name other UDP ports with --peer-port");
    return null;
  }
}

/** Only nodes of this grid that are here are answered about. */
function followRoster(roster: Roster, bootstrap: BootstrapNodes): void {
  const nothing = () => undefined;
  const keyOf = new Map<string, string>();
  const admit = (nodeId: string) => {
    const view = roster.nodes().find((node) => node.nodeId === nodeId);
    if (view === undefined) return;
    keyOf.set(nodeId, view.publicKeyHex);
    bootstrap.admit(view.publicKeyHex);
  };
  roster.subscribe({
    onOnline: admit,
    onSuspect: nothing,
    onWithdrawn: nothing,
    onWork: nothing,
    onReplicas: nothing,
    onGone: (nodeId) => {
      const key = keyOf.get(nodeId);
      keyOf.delete(nodeId);
      if (key !== undefined) bootstrap.forget(key);
    },
  });
  for (const { nodeId, state } of roster.nodes()) if (state !== "offline") admit(nodeId);
}
