/** Serves one file on all addresses of its host, whoever asks for what: the plainest download to measure others against. argv is the file. */
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { pipeline } from "node:stream";

const [path = ""] = process.argv.slice(2);
const READ_BYTES = 262_144;

const server = createServer((_request, response) => {
  response.writeHead(200, { "content-length": statSync(path).size, "content-type": "application/octet-stream" });
  // A client that leaves in the middle ends both.
  pipeline(createReadStream(path, { highWaterMark: READ_BYTES }), response, () => undefined);
});
server.listen(0, "0.0.0.0", () => {
  const address = server.address();
  console.log(JSON.stringify({ port: typeof address === "object" ? address?.port : null }));
});
