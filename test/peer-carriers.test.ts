/** The carriers of NATs and of the relay keep what every carrier keeps. */
import { expect } from "vitest";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { RelayCarrier } from "../src/adapters/peer-relay/relay-carrier.ts";
import { startBootstrapNodes } from "../src/adapters/peer-udp/bootstrap.ts";
import { openUdpCarrier } from "../src/adapters/peer-udp/udp-carrier.ts";
import { nodeId } from "../src/domain/ids.ts";
import { type CarrierEnds, peerCarrierContract } from "./support/peer-carrier-contract.ts";
import { startRelayGrid } from "./support/relay-grid.ts";
import { startRelayNode } from "./support/relay-node.ts";
import { freeUdpPorts } from "./support/udp-ports.ts";

const HERE = "127.0.0.1";
const until = async (isReached: () => boolean): Promise<void> => {
  await expect.poll(isReached, { interval: 2, timeout: 15_000 }).toBe(true);
};

peerCarrierContract("over UDP", async (): Promise<CarrierEnds> => {
  const bootstrap = await startBootstrapNodes({ publicHost: HERE, firstPort: await freeUdpPorts(4), bindHost: HERE });
  const open = async () => {
    const keyPair = new NodeCrypto().generateKeyPair();
    const keyHex = Buffer.from(keyPair.publicKey).toString("hex");
    bootstrap.admit(keyHex);
    const carrier = await openUdpCarrier({ keyPair, bootstrap: bootstrap.addresses, port: 0, bindHost: HERE });
    await carrier.listening;
    return { carrier, keyHex };
  };
  const [near, far] = [await open(), await open()];
  const target = { nodeId: nodeId(`node_${"1".repeat(32)}`), publicKeyHex: far.keyHex };
  return {
    near: near.carrier,
    far: far.carrier,
    nearKeyHex: near.keyHex,
    target: { ...target, endpoints: far.carrier.endpoints() },
    until,
    stop: () => bootstrap.stop(),
  };
});

peerCarrierContract("through the coordinator", async (): Promise<CarrierEnds> => {
  const grid = await startRelayGrid({ host: HERE, bindHost: HERE, port: 0, hasUdp: false, tlsFolder: null });
  const joinToken = await grid.joinToken(2);
  const near = await startRelayNode({ ...grid, name: "near", joinToken });
  const far = await startRelayNode({ ...grid, name: "far", joinToken });
  const carriers = {
    near: new RelayCarrier(near.keyPair, near.asks),
    far: new RelayCarrier(far.keyPair, far.asks),
  };
  return {
    ...carriers,
    nearKeyHex: near.publicKeyHex,
    target: { nodeId: far.nodeId, publicKeyHex: far.publicKeyHex, endpoints: carriers.far.endpoints() },
    until,
    stop: async () => {
      await near.stop();
      await far.stop();
      await grid.stop();
    },
  };
});
