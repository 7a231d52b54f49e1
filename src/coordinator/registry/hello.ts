/** Reads and checks the first message of an agent. Pure but for the signature check, which is the crypto port's. */
import type { NodeId } from "../../domain/ids.ts";
import { nodeIdOf } from "../../domain/node-id.ts";
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import { fromHex } from "../../market/hex.ts";
import type { Crypto } from "../../ports/crypto.ts";
import { LINK_UNPROVED_BYTES_MAX } from "../../ports/link.ts";
import { type Hello, helloSchema, LINK_PROTOCOL_VERSIONS, linkProofText } from "../../wire/agent-link.ts";
import { parseJson, whyNot } from "../../wire/json-frame.ts";
import { type LinkRefusal, refusal } from "./link-refusal.ts";

/** A frame that is a `hello` of a version spoken here. An old agent's hello may differ in every field but its version. */
export function readHello(frame: string): Outcome<Hello, LinkRefusal> {
  if (frame.length > LINK_UNPROVED_BYTES_MAX) {
    return no(
      refusal(
        "hello-malformed",
        `the first message has ${frame.length} characters; at most ${LINK_UNPROVED_BYTES_MAX} are read`,
      ),
    );
  }
  const value = parseJson(frame);
  const version = versionOf(value);
  if (version === null) {
    return no(refusal("hello-malformed", "the first message must be a `hello` with a protocol version"));
  }
  if (!LINK_PROTOCOL_VERSIONS.includes(version)) {
    const spoken = LINK_PROTOCOL_VERSIONS.join(", ");
    const who = version > Math.max(...LINK_PROTOCOL_VERSIONS) ? "coordinator" : "agent";
    return no(
      refusal(
        "protocol-version-unknown",
        `the agent speaks version ${version} of the link protocol, this coordinator speaks ${spoken}: update the ${who}`,
      ),
    );
  }
  const parsed = helloSchema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  return no(
    refusal("hello-malformed", `the hello does not fit version ${version} of the protocol: ${whyNot(parsed.error)}`),
  );
}

/** The node's id when it holds the key that it claims and signed for this very connection. */
export function proveHello(
  hello: Hello,
  challenge: { gridId: string; nonce: string; channelBinding: string },
  crypto: Crypto,
): Outcome<NodeId, LinkRefusal> {
  const publicKey = fromHex(hello.publicKey);
  const signature = fromHex(hello.signature);
  const message = new TextEncoder().encode(linkProofText({ ...challenge, publicKey: hello.publicKey }));
  if (publicKey === null || signature === null || !crypto.verify({ publicKey, message, signature })) {
    return no(
      refusal(
        "signature-wrong",
        "the signature does not prove the node's key for this connection: the key file is damaged, or something sits between agent and coordinator",
      ),
    );
  }
  return ok(nodeIdOf(crypto.sha256(publicKey)));
}

function versionOf(value: unknown): number | null {
  if (typeof value !== "object" || value === null || !("type" in value) || value.type !== "hello") return null;
  return "protocolVersion" in value && Number.isInteger(value.protocolVersion) ? Number(value.protocolVersion) : null;
}
