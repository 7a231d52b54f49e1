/**
 * The only globals that pure rooms get beside the language itself. Both are pure functions of their input, so they
 * cost a room none of its determinism; everything else that the platform offers stays out (see `types: []`).
 */
declare class TextEncoder {
  readonly encoding: string;
  encode(input?: string): Uint8Array<ArrayBuffer>;
  encodeInto(source: string, destination: Uint8Array): { read: number; written: number };
}

declare class TextDecoder {
  constructor(label?: string, options?: { readonly fatal?: boolean; readonly ignoreBOM?: boolean });
  readonly encoding: string;
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  decode(input?: ArrayBuffer | ArrayBufferView | null, options?: { readonly stream?: boolean }): string;
}
