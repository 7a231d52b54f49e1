/** What relaying may cost the coordinator: it is the last resort of pairs that have nothing else. */
export interface RelayOptions {
  /** In all: each holds two sockets and at most four buffers of 256 KiB. */
  readonly relaysMax: number;
  /** A node may have asked for so many; more than the connections that it needs to a few peers. */
  readonly askedPerNodeMax: number;
  /** Of any two nodes. */
  readonly perPairMax: number;
  /** In which a node is one of the ends, whoever asked. */
  readonly perNodeMax: number;
  /** Both ends have to be there by then. */
  readonly offerMsMax: number;
  /** Nothing went either way for so long; links send signs of life far more often. */
  readonly idleMsMax: number;
  readonly lifeMsMax: number;
  /** Of what one node sends: a model's activations fit, and bulk takes its time. */
  readonly bytesPerSecondOfNode: number;
  /** Of all together: most of a 300 Mbit/s line. */
  readonly bytesPerSecondInAll: number;
  /** Of what the connections move that a node asked for, in any 24 hours. */
  readonly bytesPerDayOfNode: number;
}

export const RELAY_OPTIONS: RelayOptions = {
  relaysMax: 256,
  askedPerNodeMax: 16,
  perPairMax: 8,
  perNodeMax: 64,
  offerMsMax: 10_000,
  idleMsMax: 60_000,
  lifeMsMax: 6 * 60 * 60_000,
  bytesPerSecondOfNode: 8 * 1024 * 1024,
  bytesPerSecondInAll: 32 * 1024 * 1024,
  bytesPerDayOfNode: 20 * 1024 * 1024 * 1024,
};
