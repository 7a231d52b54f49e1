/**
 * The grid's own bootstrap nodes: what hole punching needs in public, run by the coordinator.
 *
 * A node behind a NAT learns what the NAT does from at least three answers of different places: the same address and port each time
 * means that the NAT keeps ports, a new port each time that it draws them. Four UDP ports on one address serve (`BOOTSTRAP_NODES`; the library
 * wants four samples before it calls a NAT random). One address cannot tell a NAT that draws a port for each *address* from one that keeps
 * them: such a pair fails to punch and goes by the relay. A second coordinator's address would tell them apart.
 *
 * Only what a punch needs is answered, and only about nodes that the grid has let in; nobody can store anything else here.
 */
import { isIPv4 } from "node:net";
import type HyperDht from "hyperdht";
import type { DhtRequest } from "hyperdht";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { HostPort } from "../../domain/peer.ts";
import { keepToItself, loadHyperDht } from "./grid-dht.ts";
import { SourceGate } from "./source-gate.ts";

/** See above: four samples. */
export const BOOTSTRAP_NODES = 4;

export interface BootstrapOptions {
  /** IPv4 address under which agents reach this machine. */
  readonly publicHost: string;
  /** First of `BOOTSTRAP_NODES` consecutive UDP ports. */
  readonly firstPort: number;
  /** Where the ports are bound: all interfaces, unless a test binds loopback. */
  readonly bindHost: string;
}

export interface BootstrapNodes {
  /** What `welcome` tells the agents. */
  readonly addresses: readonly HostPort[];
  /** Answers about this node from now on. */
  admit(publicKeyHex: string): void;
  forget(publicKeyHex: string): void;
  /** May be called twice. */
  stop(): Promise<void>;
}

/** Records of announced nodes, of each bootstrap node; the library's default is 65,536. */
const RECORDS_MAX = 32_768;

/** hyperdht's `lib/constants.js`: handshake, hole punch, find, announce, unannounce. */
const SERVED_COMMANDS: readonly number[] = [0, 1, 2, 4, 5];

/** Rejects with a `FallowError`: `peer-address-wrong`, `peer-port-taken`, `peer-udp-unavailable`. */
export async function startBootstrapNodes(options: BootstrapOptions): Promise<BootstrapNodes> {
  const { publicHost, firstPort, bindHost } = options;
  if (!isIPv4(publicHost) || publicHost === "0.0.0.0") {
    throw new FallowError("peer-address-wrong", `${publicHost} is no IPv4 address that agents can reach: name one`, {
      data: { publicHost },
    });
  }
  const library = await loadHyperDht();
  const addresses = Array.from({ length: BOOTSTRAP_NODES }, (_, index) => ({
    host: publicHost,
    port: firstPort + index,
  }));
  const admitted = new Set<string>();
  const nodes: HyperDht[] = [];
  const stop = async () => {
    await Promise.all(nodes.splice(0).map((node) => node.destroy({ force: true })));
  };
  try {
    for (const { host, port } of addresses) {
      const node = library.bootstrapper(port, host, { bootstrap: [], host: bindHost, maxSize: RECORDS_MAX });
      nodes.push(node);
      keepToItself(node, addresses);
      serveOnly(node, admitted);
      await node.ready();
    }
  } catch (cause) {
    await stop();
    throw new FallowError(
      "peer-port-taken",
      `UDP ports ${firstPort} to ${firstPort + BOOTSTRAP_NODES - 1} cannot be opened on ${bindHost}: ${describeFault(cause)}`,
      { data: { firstPort, bindHost }, cause },
    );
  }
  const targetOf = (publicKeyHex: string) => library.hash(Buffer.from(publicKeyHex, "hex")).toString("hex");
  return {
    addresses,
    admit: (publicKeyHex) => void admitted.add(targetOf(publicKeyHex)),
    forget: (publicKeyHex) => void admitted.delete(targetOf(publicKeyHex)),
    stop,
  };
}

function serveOnly(node: HyperDht, admitted: ReadonlySet<string>): void {
  const serve = node.onrequest.bind(node);
  const gate = new SourceGate();
  node.onrequest = (request: DhtRequest) => {
    if (!gate.admits(request.from.host, performance.now())) return true; // dropped: an answer would be one more datagram
    const isServed =
      SERVED_COMMANDS.includes(request.command) &&
      request.target !== null &&
      admitted.has(request.target.toString("hex"));
    return isServed ? serve(request) : false;
  };
}
