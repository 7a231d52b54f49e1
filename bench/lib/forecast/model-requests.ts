/** The model-request trace of `../shared/traces` (GenTD26; cited in docs/forecast.md, not part of this repository). */
import { existsSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const FILE = new URL("../../../../shared/traces/alibaba-genai-2026/lora_request_trace.csv.gz", import.meta.url);

export interface ModelRequest {
  readonly atMs: number;
  readonly modelId: string;
  readonly tenant: string;
}

/** Null when the trace is not on this machine. Requests that name a base model, by time and then by model: 14,164 of them. */
export function readModelRequests(): readonly ModelRequest[] | null {
  if (!existsSync(FILE)) return null;
  const [head = "", ...lines] = gunzipSync(readFileSync(FILE)).toString("utf8").trim().split("\n");
  const columns = head.split(",");
  const at = {
    time: columns.indexOf("gmt_create"),
    tenant: columns.indexOf("groupId"),
    model: columns.indexOf("checkpoint_model_version_id"),
  };
  return lines
    .map((line) => line.split(","))
    .map((cells) => ({
      atMs: Date.parse(`${cells[at.time]?.replace(" ", "T")}Z`),
      modelId: cells[at.model] ?? "",
      tenant: cells[at.tenant] ?? "",
    }))
    .filter(({ modelId }) => modelId !== "")
    .sort((a, b) => a.atMs - b.atMs || (a.modelId < b.modelId ? -1 : 1));
}
