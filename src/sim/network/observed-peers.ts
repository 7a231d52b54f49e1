/** Tells what stages say to each other, in words that a person can follow in a trace; the network itself is the real one. */
import type { PeerNetwork } from "../../ports/peer-link.ts";
import { decodeStageFrame } from "../../wire/stage-frame-codec.ts";
import type { StageFrame } from "../../wire/stage-frames.ts";

export function observedPeers(inner: PeerNetwork, tell: (from: string, what: string) => void): PeerNetwork {
  return {
    connect: (target, credential, signal) => inner.connect(target, credential, signal),
    open: (peerKeyHex) => inner.open(peerKeyHex),
    serve: (handlers) =>
      inner.serve({
        admit: (credential, peerKeyHex) => handlers.admit(credential, peerKeyHex),
        onFetch: (request, peerKeyHex) => handlers.onFetch(request, peerKeyHex),
        onMessage: (message, link) => {
          const decoded = decodeStageFrame(message);
          const isPulse = decoded.ok && decoded.frame.type === "pulse";
          if (!isPulse) tell(link.peerKeyHex, decoded.ok ? describe(decoded.frame) : decoded.message);
          handlers.onMessage(message, link);
        },
      }),
    qualities: () => inner.qualities(),
    close: () => inner.close(),
  };
}

function describe(frame: StageFrame): string {
  const { channel, chainEpoch, frame: number, ...said } = frame;
  const told = said.type === "activations" ? { ...said, data: said.data.length } : said;
  return `channel ${channel.toString(16)} epoch ${chainEpoch} frame ${number}: ${JSON.stringify(told)}`;
}
