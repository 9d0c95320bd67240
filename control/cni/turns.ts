/** Whose turn it is: what concerns one endpoint goes one after another, and a collection goes alone. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();
  #alone: Promise<unknown> = Promise.resolve();

  /** Work on an endpoint, after what is under way for it. */
  run<T>(endpoint: string, work: () => Promise<T>): Promise<T> {
    const turn = after([this.#last.get(endpoint), this.#alone], work);
    this.#last.set(endpoint, turn);
    const forget = () => {
      if (this.#last.get(endpoint) === turn) this.#last.delete(endpoint);
    };
    turn.then(forget, forget);
    return turn;
  }

  /** Work on all of them: after all that is under way, and before all that comes. */
  runAlone<T>(work: () => Promise<T>): Promise<T> {
    const turn = after([...this.#last.values(), this.#alone], work);
    this.#alone = turn.catch(() => undefined);
    return turn;
  }
}

async function after<T>(
  before: readonly (Promise<unknown> | undefined)[],
  work: () => Promise<T>,
): Promise<T> {
  await Promise.allSettled(before);
  return work();
}
