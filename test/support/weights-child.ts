/** An agent's weights cache in a process of its own, to be killed: argv is folder, URL and what is wanted as JSON. */
import { HttpWeightsCache } from "../../src/adapters/weights-http/http-weights-cache.ts";

const [folder = "", url = "", want = ""] = process.argv.slice(2);
const cache = new HttpWeightsCache({ folder, target: { url, certificateSha256: null } });
const path = await cache.ensure(JSON.parse(want), {
  signal: new AbortController().signal,
  onProgress: (doneBytes) => process.send?.({ doneBytes }),
});
process.send?.({ path });
process.disconnect();
