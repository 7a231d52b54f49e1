/**
 * Memory for the bodies of all requests together. One body has a bound of its own; without this one a crowd of them, sent
 * slowly and at once, would fill the process before any was looked at.
 */
export class BodyBudget {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** A body that is about to be read. */
  open(): OpenBody {
    let own = 0;
    return {
      take: (bytes) => {
        if (this.#bytes + bytes > this.#bytesMax) return false;
        this.#bytes += bytes;
        own += bytes;
        return true;
      },
      close: () => {
        this.#bytes -= own;
        own = 0;
      },
    };
  }
}

export interface OpenBody {
  /** False when there is no room for so many bytes more. */
  take(bytes: number): boolean;
  /** Nothing of the body is needed any more. May be called twice. */
  close(): void;
}
