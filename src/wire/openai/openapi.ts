/** The API's description, OpenAPI 3.1, made from the schemas that check requests. */
import { z } from "zod";
import { anthropicErrorSchema, messageEventSchema, messageSchema, tokenCountSchema } from "../anthropic/message.ts";
import { countTokensRequestSchema, messageRequestSchema } from "../anthropic/message-request.ts";
import { chatRequestSchema } from "./chat-request.ts";
import { completionRequestSchema } from "./completion-request.ts";
import { embeddingRequestSchema } from "./embedding-request.ts";
import { errorBodySchema } from "./error.ts";
import { quoteRequestSchema, quoteSchema } from "./quote.ts";
import {
  deletedResponseSchema,
  inputTokensSchema,
  responseEventSchema,
  responseItemListSchema,
  responseSchema,
} from "./response-object.ts";
import { inputTokensRequestSchema, responseRequestSchema } from "./response-request.ts";
import {
  chatChunkSchema,
  chatCompletionSchema,
  completionSchema,
  embeddingListSchema,
  modelListSchema,
  modelSchema,
} from "./responses.ts";

type Json = Readonly<Record<string, unknown>>;

const COMPONENTS = {
  ChatCompletionRequest: [chatRequestSchema, "input"],
  ChatCompletion: [chatCompletionSchema, "output"],
  ChatCompletionChunk: [chatChunkSchema, "output"],
  CompletionRequest: [completionRequestSchema, "input"],
  Completion: [completionSchema, "output"],
  EmbeddingRequest: [embeddingRequestSchema, "input"],
  EmbeddingList: [embeddingListSchema, "output"],
  ResponseRequest: [responseRequestSchema, "input"],
  Response: [responseSchema, "output"],
  ResponseEvent: [responseEventSchema, "output"],
  ResponseItemList: [responseItemListSchema, "output"],
  DeletedResponse: [deletedResponseSchema, "output"],
  InputTokensRequest: [inputTokensRequestSchema, "input"],
  InputTokens: [inputTokensSchema, "output"],
  MessageRequest: [messageRequestSchema, "input"],
  Message: [messageSchema, "output"],
  MessageEvent: [messageEventSchema, "output"],
  CountTokensRequest: [countTokensRequestSchema, "input"],
  TokenCount: [tokenCountSchema, "output"],
  AnthropicError: [anthropicErrorSchema, "output"],
  Model: [modelSchema, "output"],
  ModelList: [modelListSchema, "output"],
  QuoteRequest: [quoteRequestSchema, "input"],
  Quote: [quoteSchema, "output"],
  Error: [errorBodySchema, "output"],
} as const;

const reference = (name: keyof typeof COMPONENTS): Json => ({ $ref: `#/components/schemas/${name}` });
const json = (schema: Json): Json => ({ "application/json": { schema } });
const FAILURE: Json = { description: "What was wrong.", content: json(reference("Error")) };

