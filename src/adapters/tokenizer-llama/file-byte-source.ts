/** A file as a `ByteSource`. Close it when done: it holds a descriptor. */
import { open } from "node:fs/promises";
import type { ByteSource } from "../../weights/byte-source.ts";

export interface FileByteSource extends ByteSource {
  close(): Promise<void>;
}

export async function openFileByteSource(path: string): Promise<FileByteSource> {
  const file = await open(path, "r");
  const { size } = await file.stat();
  return {
    sizeBytes: size,
    read: async (offset, length) => {
      const bytes = new Uint8Array(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await file.read(bytes, filled, length - filled, offset + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return bytes.subarray(0, filled);
    },
    close: () => file.close(),
  };
}
