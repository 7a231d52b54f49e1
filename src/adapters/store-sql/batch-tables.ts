/** The tables of files and batches as Kysely sees them. */
export interface BatchTables {
  readonly files: FileTable;
  readonly batches: BatchTable;
  readonly batch_chunks: BatchChunkTable;
  readonly batch_results: BatchResultTable;
  readonly batch_tries: { readonly batch_id: string; readonly line: number; readonly tries: number };
}

export interface FileTable {
  readonly file_id: string;
  readonly tenant_id: string;
  readonly purpose: string;
  readonly filename: string;
  readonly bytes: number;
  readonly created_at_ms: number;
  readonly expires_at_ms: number | null;
}

export interface BatchTable {
  readonly batch_id: string;
  readonly tenant_id: string;
  /** As in the record; here for the index and the compare-and-swap. */
  readonly status: string;
  readonly record_json: string;
  readonly line_count: number;
  readonly completed: number;
  readonly failed: number;
  readonly prompt_tokens: number;
  readonly output_tokens: number;
}

export interface BatchChunkTable {
  readonly batch_id: string;
  readonly chunk: number;
  readonly first_line: number;
  readonly line_count: number;
  readonly offset_bytes: number;
  readonly length_bytes: number;
  /** Lines that have results. */
  readonly done_count: number;
  readonly epoch: number;
  readonly barren_claims: number;
  readonly holder: string | null;
  readonly ends_at_ms: number;
}

export interface BatchResultTable {
  readonly batch_id: string;
  readonly line: number;
  readonly is_ok: number;
  readonly line_json: string;
}
