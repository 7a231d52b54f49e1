/**
 * The one place that opens a hyperdht node, so that a grid's nodes never speak to another network than their own.
 *
 * Left alone, the library joins a public network when it is given no bootstrap nodes, and learns further nodes from every answer: one
 * node that knows the public network would merge the two. Here the list is required, holds plain addresses only (the library would look up
 * names in a form of its own), and every node that is not on the list is kept out of the routing table and never visited.
 *
 * It does not stop a peer that is punched to from naming an address that is not its own: a few datagrams of one byte go there.
 */
import { isIPv4 } from "node:net";
import type HyperDht from "hyperdht";
import type { DhtAddress, DhtOptions } from "hyperdht";
import { assert } from "../../domain/assert.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { HostPort } from "../../domain/peer.ts";

type Library = typeof HyperDht;

/** Loaded on need: a machine without a native build of it has the other carriers. Rejects: `peer-udp-unavailable`. */
export async function loadHyperDht(): Promise<Library> {
  try {
    return (await import("hyperdht")).default;
  } catch (cause) {
    throw new FallowError("peer-udp-unavailable", `hole punching does not work here: ${describeFault(cause)}`, {
      cause,
    });
  }
}

/** A coordinator tells of at most as many (`wire/agent-link.ts`). */
const BOOTSTRAP_MAX = 8;

/** Throws `peer-bootstrap-missing` or `peer-bootstrap-wrong`. */
export function checkedBootstrap(nodes: readonly HostPort[] | null | undefined): readonly HostPort[] {
  if (nodes === null || nodes === undefined || nodes.length === 0) {
    throw new FallowError(
      "peer-bootstrap-missing",
      "hole punching needs the grid's own bootstrap nodes, 1 to 8 of them: without any, the library would join a public network",
    );
  }
  const wrong = nodes.find(({ host, port }) => !isIPv4(host) || host === "0.0.0.0" || !(port > 0 && port < 65_536));
  if (wrong !== undefined || nodes.length > BOOTSTRAP_MAX) {
    throw new FallowError(
      "peer-bootstrap-wrong",
      wrong === undefined
        ? `${nodes.length} bootstrap nodes were given, at most ${BOOTSTRAP_MAX} are used`
        : `the bootstrap node ${wrong.host}:${wrong.port} is no IPv4 address with a port`,
    );
  }
  return nodes.map(({ host, port }) => ({ host, port }));
}

/** A node of an agent. */
export function openGridDht(library: Library, options: DhtOptions): HyperDht {
  const bootstrap = checkedBootstrap(options.bootstrap);
  const dht = new library({ ...options, bootstrap });
  assert(dht.bootstrapNodes.length === bootstrap.length, "the library takes the bootstrap nodes that it is given");
  keepToItself(dht, bootstrap);
  return dht;
}

/** Only these nodes are ever learned or asked. */
export function keepToItself(dht: HyperDht, nodes: readonly HostPort[]): void {
  const known = new Set(nodes.map(addressText));
  dht._filterNode = (node) => known.has(addressText(node));
}

function addressText({ host, port }: DhtAddress): string {
  return `${host}:${port}`;
}
