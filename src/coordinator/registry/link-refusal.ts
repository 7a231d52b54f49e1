/** Why an agent is not let in. The code is stable; the message is for the person at the agent's machine. */
export type LinkRefusalCode =
  | "protocol-version-unknown"
  | "hello-malformed"
  | "handshake-timeout"
  | "signature-wrong"
  | "join-token-missing"
  | "join-token-foreign"
  | "join-token-unknown"
  | "join-token-expired"
  | "join-token-exhausted"
  | "node-removed"
  | "node-kept-out"
  | "coordinator-busy"
  | "coordinator-fault";

export interface LinkRefusal {
  readonly code: LinkRefusalCode;
  readonly message: string;
  /** Null: never with the same identity, token and program. */
  readonly retryAfterMs: number | null;
}

export function refusal(code: LinkRefusalCode, message: string, retryAfterMs: number | null = null): LinkRefusal {
  return { code, message, retryAfterMs };
}
