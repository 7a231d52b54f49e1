/** Serves bytes that begin as a GGUF does, by ranges, from memory, in a process of its own. argv is how many; prints its port. */
import { randomFillSync } from "node:crypto";
import { createServer } from "node:http";

const BLOCK_BYTES = 1024 * 1024;
const MAGIC = Buffer.from("GGUF");
const fileBytes = Number(process.argv[2]);
const block = randomFillSync(Buffer.alloc(BLOCK_BYTES));

const server = createServer((request, response) => {
  const [, first = "0", last = ""] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const end = last === "" ? fileBytes : Math.min(fileBytes, Number(last) + 1);
  let at = Number(first);
  response.writeHead(request.headers.range === undefined ? 200 : 206, {
    "content-length": end - at,
    "content-range": `bytes ${at}-${end - 1}/${fileBytes}`,
    "content-type": "application/octet-stream",
    etag: '"one"',
  });
  const send = () => {
    while (at < end) {
      const from = at % BLOCK_BYTES;
      const part = at === 0 ? MAGIC : block.subarray(from, Math.min(BLOCK_BYTES, from + end - at));
      at += Math.min(part.length, end - at);
      if (!response.write(part)) {
        response.once("drain", send);
        return;
      }
    }
    response.end();
  };
  send();
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  console.log(typeof address === "object" ? address?.port : "");
});
