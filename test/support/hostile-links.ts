/** A network whose links keep some frames of chains to themselves, and number the others so that nobody misses them: what a stage could do on purpose. */
import type { PeerLink, PeerNetwork } from "../../src/ports/peer-link.ts";
import { decodeStageFrame, encodeStageFrame } from "../../src/wire/stage-frame-codec.ts";
import type { StageFrame } from "../../src/wire/stage-frames.ts";

export function hostileLinks(network: PeerNetwork, mayGo: (frame: StageFrame) => boolean): PeerNetwork {
  const known = new WeakMap<PeerLink, PeerLink>();
  const wrapped = (link: PeerLink): PeerLink => {
    const before = known.get(link);
    if (before !== undefined) return before;
    /** Kept back on each channel in its epoch. */
    const kept = new Map<string, number>();
    const hostile: PeerLink = {
      peerKeyHex: link.peerKeyHex,
      closed: link.closed,
      carrier: () => link.carrier(),
      quality: () => link.quality(),
      present: (credential, signal) => link.present(credential, signal),
      fetch: (request, options) => link.fetch(request, options),
      close: (reason) => link.close(reason),
      send: (message) => {
        const decoded = decodeStageFrame(message);
        if (!decoded.ok) return link.send(message);
        const { frame } = decoded;
        const name = `${frame.channel} ${frame.chainEpoch}`;
        const count = kept.get(name) ?? 0;
        if (mayGo(frame)) {
          return link.send(count === 0 ? message : encodeStageFrame({ ...frame, frame: frame.frame - count }));
        }
        kept.set(name, count + 1);
        return Promise.resolve();
      },
    };
    known.set(link, hostile);
    return hostile;
  };
  return {
    connect: async (target, credential, signal) => wrapped(await network.connect(target, credential, signal)),
    open: (peerKeyHex) => {
      const link = network.open(peerKeyHex);
      return link === null ? null : wrapped(link);
    },
    serve: (server) =>
      network.serve({
        admit: (credential, peerKeyHex) => server.admit(credential, peerKeyHex),
        onFetch: (request, peerKeyHex) => server.onFetch(request, peerKeyHex),
        onMessage: (message, link) => server.onMessage(message, wrapped(link)),
      }),
    qualities: () => network.qualities(),
    close: () => network.close(),
  };
}
