/** The model that ships with the program, beside `src/` in a clone and beside `dist/` when installed. */
import { fileURLToPath } from "node:url";

export const BUNDLED_MODEL = {
  id: "tiny",
  path: fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url)),
} as const;
