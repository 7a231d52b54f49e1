/** The carriers that need nothing but this machine, held to the contract of all. */
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { openTcpCarrier } from "../src/adapters/peer-tcp/tcp-carrier.ts";
import { nodeId } from "../src/domain/ids.ts";
import { toHex } from "../src/market/hex.ts";
import { CALM_NETWORK, PacketNetwork } from "../src/sim/network/packet-network.ts";
import { SimPeers } from "../src/sim/network/sim-peers.ts";
import { Host } from "../src/sim/time/host.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { MemoryNet } from "./support/memory-carrier.ts";
import { peerCarrierContract } from "./support/peer-carrier-contract.ts";

const NODE = nodeId(`node_${"0".repeat(32)}`);
const UNTIL_MS_MAX = 20_000;

async function until(isReached: () => boolean): Promise<void> {
  const endMs = performance.now() + UNTIL_MS_MAX;
  while (!isReached()) {
    if (performance.now() > endMs) throw new Error("not reached");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

peerCarrierContract("tcp", async () => {
  const crypto = new NodeCrypto();
  const [nearKeys, farKeys] = [crypto.generateKeyPair(), crypto.generateKeyPair()];
  const near = await openTcpCarrier({ keyPair: nearKeys, host: "127.0.0.1", port: 0 });
  const far = await openTcpCarrier({ keyPair: farKeys, host: "127.0.0.1", port: 0 });
  return {
    near,
    far,
    nearKeyHex: toHex(nearKeys.publicKey),
    target: { nodeId: NODE, publicKeyHex: toHex(farKeys.publicKey), endpoints: far.endpoints() },
    until,
    stop: async () => undefined,
  };
});

peerCarrierContract("in memory", async () => {
  const net = new MemoryNet({ after: (delayMs, fire) => setTimeout(fire, delayMs), delayMs: () => 0 });
  const [nearKeyHex, farKeyHex] = ["01".repeat(32), "02".repeat(32)];
  const far = net.carrier("tcp", farKeyHex);
  return {
    near: net.carrier("tcp", nearKeyHex),
    far,
    nearKeyHex,
    target: { nodeId: NODE, publicKeyHex: farKeyHex, endpoints: far.endpoints() },
    until,
    stop: async () => undefined,
  };
});

for (const kind of ["tcp", "relay"] as const) {
  peerCarrierContract(`${kind} in the simulator`, async () => {
    const timeline = new Timeline();
    const network = new PacketNetwork({ timeline, random: new SeededRandom(kind), conditions: CALM_NETWORK });
    const tap = { onSent: () => undefined, onFrame: () => undefined, onClosed: () => undefined };
    const peers = new SimPeers({ network, coordinator: new Host("coordinator", timeline), tap });
    const [nearKeyHex, farKeyHex] = ["0c".repeat(32), "0d".repeat(32)];
    const carrierOf = (name: string, keyHex: string) => peers.carrier(kind, { host: new Host(name, timeline), keyHex });
    const far = carrierOf("node-1", farKeyHex);
    let isOver = false;
    const passing = (async () => {
      while (!isOver) await timeline.run(timeline.nowMs + 1, () => true);
    })();
    return {
      near: carrierOf("node-0", nearKeyHex),
      far,
      nearKeyHex,
      target: { nodeId: NODE, publicKeyHex: farKeyHex, endpoints: far.endpoints() },
      until,
      stop: async () => {
        isOver = true;
        await passing;
      },
    };
  });
}