export function openApiDocument(version: string): Json {
  const schemas = Object.fromEntries(
    Object.entries(COMPONENTS).map(([name, [schema, io]]) => {
      const { $schema: _, ...described } = z.toJSONSchema(schema, { target: "draft-2020-12", io });
      return [name, described];
    }),
  );
  return {
    openapi: "3.1.0",
    info: {
      title: "Fallow",
      version,
      description: "OpenAI-compatible inference on pooled idle GPUs.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    security: [{ key: [] }],
    paths: paths(),
    components: { schemas, securitySchemes: { key: { type: "http", scheme: "bearer" } } },
  };
}

function paths(): Json {
  const id = { name: "id", in: "path", required: true, schema: { type: "string" } };
  const number = (name: string) => ({ name, in: "query", schema: { type: "integer", minimum: 0 } });
  const word = (name: string) => ({ name, in: "query", schema: { type: "string" } });
  const object = json({ type: "object" });
  const text = { "text/plain": { schema: { type: "string" } } };
  const [chunk, completion] = [reference("ChatCompletionChunk"), reference("Completion")];
  return {
    "/v1/models": { get: operation("listModels", "Models that this key may use.", json(reference("ModelList"))) },
    "/v1/models/{id}": { get: operation("getModel", "One model.", json(reference("Model")), { parameters: [id] }) },
    "/v1/chat/completions": {
      post: operation(
        "createChatCompletion",
        "Answers a chat.",
        { ...json(reference("ChatCompletion")), ...events(chunk) },
        body("ChatCompletionRequest"),
      ),
    },
    "/v1/completions": {
      post: operation(
        "createCompletion",
        "Continues a text.",
        { ...json(completion), ...events(completion) },
        body("CompletionRequest"),
      ),
    },
    "/v1/embeddings": {
      post: operation(
        "createEmbeddings",
        "Vectors of texts.",
        json(reference("EmbeddingList")),
        body("EmbeddingRequest"),
      ),
    },
    ...responsePaths(id),
    ...messagePaths(),
    "/v1/grid/receipts": {
      get: operation("listReceipts", "Receipts of this tenant, newest first.", object, {
        parameters: [number("limit")],
      }),
    },
    "/v1/grid/receipts/{id}": {
      get: operation(
        "getReceipt",
        "A signed receipt with its proof of inclusion, by its id or the request's.",
        object,
        { parameters: [id] },
      ),
    },
    "/v1/grid/usage": {
      get: operation(
        "getUsage",
        "Usage by day, key, model, tier and provider, or as group_by says; as JSON or CSV.",
        { ...object, "text/csv": { schema: { type: "string" } } },
        { parameters: [number("from_ms"), number("to_ms"), word("group_by"), word("format")] },
      ),
    },
    "/v1/grid/quote": {
      post: operation(
        "createQuote",
        "What a request would cost, when it would start and where, without running it.",
        json(reference("Quote")),
        body("QuoteRequest"),
      ),
    },
    "/v1/grid/checkpoint": { get: operation("getCheckpoint", "The receipt log's signed head.", text) },
    "/health": { get: operation("getHealth", "Whether the coordinator runs.", object, { security: [] }) },
    "/ready": { get: operation("getReady", "Whether a model has a ready replica.", object, { security: [] }) },
    "/metrics": { get: operation("getMetrics", "Prometheus metrics.", text) },
    "/openapi.json": { get: operation("getOpenApi", "This document.", object, { security: [] }) },
  };
}

function responsePaths(id: Json): Json {
  const one = { parameters: [id] };
  const query = (name: string, schema: Json) => ({ name, in: "query", schema });
  const page = [
    query("limit", { type: "integer", minimum: 1, maximum: 100 }),
    query("order", { enum: ["asc", "desc"] }),
    query("after", { type: "string" }),
  ];
  return {
    "/v1/responses": {
      post: operation(
        "createResponse",
        "Answers, and keeps the answer to go on from it.",
        { ...json(reference("Response")), ...events(reference("ResponseEvent")) },
        body("ResponseRequest"),
      ),
    },
    "/v1/responses/input_tokens": {
      post: operation(
        "countInputTokens",
        "Tokens of a prompt, without running it.",
        json(reference("InputTokens")),
        body("InputTokensRequest"),
      ),
    },
    "/v1/responses/{id}": {
      get: operation("getResponse", "A kept answer.", json(reference("Response")), one),
      delete: operation("deleteResponse", "Forgets an answer.", json(reference("DeletedResponse")), one),
    },
    "/v1/responses/{id}/input_items": {
      get: operation("listInputItems", "What was asked.", json(reference("ResponseItemList")), {
        parameters: [id, ...page],
      }),
    },
  };
}

function messagePaths(): Json {
  const failure = { description: "What was wrong.", content: json(reference("AnthropicError")) };
  const theirs = (described: Json, content: Json) => ({
    ...described,
    responses: { "200": { description: described["summary"], content }, default: failure },
  });
  const message = { ...json(reference("Message")), ...events(reference("MessageEvent")) };
  const count = json(reference("TokenCount"));
  return {
    "/v1/messages": {
      post: theirs(operation("createMessage", "Answers as Anthropic's API.", message, body("MessageRequest")), message),
    },
    "/v1/messages/count_tokens": {
      post: theirs(
        operation("countTokens", "Tokens of a prompt, without running it.", count, body("CountTokensRequest")),
        count,
      ),
    },
  };
}

function events(schema: Json): Json {
  return { "text/event-stream": { schema } };
}

function body(name: keyof typeof COMPONENTS): Json {
  return { requestBody: { required: true, content: json(reference(name)) } };
}

function operation(operationId: string, summary: string, content: Json, more: Json = {}): Json {
  return { operationId, summary, ...more, responses: { "200": { description: summary, content }, default: FAILURE } };
}
