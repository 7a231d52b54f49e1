/**
 * Plays streaming clients where it is started, with the stock OpenAI client: reads an order as a line of JSON, prints `{id, stream, count}` each time
 * that a stream has `tellEvery` tokens more, and in the end `{id, streams}`.
 */
import { createInterface } from "node:readline";
import { z } from "zod";
import { readStreams } from "../../test/support/chain-streams.ts";

const orderSchema = z.object({
  id: z.number(),
  apiUrl: z.string(),
  apiKey: z.string(),
  tellEvery: z.number(),
  bodies: z.array(z.looseObject({ model: z.string(), prompt: z.string() })),
});

createInterface({ input: process.stdin }).on("line", (line) => {
  void play(orderSchema.parse(JSON.parse(line)));
});

async function play({ id, bodies, tellEvery, ...target }: z.infer<typeof orderSchema>): Promise<void> {
  const told = bodies.map(() => 0);
  const streams = await readStreams(target, bodies, (stream, count) => {
    if (count < (told[stream] ?? 0) + tellEvery) return;
    told[stream] = count;
    process.stdout.write(`${JSON.stringify({ id, stream, count })}\n`);
  });
  process.stdout.write(`${JSON.stringify({ id, streams })}\n`);
}
