/** How many links may be open whose other end has not yet proved who it is, in all and from one address. */
import { LINK_UNPROVED_BYTES_MAX } from "../../ports/link.ts";

/** With what each may send, strangers hold at most 16 MiB. */
export const STRANGERS_MAX = 256;
/** A handshake takes two round trips, so a house of 1,000 machines behind one address is let in within seconds. */
export const STRANGERS_PER_ADDRESS_MAX = 32;
export const STRANGERS_BYTES_MAX = STRANGERS_MAX * LINK_UNPROVED_BYTES_MAX;

export class Strangers {
  readonly #byAddress = new Map<string, number>();
  #count = 0;

  /** False when there are too many; else `leave` must follow once. */
  enter(remote: string): boolean {
    const address = addressOf(remote);
    const here = this.#byAddress.get(address) ?? 0;
    if (this.#count >= STRANGERS_MAX || here >= STRANGERS_PER_ADDRESS_MAX) return false;
    this.#byAddress.set(address, here + 1);
    this.#count += 1;
    return true;
  }

  leave(remote: string): void {
    const address = addressOf(remote);
    const here = this.#byAddress.get(address) ?? 0;
    if (here <= 1) this.#byAddress.delete(address);
    else this.#byAddress.set(address, here - 1);
    this.#count -= 1;
  }
}

/** The address without its port, which is new for each connection. */
function addressOf(remote: string): string {
  return remote.replace(/:\d+$/, "");
}
