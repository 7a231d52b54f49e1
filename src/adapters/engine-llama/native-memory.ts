/** Memory outside the JavaScript heap, at an address that libllama may keep, seen through typed arrays without a copy. */
import koffi from "koffi";
import type { Pointer } from "./llama-ffi.ts";

export interface NativeBytes {
  readonly address: Pointer;
  readonly buffer: ArrayBuffer;
}

/** Never freed: what is allocated here lives as long as the process. */
export function allocateNative(bytes: number): NativeBytes {
  const address: Pointer = koffi.alloc("uint8", bytes);
  return { address, buffer: koffi.view(address, bytes) };
}

/** Rows of a float matrix at an address that libllama owns. One view per address: an address is seen again at every step. */
export class FloatRows {
  readonly #rowFloats: number;
  readonly #rowsMax: number;
  readonly #byAddress = new Map<Pointer, readonly Float32Array[]>();

  constructor(shape: { readonly rowFloats: number; readonly rowsMax: number }) {
    this.#rowFloats = shape.rowFloats;
    this.#rowsMax = shape.rowsMax;
  }

  at(address: Pointer): readonly Float32Array[] {
    const known = this.#byAddress.get(address);
    if (known !== undefined) return known;
    const all = koffi.view(address, this.#rowFloats * this.#rowsMax * Float32Array.BYTES_PER_ELEMENT);
    const rows = Array.from(
      { length: this.#rowsMax },
      (_, row) => new Float32Array(all, row * this.#rowFloats * Float32Array.BYTES_PER_ELEMENT, this.#rowFloats),
    );
    this.#byAddress.set(address, rows);
    return rows;
  }
}
