/** A node of a grid without work: its membership over a real link, and what its relay carrier needs of it. */
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { WebSocketDialer } from "../../src/adapters/link-websocket/websocket-dialer.ts";
import { AgentMembership } from "../../src/agent/membership/agent-membership.ts";
import { RelayAsks } from "../../src/agent/peering/relay-asks.ts";
import { type NodeId, nodeId } from "../../src/domain/ids.ts";
import type { KeyPair } from "../../src/ports/crypto.ts";
import type { AgentMessage, Welcome } from "../../src/wire/agent-link.ts";
import { CAPABILITIES, RecordedWork } from "./membership-grid.ts";
import { SILENT_LOG } from "./relay-grid.ts";

export interface RelayNode {
  readonly nodeId: NodeId;
  readonly keyPair: KeyPair;
  readonly publicKeyHex: string;
  readonly asks: RelayAsks;
  /** Of its first link. */
  readonly welcome: Welcome;
  /** Over its link, as if its agent said it. */
  say(message: AgentMessage): void;
  stop(): Promise<void>;
}

/** Resolves when the grid has let it in. */
export async function startRelayNode(join: {
  readonly name: string;
  readonly url: string;
  readonly certificateSha256: string | null;
  readonly gridId: string;
  readonly joinToken: string;
}): Promise<RelayNode> {
  const ports = { clock: new SystemClock(), random: new SystemRandom(), crypto: new NodeCrypto() };
  const keyPair = ports.crypto.generateKeyPair();
  const target = { url: join.url, certificateSha256: join.certificateSha256 };
  const asks = new RelayAsks(target, ports);
  const online = Promise.withResolvers<NodeId>();
  const welcomed = Promise.withResolvers<Welcome>();
  let say: (message: AgentMessage) => void = () => undefined;
  const membership = new AgentMembership(
    {
      name: join.name,
      target,
      gridId: join.gridId,
      joinToken: join.joinToken,
      version: "0.0.0",
      onStatus: (status) => {
        if (status.kind === "online") online.resolve(nodeId(status.nodeId));
        if (status.kind === "refused") online.reject(new Error(status.message));
      },
    },
    {
      ...ports,
      dialer: new WebSocketDialer(),
      log: SILENT_LOG,
      keyPair,
      capabilities: () => CAPABILITIES,
      work: new RecordedWork(),
      peers: {
        onLineUp: (line) => {
          asks.onLineUp(line);
          welcomed.resolve(line.welcome);
          say = (message) => line.send(message);
        },
        onLineDown: () => asks.onLineDown(),
        onPeerOrder: (order) => {
          if (order.type === "relay.offer" || order.type === "relay.refused") asks.onOrder(order);
        },
      },
    },
  );
  membership.start();
  return {
    nodeId: await online.promise,
    keyPair,
    publicKeyHex: Buffer.from(keyPair.publicKey).toString("hex"),
    asks,
    welcome: await welcomed.promise,
    say: (message) => say(message),
    stop: async () => {
      await membership.stop({ drainMs: 0 });
    },
  };
}
