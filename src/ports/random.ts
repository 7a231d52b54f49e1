/** Randomness comes in through this port: the operating system's in production, a seeded one in the simulator. */
export interface Random {
  bytes(count: number): Uint8Array;
  /** Uniform in [0, 1). */
  fraction(): number;
}
