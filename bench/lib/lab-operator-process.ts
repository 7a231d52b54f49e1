/** Sends the requests that it reads, one JSON value a line, and prints each answer the same way, with the times of an event stream. */
import { createInterface } from "node:readline";
import { z } from "zod";

const requestSchema = z.object({
  id: z.number(),
  url: z.string(),
  method: z.string(),
  apiKey: z.string(),
  body: z.string().nullable(),
});

createInterface({ input: process.stdin }).on("line", (line) => {
  void send(requestSchema.parse(JSON.parse(line)));
});

async function send({ id, url, method, apiKey, body }: z.infer<typeof requestSchema>): Promise<void> {
  const startMs = performance.now();
  const headers = {
    authorization: `Bearer ${apiKey}`,
    ...(body === null ? {} : { "content-type": "application/json" }),
  };
  let firstTokenMs: number | null = null;
  let text = "";
  let status = 0;
  try {
    const response = await fetch(url, { method, headers, body });
    status = response.status;
    const decoder = new TextDecoder();
    for await (const piece of response.body ?? []) {
      text += decoder.decode(piece, { stream: true });
      if (firstTokenMs === null && /"(?:content|text)":"[^"]/.test(text)) firstTokenMs = performance.now() - startMs;
    }
  } catch (thrown) {
    text = thrown instanceof Error ? `${thrown.message} ${String(thrown.cause ?? "")}` : String(thrown);
  }
  const totalMs = performance.now() - startMs;
  process.stdout.write(`${JSON.stringify({ id, status, body: text, firstTokenMs, totalMs })}\n`);
}
