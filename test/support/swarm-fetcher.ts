/**
 * An agent's weights in a process of its own, to be killed: argv is the coordinator's URL, the grid's id, a join token or the empty text, the
 * store's folder, the node's seed as hex and what is wanted as JSON. Tells its parent how many bytes are kept, and the path.
 */
import { DiskChunkStore } from "../../src/adapters/chunk-store-disk/disk-chunk-store.ts";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { WebSocketDialer } from "../../src/adapters/link-websocket/websocket-dialer.ts";
import { openTcpCarrier } from "../../src/adapters/peer-tcp/tcp-carrier.ts";
import { HttpWeightsSource } from "../../src/adapters/weights-http/http-weights-source.ts";
import { WeightsSwarm } from "../../src/agent/cache/swarm/weights-swarm.ts";
import { AgentMembership } from "../../src/agent/membership/agent-membership.ts";
import { PeerDuties } from "../../src/agent/peer-duties.ts";
import { openPeerNetwork } from "../../src/agent/peering/peer-network.ts";
import { WayNews } from "../../src/agent/peering/way-news.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import { CAPABILITIES, RecordedWork } from "./membership-grid.ts";

const [url = "", gridId = "", token = "", folder = "", seedHex = "", want = "{}"] = process.argv.slice(2);
const target = { url, certificateSha256: null };
const [clock, random, crypto] = [new SystemClock(), new SystemRandom(), new NodeCrypto()];
const log = simLog(() => undefined);
const keyPair = crypto.keyPairFrom(Buffer.from(seedHex, "hex"));
const tcp = await openTcpCarrier({ keyPair, host: "127.0.0.1", port: 0 });
const network = openPeerNetwork({ clock, random, crypto, log, carriers: [tcp] });
const source = new HttpWeightsSource({ target });
const store = new DiskChunkStore({ folder });
const weights = new WeightsSwarm({ clock, random, crypto, log, store, source, network }, { keyPair });
const news = new WayNews({ clock, crypto, network, endpoints: () => tcp.endpoints() });
const duties = new PeerDuties({ weights, relay: null, news });
const online = Promise.withResolvers<void>();
const membership = new AgentMembership(
  {
    name: "killed",
    target,
    gridId,
    joinToken: token === "" ? null : token,
    version: "0.0.0-test",
    onStatus: ({ kind }) => {
      if (kind === "online") online.resolve();
    },
  },
  {
    dialer: new WebSocketDialer(),
    clock,
    crypto,
    random,
    log,
    keyPair,
    capabilities: () => CAPABILITIES,
    work: new RecordedWork(),
    peers: duties,
  },
);
membership.start();
await online.promise;
process.send?.({ nodeId: membership.nodeId });
// The order comes on the same line, so it is there before the parent says so.
process.once("message", () => void fetch());

async function fetch(): Promise<void> {
  const path = await weights.ensure(JSON.parse(want), {
    signal: new AbortController().signal,
    onProgress: (doneBytes) => process.send?.({ doneBytes }),
  });
  process.send?.({ path });
}
