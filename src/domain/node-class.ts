/** What kind of machine a node is, in one word that fits a header: `cpu`, `nvidia-h200`, `2x-nvidia-l4`, `attached-vllm`. */
import type { NodeCapabilities } from "./hardware.ts";

/** Longer names of devices are cut: they end in marketing. */
const NAME_CHARS_MAX = 48;

export function nodeClassOf({ devices, attached }: Pick<NodeCapabilities, "devices" | "attached">): string {
  if (attached !== undefined) return `attached-${attached.kind}`;
  const gpus = devices.filter(({ kind }) => kind === "gpu");
  const [largest] = [...gpus].sort((a, b) => b.memoryBytes - a.memoryBytes || (a.deviceId < b.deviceId ? -1 : 1));
  if (largest === undefined) return "cpu";
  const name = largest.name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, NAME_CHARS_MAX);
  const alike = gpus.filter((gpu) => gpu.name === largest.name).length;
  return `${alike > 1 ? `${alike}x-` : ""}${name || "gpu"}`;
}
