import { expect, test } from "vitest";
import { gridName } from "./probe-server.ts";

test("a server's name of a model becomes one that the grid can have", () => {
  expect(gridName("/models/llama-3-8b-Q4_K_M.gguf")).toBe("llama-3-8b-Q4_K_M");
  expect(gridName("C:\\models\\tiny.gguf")).toBe("tiny");
  expect(gridName("llama3:latest")).toBe("llama3");
  expect(gridName("meta-llama/Llama-3.1-8B-Instruct")).toBe("meta-llama/Llama-3.1-8B-Instruct");
});
