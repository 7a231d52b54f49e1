/** The carriers that need nothing but this machine, held to the contract of all. */
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { openTcpCarrier } from "../src/adapters/peer-tcp/tcp-carrier.ts";
import { nodeId } from "../src/domain/ids.ts";
import { toHex } from "../src/market/hex.ts";
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
