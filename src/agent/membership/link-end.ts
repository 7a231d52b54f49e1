/** How a link to the coordinator ended, and what that means: try again, or never with the same key, token and program. */
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import { LINK_CLOSE } from "../../ports/link.ts";
import { type Challenge, coordinatorMessageSchema, LINK_PROTOCOL_VERSIONS } from "../../wire/agent-link.ts";

export type LinkEnd =
  | { readonly kind: "lost"; readonly cause: string; readonly retryAfterMs: number }
  | { readonly kind: "refused"; readonly code: string; readonly message: string };

export function endOfClose(code: number, reason: string): LinkEnd {
  switch (code) {
    case LINK_CLOSE.refused:
      return { kind: "refused", code: reason === "" ? "refused" : reason, message: "the coordinator refused the node" };
    case LINK_CLOSE.removed:
      return { kind: "refused", code: "node-removed", message: "the grid's operator removed the node" };
    case LINK_CLOSE.replaced:
      return {
        kind: "refused",
        code: "identity-in-use",
        message:
          "another agent joined with the same key and took this one's place: stop one of them, or give one a home of its own",
      };
    default:
      return { kind: "lost", cause: `the link closed (${code}${reason === "" ? "" : `: ${reason}`})`, retryAfterMs: 0 };
  }
}

/**
 * The first message of a coordinator: a challenge, or a refusal because it has no room. Null when it is neither. A coordinator
 * of another version is told apart even when its challenge differs in everything but the versions.
 */
export function readChallenge(value: unknown): Outcome<Challenge | null, LinkEnd> {
  const versions = versionsOf(value);
  if (versions !== null && !versions.some((version) => LINK_PROTOCOL_VERSIONS.includes(version))) {
    const spoken = LINK_PROTOCOL_VERSIONS.join(", ");
    const who = Math.max(...versions) > Math.max(...LINK_PROTOCOL_VERSIONS) ? "this agent" : "the coordinator";
    const message = `the coordinator speaks versions ${versions.join(", ")} of the link protocol, this agent speaks ${spoken}: update ${who}`;
    return no({ kind: "refused", code: "protocol-version-unknown", message });
  }
  const parsed = coordinatorMessageSchema.safeParse(value);
  if (!parsed.success) return ok(null);
  if (parsed.data.type === "challenge") return ok(parsed.data);
  if (parsed.data.type !== "refused") return ok(null);
  const { code, message, canRetry, retryAfterMs } = parsed.data;
  return no(
    canRetry ? { kind: "lost", cause: message, retryAfterMs: retryAfterMs ?? 0 } : { kind: "refused", code, message },
  );
}

const VERSIONS_READ_MAX = 16;

function versionsOf(value: unknown): readonly number[] | null {
  if (typeof value !== "object" || value === null || !("type" in value) || value.type !== "challenge") return null;
  if (!("protocolVersions" in value) || !Array.isArray(value.protocolVersions)) return null;
  const versions = value.protocolVersions.slice(0, VERSIONS_READ_MAX).filter((version) => Number.isInteger(version));
  return versions.length === 0 ? null : versions;
}
