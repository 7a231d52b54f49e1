/**
 * Plans somewhere else than in the turn that asks: in a thread of its own, or at once where that is as good. What crosses is plain
 * data and typed arrays; the answer depends on the question alone. The scheduler room says what question and plan are.
 */
export interface Planner<Question, Plan> {
  /** Takes over the question's buffers: whoever asks does not use them again. Rejects with `planner-failed`; the next call may work. */
  plan(question: Question): Promise<Plan>;
  /** Ends the thread, if there is one; what is under way is rejected. May be called twice. */
  stop(): Promise<void>;
}
