import type { ReferenceSpeed } from "../domain/hardware.ts";

/** The node's last measurement of its reference speed, kept in its home under what it was measured with. */
export interface SpeedRecord {
  /** Null when nothing was kept under this key, or what was kept cannot be read. */
  load(key: string): Promise<ReferenceSpeed | null>;
  /** Resolves also when it could not be kept: the next start measures again. */
  save(key: string, speed: ReferenceSpeed): Promise<void>;
}
